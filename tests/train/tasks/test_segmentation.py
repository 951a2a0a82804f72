"""The segmentation task: fixed logits, borders, the way back to the source, bad batches."""

import zlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from models.classification.auxiliary import WithAuxiliary
from models.layers.norm import BatchNorm
from models.segmentation.unet import UNet
from train.evaluate import add
from train.tasks.pixel_losses import cross_entropy, soft_dice, weighted
from train.tasks.segmentation import (
    first_variables,
    over_border,
    pixel_confusion,
    segmentation,
    to_source,
)
from train.tasks.task import Ratio

K = 3


class Fixed(nn.Module):
    """Logits that stand in the image's channels; with an auxiliary head, those times two."""

    aux: bool = False
    margin = 0

    def input_size(self, size):
        return size

    @nn.compact
    def __call__(self, x, *, train):
        y = x * self.param("scale", nn.initializers.ones, ())
        return WithAuxiliary(y, (2 * y,)) if train and self.aux else y


def task(network=None, **fields):
    fields = {"num_classes": K, "mean": (0.0,) * K, "std": (1.0,) * K} | fields
    return segmentation(Fixed() if network is None else network, **fields)


VARIABLES = {"params": {"scale": jnp.ones(())}}


def batch(count=4, shape=(5, 6), seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, K, (count, *shape)).astype(np.uint8)
    mask[rng.random(mask.shape) < 0.2] = 255
    return {
        "image": jnp.asarray(rng.normal(size=(count, *shape, K)), jnp.float32),
        "mask": jnp.asarray(mask),
        "valid": jnp.ones(count, bool),
        "index": jnp.arange(count, dtype=jnp.int32),
        "matrix": jnp.broadcast_to(jnp.eye(3), (count, 3, 3)),
        "size": jnp.broadcast_to(jnp.asarray(shape, jnp.int32), (count, 2)),
    }


def test_loss_is_over_the_pixels_that_count():
    given = batch()
    given["valid"] = jnp.asarray([True, False, True, True])
    loss, aux = task().loss(VARIABLES, given, jax.random.key(0))
    counted = (np.asarray(given["mask"]) != 255) & np.asarray(given["valid"])[:, None, None]
    expected = cross_entropy()(given["image"], given["mask"], jnp.asarray(counted))
    assert loss == expected
    right = (np.argmax(given["image"], -1) == given["mask"]) & counted
    assert aux.sums["pixel_accuracy"] == Ratio(right.sum(), counted.sum())
    assert aux.sums["all_ignored"] == Ratio(0, 1)
    assert "auxiliary_loss" not in aux.sums


def test_auxiliary_heads_have_the_same_loss_times_their_weight():
    given, both = batch(), weighted((1.0, cross_entropy()), (1.0, soft_dice()))
    made = task(Fixed(aux=True), loss=both, auxiliary_weight=0.25)
    loss, aux = made.loss(VARIABLES, given, jax.random.key(0))
    counted = given["mask"] != 255
    main, other = (both(s * given["image"], given["mask"], counted) for s in (1, 2))
    assert loss == pytest.approx(float(main + 0.25 * other), rel=1e-6)
    assert aux.sums["auxiliary_loss"].total == pytest.approx(float(other), rel=1e-6)


@pytest.mark.parametrize("valid", [True, False])
def test_a_batch_without_a_pixel_that_counts(valid):
    given = batch()
    given["valid"] = jnp.full(4, valid)
    if valid:
        given["mask"] = jnp.full_like(given["mask"], 255)
    made = task(loss=weighted((1.0, cross_entropy()), (1.0, soft_dice())))
    value = jax.value_and_grad(lambda v: made.loss(v, given, jax.random.key(0)), has_aux=True)
    (loss, aux), gradient = value(VARIABLES)
    assert loss == 0
    assert gradient["params"]["scale"] == 0
    assert aux.sums["all_ignored"] == Ratio(1, 1)
    assert aux.sums["pixel_accuracy"] == Ratio(0, 0)


# --- measured -----------------------------------------------------------------------------------


def summary_of(made, batches, truths):
    sums, kept = {}, []
    for given in batches:
        measured = made.measure(VARIABLES, given)
        for name, value in measured.sums.items():
            before = sums.get(name)
            sums[name] = value if before is None else jax.tree.map(jnp.add, before, value)
        for row in np.flatnonzero(given["valid"]):
            record = {name: np.asarray(v)[row] for name, v in measured.records.items()}
            own, keep = made.score(record, {"mask": truths[int(record["index"])]})
            sums["confusion"] = sums.get("confusion", 0) + own["confusion"]
            kept.append(keep)
    return made.summarise(sums, kept)


