"""What all stages of values have in common: an example's numbers are its own, however computed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from train.augment import (
    autocontrast,
    brightness,
    chain,
    channel_noise,
    colour_jitter,
    contrast,
    cutmix,
    cutout,
    equalise,
    gamma,
    gaussian_blur,
    gaussian_noise,
    grayscale,
    hue,
    invert,
    maybe,
    mixup,
    posterise,
    random_erasing,
    rotation,
    saturation,
    sharpness,
    solarise,
    trivial_augment_wide,
)
from train.augment.once import once
from train.mesh import make_mesh, replicated, shard_batch

SIZE, HEIGHT, WIDTH = 8, 18, 16
STAGES = {
    "autocontrast": autocontrast(),
    "brightness": brightness(0.4),
    "channel_noise": channel_noise(0.1, 5),
    "colour_jitter": colour_jitter(0.4, 0.4, 0.4, 0.1),
    "contrast": contrast(0.4),
    "cutout": cutout(6, fill=10),
    "equalise": equalise(),
    "gamma": gamma(0.5, 2),
    "gaussian_blur": gaussian_blur((0.1, 1)),
    "gaussian_noise": gaussian_noise((1, 9)),
    "grayscale": grayscale(0.5),
    "hue": hue(0.2),
    "invert": maybe(0.5, invert()),
    "posterise": posterise((2, 6)),
    "random_erasing": random_erasing(1, fill="noise"),
    "saturation": saturation(0.4),
    "sharpness": sharpness(0.9),
    "solarise": solarise((90, 160)),
    "trivial_augment_wide": trivial_augment_wide()[0].pixel,
}
MIXED = {"mixup": chain(mixup(1.0, 5)), "cutmix": chain(rotation(20), cutmix(1.0, 5))}
SOME = {
    name: STAGES[name]
    for name in (
        "colour_jitter",
        "equalise",
        "gaussian_blur",
        "gaussian_noise",
        "posterise",
        "random_erasing",
    )
}
"""Of each way to draw and to compute."""
FIXED = {"autocontrast", "equalise"}
"""Without a random number."""
KEY = jax.random.key(4)


def batch_of(channels=3, dtype=jnp.uint8):
    """The same picture in each example, so that what differs is drawn."""
    values = np.random.default_rng(0).normal(120, 40, (HEIGHT, WIDTH, channels)).clip(0, 255)
    image = np.broadcast_to(np.rint(values), (SIZE, *values.shape))
    return {"image": jnp.asarray(image, dtype), "label": jnp.arange(SIZE, dtype=jnp.int32) % 5}


def all_of(stages):
    """(key, batch) -> name -> what that stage makes of the batch."""
    return lambda key, batch: {name: stage(key, batch) for name, stage in stages.items()}


compiled = jax.jit(all_of(STAGES))
mixtures = jax.jit(all_of(MIXED))


def values(key, batch):
    return jax.device_get(compiled(key, batch))


@pytest.fixture(scope="module")
def whole():
    return values(KEY, batch_of()) | jax.device_get(mixtures(KEY, batch_of()))


def same(one, other):
    assert one.dtype == other.dtype
    # Sums of one image in another program may round otherwise.
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_floats_in_range_and_nothing_else_changes(whole):
    for name, after in whole.items():
        assert after["image"].dtype == jnp.float32, name
        assert after["image"].shape == (SIZE, HEIGHT, WIDTH, 3), name
        assert float(after["image"].min()) >= 0, name
        assert float(after["image"].max()) <= 255, name
        assert after.keys() == {"image", "label"}
        if name in STAGES:
            np.testing.assert_array_equal(after["label"], batch_of()["label"])


def test_examples_differ(whole):
    for name in STAGES:
        different = {image.tobytes() for image in np.asarray(whole[name]["image"])}
        few = 1 if name in FIXED else 2 if name in ("grayscale", "invert") else 3
        assert len(different) >= few, name
        assert (len(different) == 1) == (name in FIXED), name
        assert (np.asarray(whole[name]["image"]) != batch_of()["image"]).any(), name


def test_a_number_belongs_to_a_place_and_a_key(whole):
    first = jax.tree.map(lambda leaf: leaf[:1], batch_of())
    for name, after in jax.device_get(jax.jit(all_of(SOME))(KEY, first)).items():
        same(after["image"], whole[name]["image"][:1])


def test_seeds_by_vmap(whole):
    keys = jnp.stack([jax.random.key(9), KEY])
    both = jax.device_get(jax.jit(jax.vmap(all_of(SOME | MIXED), (0, None)))(keys, batch_of()))
    for name, after in both.items():
        for leaf in after:
            same(after[leaf][1], whole[name][leaf])
        if name not in FIXED:
            assert (after["image"][0] != after["image"][1]).any(), name


def test_float64_and_four_devices_give_the_same_batch(whole, x64):
    mesh = make_mesh(jax.devices()[:4])
    parts, everywhere = NamedSharding(mesh, PartitionSpec("data")), replicated(mesh)

    def sharded(key, batch):
        return shard_batch(mesh, all_of(SOME | MIXED)(key, batch))

    arguments = jax.device_put((KEY, batch_of()), (everywhere, parts))
    compiled = jax.jit(sharded, in_shardings=(everywhere, parts)).lower(*arguments).compile()
    # Only mixing sends anything: to the next device, one example.
    sent = re.findall(
        r"= (\w+\[[\d,]*\])\S* (all-\w+|collective-permute|reduce-scatter)\(", compiled.as_text()
    )
    assert {kind for _, kind in sent} == {"collective-permute"}
    assert {shape for shape, _ in sent} <= {
        f"f32[1,{HEIGHT},{WIDTH},3]",
        f"u8[1,{HEIGHT},{WIDTH},3]",
        "f32[1,5]",
    }
    after = compiled(*arguments)
    for name in after:
        for leaf in whole[name]:
            same(np.asarray(after[name][leaf]), np.asarray(whole[name][leaf]))


def test_grey_floats():
    batch = batch_of(1, jnp.float32)
    stages = {name: stage for name, stage in STAGES.items() if name not in SOME}
    after = jax.device_get(jax.jit(all_of(stages))(KEY, batch))
    for name, one in after.items():
        assert one["image"].shape == (SIZE, HEIGHT, WIDTH, 1), name
        assert np.isfinite(one["image"]).all(), name
    for name in ("saturation", "hue", "grayscale"):
        np.testing.assert_array_equal(after[name]["image"], batch["image"])


def test_nothing_drawn_is_nothing_changed():
    nothing = {
        "brightness": brightness(0),
        "channel_noise": channel_noise(0, 0),
        "colour_jitter": colour_jitter(),
        "contrast": contrast(0),
        "cutout": cutout(0),
        "gamma": gamma(1, 1),
        "gaussian_blur": gaussian_blur(0),
        "gaussian_noise": gaussian_noise(0),
        "grayscale": grayscale(0),
        "hue": hue(0),
        "posterise": posterise(8),
        "random_erasing": random_erasing(0),
        "saturation": saturation(0),
        "sharpness": sharpness(0),
    }
    batch = batch_of(dtype=jnp.float32)
    batch["image"] = batch["image"] * 0.37
    for name, after in jax.jit(all_of(nothing))(KEY, batch).items():
        np.testing.assert_array_equal(after["image"], batch["image"], err_msg=name)


def test_once_is_the_identity():
    x = jnp.arange(6, dtype=jnp.uint8).reshape(2, 3)
    keys = jax.random.split(KEY, 2)
    np.testing.assert_array_equal(jax.jit(once)(KEY, x), x)
    for axes in ((0, 0), (0, None), (None, 0)):
        arguments = [keys if axes[0] == 0 else KEY, x]
        after = jax.jit(jax.vmap(once, axes))(*arguments)
        expected = x if axes[1] == 0 else np.stack([x, x])
        np.testing.assert_array_equal(after, expected)


def test_once_has_the_slope_of_the_identity():
    x = jnp.arange(6, dtype=jnp.float32).reshape(2, 3)
    slope = jax.grad(lambda x: jnp.sum(once(KEY, x) ** 2))
    np.testing.assert_array_equal(jax.jit(slope)(x), 2 * x)
    np.testing.assert_array_equal(jax.jit(jax.vmap(slope))(x), 2 * x)


def test_once_stays_in_the_program():
    """On a CPU: the branch, which XLA would take out if it saw that it is never taken."""
    keys, x = jax.random.split(KEY, 3), jnp.zeros((3, 4), jnp.float32)
    for function in (once, jax.vmap(once, (0, 0))):
        arguments = (KEY if function is once else keys, x)
        text = jax.jit(function).lower(*arguments).compile().as_text()
        assert " conditional(" in text
