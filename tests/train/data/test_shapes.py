"""Loaders with a host stage: images of many shapes, of one shape a step, however many read them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.augment import chain, flip
from train.data.host import Host, Letterbox, RandomResizedCrop, Resize
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About
from train.data.streaming import Streaming
from train.mesh import make_mesh, over_seeds
from train.refusal import Refused

KEY = np.array([0, 7], np.uint32)
SHAPES = ((8, 12), (12, 8), (10, 10))
CROP = Host(RandomResizedCrop(area=(0.3, 1.0)), SHAPES)


def pictures(length=23):
    """Every image of another shape and with other boxes; local, so that it pickles by value."""

    class Pictures:
        about = About("pictures", "train", ("a", "b"), mirror=True)
        fingerprint = "pictures"

        def __len__(self):
            return length

        def __getitem__(self, i):
            rng = np.random.default_rng(i)
            height, width = rng.integers(9, 30, 2)
            boxes = np.sort(rng.uniform(0, 1, (i % 3, 2, 2)), axis=1) * (width, height)
            return {
                "image": rng.integers(0, 256, (height, width, 3), np.uint8),
                "mask": rng.integers(0, 2, (height, width), np.uint8),
                "boxes": boxes.reshape(-1, 4),
                "box_label": np.arange(i % 3) % 2,
            }

        def truth(self, i):
            return {}

    return Pictures()


def loader(kind=Streaming, devices=1, seeds=1, **request):
    mesh = make_mesh(jax.devices()[:devices], seeds=seeds)
    return kind(
        pictures(), mesh=mesh, batch_size=4, **{"capacity": {"boxes": 3}, "host": CROP, **request}
    )


def batches(of, count, start=0, seed=0, step=None):
    step = jax.jit(of.device) if step is None else step
    payloads = of.payloads(start)
    try:
        taken = [next(payloads) for _ in range(count)]
        return [jax.device_get(step(of.data, p, np.uint32(seed), KEY)) for p in taken]
    finally:
        payloads.close()


def assert_same(these, those):
    for this, that in zip(these, those, strict=True):
        assert this.keys() == that.keys()
        for key in this:
            np.testing.assert_array_equal(this[key], that[key], err_msg=key)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_who_reads_changes_nothing(workers):
    whole = batches(loader(seed=3), 7, seed=3)
    assert_same(batches(loader(seed=3, workers=workers), 5, 2, seed=3), whole[2:])


def test_devices_threads_and_a_late_start_change_nothing():
    whole = batches(loader(seed=3), 7, seed=3)
    assert_same(batches(loader(devices=4, seed=3, threads=4), 3, 4, seed=3), whole[4:])
    other = batches(loader(seed=4), 1, seed=4)
    assert other[0]["image"].tolist() != whole[0]["image"].tolist()


def test_each_epoch_cuts_anew():
    # 23 steps of 4 are 4 epochs; each example comes once in each.
    seen = {}
    for batch in batches(loader(seed=1, host=Host(CROP.stage, ((8, 8),))), 23, seed=1):
        for index, epoch, matrix in zip(
            batch["index"], batch["epoch"], batch["matrix"], strict=True
        ):
            seen.setdefault(int(index), {})[int(epoch)] = matrix.tolist()
    assert len(seen) == 23
    for matrices in seen.values():
        assert [*matrices] == [0, 1, 2, 3]
        assert len({str(matrix) for matrix in matrices.values()}) == 4


def test_every_shape_compiles_once_and_follows_the_step():
    of = loader(seed=3)
    step = jax.jit(of.device)
    for k, batch in enumerate(batches(of, 12, 5, seed=3, step=step), start=5):
        assert batch["image"].shape == (4, *CROP.shape(k), 3)
        assert batch["mask"].shape == (4, *CROP.shape(k))
        assert of.shape(k) == of.shape(k) != of.shape(k + 1) or CROP.shape(k) == CROP.shape(k + 1)
    assert step._cache_size() == 3 == len({of.shape(k) for k in range(100)})
    first = next(of.payloads(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), of.payload) == jax.tree.map(
        lambda x: (x.shape, x.dtype), first
    )


def test_the_device_goes_on_from_the_host_s_matrix():
    (plain,) = batches(loader(), 1)
    (moved,) = batches(loader(transform=chain(flip())), 1)
    width = plain["image"].shape[2]
    mirror = np.array([[-1, 0, width], [0, 1, 0], [0, 0, 1]], np.float32)
    flipped = [
        not np.array_equal(a, b) for a, b in zip(plain["image"], moved["image"], strict=True)
    ]
    assert {*flipped} == {True, False}
    for k, turned in enumerate(flipped):
        expected = mirror @ plain["matrix"][k] if turned else plain["matrix"][k]
        np.testing.assert_allclose(moved["matrix"][k], expected, atol=1e-5)
    np.testing.assert_array_equal(plain["size"], moved["size"])
    sizes = [pictures()[int(i)]["image"].shape[:2] for i in plain["index"]]
    np.testing.assert_array_equal(plain["size"], sizes)


def test_runs_of_several_seeds_cut_each_its_own():
    together = loader(seed=(3, 8), seeds=1)
    step = jax.jit(over_seeds(together.device, together.mesh, (None, 0, 0, None)))
    payloads = together.payloads(1)
    both = jax.device_get(step(together.data, next(payloads), np.array([3, 8], np.uint32), KEY))
    payloads.close()
    for n, seed in enumerate((3, 8)):
        alone = batches(loader(seed=seed), 1, 1, seed=seed)
        assert_same([{key: value[n] for key, value in both.items()}], alone)


@pytest.mark.parametrize("stage", [Letterbox(), Resize()])
def test_both_loaders_hold_the_same_once_the_host_is_done(stage):
    request = {"host": Host(stage, ((8, 12),)), "order": once}
    assert_same(
        batches(loader(Resident, 2, **request), 6), batches(loader(Streaming, 2, **request), 6)
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (CROP, "3 shapes makes another"),
        (Host(RandomResizedCrop(), ((8, 8),)), "RandomResizedCrop.*loader='streaming'"),
        (Host(Resize(), ()), r"shapes=\(\)"),
    ],
)
def test_an_image_that_changes_cannot_be_resident(host, message):
    with pytest.raises(Refused, match=message):
        loader(Resident, host=host)


def test_without_a_host_stage_images_of_many_shapes_are_refused():
    with pytest.raises(Refused, match=r"example 1 of pictures/train has image"):
        loader(Resident, host=None, order=once)


def test_float64_changes_nothing(x64):
    (wide,) = batches(loader(seed=3), 1, seed=3)
    with jax.enable_x64(False):
        (plain,) = batches(loader(seed=3), 1, seed=3)
    assert {key: value.dtype for key, value in wide.items()} == {
        key: value.dtype for key, value in plain.items()
    }
    assert_same([wide], [plain])
    assert jnp.zeros(()).dtype == jnp.float64