@pytest.mark.parametrize("absent", [None, 1])
def test_figures_are_scikit_learns(absent):
    given = batch(count=6)
    if absent is not None:  # neither true nor predicted
        given["mask"] = jnp.where(given["mask"] == absent, 2, given["mask"])
        given["image"] = given["image"].at[..., absent].set(-9)
    truth, guess = np.asarray(given["mask"]), np.argmax(given["image"], -1)
    counted = truth != 255
    summary = summary_of(task(), [given], truth)
    y, z = truth[counted], guess[counted]
    scalars = summary.scalars
    assert scalars["miou"] == pytest.approx(jaccard_score(y, z, average="macro"))
    assert scalars["dice"] == pytest.approx(f1_score(y, z, average="macro"))
    weights = jaccard_score(y, z, average="weighted")
    assert scalars["frequency_weighted_iou"] == pytest.approx(weights)
    assert scalars["pixel_accuracy"] == pytest.approx(np.mean(y == z))
    assert scalars["count"] == 6
    assert summary.tables["confusion"].dtype == np.int64
    worst = summary.tables["worst"]
    each = [
        jaccard_score(t[c], g[c], average="macro")
        for t, g, c in zip(truth, guess, counted, strict=True)
    ]
    assert [one["index"] for one in worst] == np.argsort(each, kind="stable").tolist()
    found = summary.tables["predictions"]
    assert [*found.indices] == [*range(6)]
    assert found.columns["miou"] == pytest.approx(each)
    right = [float(np.mean(t[c] == g[c])) for t, g, c in zip(truth, guess, counted, strict=True)]
    assert found.columns["pixel_accuracy"] == pytest.approx(right)
    assert worst[0]["iou"] == pytest.approx(min(each))
    shown = np.frombuffer(zlib.decompress(worst[0]["mask"]), np.uint8).reshape(worst[0]["shape"])
    np.testing.assert_array_equal(shown, guess[worst[0]["index"]])


def test_how_a_split_falls_into_batches_changes_nothing():
    whole = batch(count=4)
    truths = np.asarray(whole["mask"])
    tail = {name: value[jnp.asarray([3, 3])] for name, value in whole.items()}
    tail["valid"] = jnp.asarray([True, False])
    parts = [{name: v[:2] for name, v in whole.items()}, {n: v[2:3] for n, v in whole.items()}]
    one = summary_of(task(), [whole], truths).scalars
    three = summary_of(task(), [*parts, tail], truths).scalars
    assert one == pytest.approx(three)
    assert one["count"] == 4


def test_an_example_without_a_pixel_that_counts_is_counted_and_not_ranked():
    given = batch(count=2)
    given["mask"] = given["mask"].at[1].set(255)
    summary = summary_of(task(), [given], np.asarray(given["mask"]))
    assert summary.scalars["count"] == 2
    first = {name: value[:1] for name, value in given.items()}
    alone = summary_of(task(), [first], np.asarray(first["mask"]))
    assert summary.scalars["loss"] == pytest.approx(alone.scalars["loss"])
    assert [one["index"] for one in summary.tables["worst"]] == [0]
    found = summary.tables["predictions"]
    assert [*found.indices] == [0, 1]
    assert all(np.isnan(column[1]) for column in found.columns.values())


def test_pixels_are_counted_beyond_what_float32_and_int32_hold():
    truth = np.zeros((4097, 4097), np.uint8)
    counts = pixel_confusion(truth, truth, 2)
    assert counts.dtype == np.int64
    assert counts[0, 0] == 4097**2  # no float32
    total = add({"confusion": counts * 2**8}, {"confusion": counts})
    assert total["confusion"][0, 0] == 257 * 4097**2  # no int32


def test_a_mask_of_another_shape_or_with_another_class_is_refused():
    mask = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="shape"):
        pixel_confusion(mask, mask.T, 2)
    for pair in ((mask + 2, mask), (mask, mask + 2)):
        with pytest.raises(ValueError, match="class above 1"):
            pixel_confusion(*pair, 2)


def test_where_no_example_could_be_read_nothing_was_scored():
    nothing = {"loss": (np.float64(0), np.float64(0)), "count": np.int64(0)}
    scalars, tables = task().summarise(nothing, [])
    assert scalars["count"] == 0
    assert tables["confusion"].shape == (3, 3)
    assert not tables["confusion"].any()


def test_a_mask_goes_back_to_the_source():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    half = np.diag([0.5, 0.5, 1.0])
    np.testing.assert_array_equal(
        to_source(mask, half, np.array([6, 8])), mask.repeat(2, 0).repeat(2, 1)
    )
    # A letterbox: the source of 2x4 stands one row down in 4x4.
    moved = np.array([[1.0, 0, 0], [0, 1, 1], [0, 0, 1]])
    np.testing.assert_array_equal(
        to_source(np.arange(16, dtype=np.uint8).reshape(4, 4), moved, np.array([2, 4])),
        [[4, 5, 6, 7], [8, 9, 10, 11]],
    )
    # What the crop left out takes the nearest class.
    crop = np.array([[1.0, 0, -2], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(
        to_source(mask, crop, np.array([3, 8]))[0], [0, 0, 0, 1, 2, 3, 3, 3]
    )


# --- borders ------------------------------------------------------------------------------------


class Surroundings(nn.Module):
    """The sum over 5x5 without padding, and sizes that are multiples of 4 more than 4."""

    margin = 2

    def input_size(self, size):
        return -(-size // 4) * 4 + 4

    def __call__(self, x, *, train):
        assert x.shape[1] % 4 == 0
        kernel = jnp.ones((5, 5, 1, 1), x.dtype)
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (5, 12)])
def test_a_border_is_mirrored_and_cropped_away(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, *shape, 1)), jnp.float32)
    network = Surroundings()
    (logits, aux), _ = over_border(network, lambda x: (network(x, train=False), None), x)
    padded = np.pad(np.asarray(x)[0, ..., 0], 2, mode="reflect")
    expected = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).sum((2, 3))
    assert aux == ()
    np.testing.assert_allclose(logits[0, ..., 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_unet_takes_images_of_any_size(padding):
    network = UNet(2, features=(2, 4, 4), padding=padding, aux=padding == "SAME")
    made = segmentation(network, num_classes=2, mean=(0.0,), std=(1.0,))
    given = batch(count=2, shape=(13, 10))
    given |= {"image": given["image"][..., :1], "mask": jnp.minimum(given["mask"], 1)}
    x = made.inputs(given)
    variables = jax.jit(partial(first_variables, network))(jax.random.key(0), x)
    found = jax.jit(made.predict)(variables, x)
    assert found["mask"].shape == (2, 13, 10)
    assert found["mask"].dtype == jnp.uint8
    assert found["probabilities"].shape == (2, 13, 10, 2)
    np.testing.assert_allclose(found["probabilities"].sum(-1), 1, rtol=1e-5)
    # NumPy's border, as wide on both sides as it can be, and its logits cropped to the image.
    border = [(0, 0)]
    for n in (13, 10):
        missing = network.input_size(n) - n
        border.append((missing // 2, missing - missing // 2))
    padded = np.pad(x, [*border, (0, 0)], mode="reflect")
    logits = jax.jit(partial(network.apply, train=False))(variables, padded)
    top, left = (before - network.margin for before, _ in border[1:])
    expected = jax.nn.softmax(logits)[:, top : top + 13, left : left + 10]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5, atol=1e-6)
    assert np.std(found["probabilities"]) > 1e-3
    loss, aux = jax.jit(made.loss)(variables, given, jax.random.key(0))
    assert np.isfinite(loss)
    # Auxiliary logits are cropped as the main ones are.
    train = partial(network.apply, train=True, mutable=["batch_stats"])
    (logits, others), _ = jax.jit(train)(variables, padded) if network.aux else ((None, ()), None)
    losses = [
        cross_entropy()(
            each[:, top : top + 13, left : left + 10], given["mask"], np.ones((2, 13, 10), bool)
        )
        for each in others
    ]
    assert len(losses) == (1 if padding == "SAME" else 0)
    if losses:
        np.testing.assert_allclose(aux.sums["auxiliary_loss"][0], sum(losses), rtol=1e-5)


def test_images_are_preprocessed_wherever_they_are_seen():
    given = batch()
    fields = {"mean": (1.0, 2.0, 3.0), "std": (2.0, 1.0, 0.5)}
    made, plain = task(preprocess=lambda x: 255 - x, **fields), task(**fields)
    negative = given | {"image": 255 - given["image"]}
    x = made.inputs(given)
    assert x.dtype == jnp.float32
    expected = (255 - np.asarray(given["image"]) - fields["mean"]) / np.array(fields["std"])
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    for what in ("loss", "measure"):
        key = [jax.random.key(0)] if what == "loss" else []
        found, same, other = (
            jax.tree.leaves(getattr(made_of, what)(VARIABLES, images, *key))
            for made_of, images in ((made, given), (plain, negative), (plain, given))
        )
        for one, another in zip(found, same, strict=True):
            np.testing.assert_array_equal(one, another)
        assert any(np.any(one != another) for one, another in zip(found, other, strict=True))


class Pooled(nn.Module):
    """A branch with one value a channel and image, as DeepLab's."""

    margin = 0

    def input_size(self, size):
        return size

    @nn.compact
    def __call__(self, x, *, train):
        return x + BatchNorm(name="pooled")(x.mean((1, 2), keepdims=True), train=train)


def test_one_value_a_channel_is_refused_and_not_zero_in_silence():
    given = {name: value[:1] for name, value in batch().items()}
    made = task(Pooled())
    variables = Pooled().init(jax.random.key(0), made.inputs(given), train=False)
    with pytest.raises(ValueError, match="pooled"):
        made.loss(variables, given, jax.random.key(0))


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"num_classes": 1}, "num_classes=1"),
        ({"num_classes": 256}, "num_classes=256"),
        ({"auxiliary_weight": -1}, "auxiliary_weight=-1"),
    ],
)
def test_bad_values_are_named(fields, match):
    with pytest.raises(ValueError, match=match):
        task(**fields)
