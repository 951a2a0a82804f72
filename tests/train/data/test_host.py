"""Host stages: where pixels, boxes, masks go, against torchvision, Pillow, the device's rule."""

import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from train.augment.coordinates import moved
from train.data.host import (
    CentreCrop,
    Host,
    Letterbox,
    RandomResizedCrop,
    Resize,
    check,
    generator,
)
from train.refusal import Refused

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / "golden" / "torchvision_crops.npz")
STAGES = (Resize(), Letterbox(), CentreCrop(), RandomResizedCrop(area=(0.3, 1.0)))


def rectangle(height, width, box, channels=3):
    """A filled rectangle in an image, its mask and its box."""
    x0, y0, x1, y1 = box
    image = np.zeros((height, width, channels), np.uint8)
    image[y0:y1, x0:x1] = 200
    return {
        "image": image,
        "mask": (image[..., 0] > 0).astype(np.uint8),
        "boxes": np.array([box, (0, 0, 0, 0)], np.float32),
        "box_valid": np.array([True, False]),
        "box_label": np.array([7, 0], np.int32),
    }


def applied(matrix, *points):
    """Where a matrix takes points (x, y), in float64."""
    return (np.float64(matrix) @ np.array([(*point, 1) for point in points]).T)[:2].T


def test_the_inverse_of_a_letterbox_leads_back():
    example = {"image": np.zeros((1571, 3775, 1), np.uint8)}
    new = Letterbox()(example, (1280, 1280), generator(0, 0, 0))
    # 1280 / 3775 * 1571 = 532.68, so 533 rows, 747 left, 373 of them above.
    np.testing.assert_allclose(applied(new["matrix"], (0, 0)), [[0, 373]])
    np.testing.assert_allclose(applied(new["matrix"], (3775, 1571)), [[1280, 906]], atol=1e-3)
    rows = np.flatnonzero((new["image"] == 0).all((1, 2)))
    assert (rows[0], rows[-1]) == (373, 905)
    back = np.linalg.inv(np.float64(new["matrix"]))
    np.testing.assert_allclose(
        applied(back, (0, 373), (1280, 906)), [(0, 0), (3775, 1571)], atol=0.01
    )
    assert new["size"].tolist() == [1571, 3775]
    assert (new["matrix"].dtype, new["size"].dtype) == (np.float32, np.int32)


@pytest.mark.parametrize("size", [(61, 40), (40, 61), (9, 100), (32, 48), (1, 1)])
@pytest.mark.parametrize("stage", STAGES)
def test_boxes_masks_and_pixels_move_together(stage, size):
    height, width = size
    box = (width // 4, height // 4, max(1, 3 * width // 4), max(1, 3 * height // 4))
    stage = pickle.loads(pickle.dumps(stage))
    new = stage(rectangle(*size, box), (64, 96), generator(5, 0, 3))
    assert new["image"].shape == (64, 96, 3)
    assert new["mask"].shape == (64, 96)
    assert new["boxes"].dtype == np.float32
    if not new["box_valid"][0]:
        assert not new["boxes"].any()
        assert not new["box_label"].any()
        return
    assert new["box_label"].tolist() == [7, 0]
    bright = (new["image"] > 100).all(-1) & (new["mask"] != 255)
    if isinstance(stage, Letterbox):
        bright &= new["mask"] == 1
    for seen in (new["mask"] == 1, bright):
        rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(found, new["boxes"][0], atol=1.5)


def test_around_a_letterbox_a_mask_is_ignored_and_the_fill_is_the_colour():
    new = Letterbox(fill=(1.0, 2.0, 3.6))(rectangle(4, 8, (0, 0, 8, 4)), (8, 8), generator(0, 0, 0))
    assert new["mask"].tolist() == [[255] * 8] * 2 + [[1] * 8] * 4 + [[255] * 8] * 2
    assert new["image"][0, 0].tolist() == [1, 2, 4]
    assert new["image"][2:6].tolist() == [[[200] * 3] * 8] * 4


@pytest.mark.parametrize("stage", [Resize(), Letterbox(), CentreCrop(enlarge=1)])
def test_an_image_of_the_shape_is_left_alone(stage):
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    new = stage({"image": image}, (12, 20), generator(0, 0, 0))
    np.testing.assert_array_equal(new["image"], image)
    np.testing.assert_array_equal(new["matrix"], np.eye(3))


@pytest.mark.parametrize("name", [key[4:] for key in GOLDEN if key.startswith("cut/")])
def test_the_centre_is_cut_as_torchvision_does(name):
    example = {"image": GOLDEN[f"picture/{name}"]}
    new = CentreCrop(enlarge=32 / 28)(example, (28, 28), generator(0, 0, 0))
    off = np.abs(new["image"].astype(int) - GOLDEN[f"cut/{name}"])
    assert off.max() <= 1, off.max()


@pytest.mark.parametrize(
    ("slot", "size"), [(0, (40, 60)), (1, (300, 20)), (2, (7, 400)), (3, (90, 90))]
)
def test_a_random_crop_is_what_pillow_cuts_and_resizes(slot, size):
    image = np.random.default_rng(slot).integers(0, 256, (*size, 3), np.uint8)
    stage = RandomResizedCrop()
    box = stage.box(size, generator(1, 2, slot))
    new = stage({"image": image}, (24, 16), generator(1, 2, slot))
    cut = (
        Image.fromarray(image).crop(box).resize((16, 24), Image.Resampling.BILINEAR, reducing_gap=3)
    )
    assert np.abs(new["image"].astype(int) - np.asarray(cut)).max() <= 1
    corners = applied(new["matrix"], box[:2], box[2:])
    np.testing.assert_allclose(corners, [(0, 0), (16, 24)], atol=1e-3)


def test_random_crops_are_as_asked():
    boxes = np.array([RandomResizedCrop().box((300, 400), generator(0, 0, k)) for k in range(3000)])
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    share, ratio = wide * tall / 120_000, wide / tall
    assert boxes.min() >= 0
    assert (boxes[:, 2].max(), boxes[:, 3].max()) == (400, 300)
    assert share.min() > 0.078
    assert 0.95 < share.max() <= 1
    # Even in the area, but for large ones that don't fit and are drawn anew.
    assert 0.25 < np.mean(share < 0.3) < 0.35
    assert 0.74 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.35
    assert abs(np.mean(np.log(ratio[share < 0.3]))) < 0.02  # large ones like a wide image wide
    assert abs(np.mean(boxes[:, 0] / np.maximum(400 - wide, 1)) - 0.5) < 0.03


def test_where_no_crop_fits_the_largest_allowed_is_taken():
    stage = RandomResizedCrop(area=(0.9, 1.0))
    assert stage.box((100, 1000), generator(0, 0, 0)) == (433, 0, 566, 100)
    assert stage.box((1000, 100), generator(0, 0, 0)) == (0, 433, 100, 566)
    assert stage.box((1, 1), generator(0, 0, 0)) == (0, 0, 1, 1)


def test_random_numbers_belong_to_seed_epoch_and_slot():
    draws = {key: generator(*key).random(4).tolist() for key in np.ndindex(2, 2, 3)}
    assert len({tuple(draw) for draw in draws.values()}) == 12
    assert generator(1, 0, 2).random(4).tolist() == draws[1, 0, 2]
    # Philox4x64-10, whose raw words NumPy keeps; from NumPy 2.4.
    words = np.random.Philox(key=[1, 0], counter=[0, 0, 0, 2]).random_raw(1)
    assert draws[1, 0, 2][0] == (int(words[0]) >> 11) * 2.0**-53


def test_a_box_stays_by_the_device_s_rule():
    rng = np.random.default_rng(0)
    boxes = rng.uniform(-20, 120, (400, 4)).astype(np.float32)
    boxes[:200] = np.concatenate(
        [boxes[:200, :2], boxes[:200, :2] + rng.uniform(0, 60, (200, 2))], 1
    )
    example = {
        "image": np.zeros((80, 100, 1), np.uint8),
        "boxes": boxes.astype(np.float32),
        "box_valid": np.arange(400) % 7 > 0,
        "box_label": np.arange(400, dtype=np.int32) + 1,
        "proposals": boxes[::-1].copy(),
        "proposal_valid": np.ones(400, bool),
    }
    new = RandomResizedCrop(area=(0.2, 0.3))(example, (50, 60), generator(0, 0, 1))
    batch = {key: jnp.asarray(value)[None] for key, value in example.items() if key != "image"}
    expected = moved(batch, jnp.asarray(new["matrix"])[None], (50, 60))
    assert 10 < new["box_valid"].sum() < 200
    for key, value in expected.items():
        assert new[key].dtype == value.dtype
        np.testing.assert_allclose(new[key], value[0], atol=1e-4, err_msg=key)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "float32")])
def test_each_channel_is_resampled_alone(stage, channels, dtype):
    image = np.random.default_rng(1).integers(0, 256, (33, 21, channels)).astype(dtype)
    whole = stage({"image": image}, (16, 16), generator(0, 0, 4))["image"]
    assert whole.shape == (16, 16, channels)
    assert whole.dtype == image.dtype
    for c in range(channels):
        alone = stage({"image": image[..., c : c + 1].copy()}, (16, 16), generator(0, 0, 4))[
            "image"
        ]
        np.testing.assert_array_equal(whole[..., c], alone[..., 0])
    if dtype == "float32":
        rounded = stage({"image": image.astype(np.uint8)}, (16, 16), generator(0, 0, 4))["image"]
        np.testing.assert_allclose(rounded, whole, atol=1.01)


def test_a_step_s_shape_is_its_own_and_each_comes_as_often():
    shapes = ((8, 8), (16, 8), (8, 16))
    host = Host(Resize(), shapes, every=4)
    drawn = [host.shape(step) for step in range(10**9 * 12, 10**9 * 12 + 240)]
    for lap in range(0, 240, 12):
        assert {*drawn[lap : lap + 12 : 4]} == {*shapes}
    assert all(drawn[k] == drawn[k - k % 4] for k in range(240))
    assert len({tuple(drawn[lap : lap + 12]) for lap in range(0, 240, 12)}) > 2


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (Host(Resize(), ()), r"shapes=\(\)"),
        (Host(Resize(), ((4, 0),)), r"\(4, 0\) is not a height"),
        (Host(Resize(), ((4, 4), (4, 4))), "twice"),
        (Host(Resize(), ((4, 4),), every=0), "every=0"),
    ],
)
def test_a_host_stage_that_could_not_work_is_refused(host, message):
    with pytest.raises(Refused, match=message):
        check(host)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Letterbox(fill=-1), "fill=-1"),
        (lambda: CentreCrop(enlarge=0.5), "enlarge=0.5"),
        (lambda: RandomResizedCrop(area=(0.5, 1.5)), "area="),
        (lambda: RandomResizedCrop(ratio=(2.0, 1.0)), "ratio="),
    ],
)
def test_wrong_fields_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("size", [(4, 8), (8, 8)])  # with a border, and without
@pytest.mark.parametrize("fill", [(1, 2, 3), ()])
def test_a_fill_of_other_channels_is_refused(fill, size):
    example = {"image": np.zeros((*size, 1), np.uint8)}
    with pytest.raises(Refused, match=r"fill=\(.*\) for an image with 1 channels"):
        Letterbox(fill=fill)(example, (8, 8), generator(0, 0, 0))
    assert Letterbox(fill=(7,))(example, (8, 9), generator(0, 0, 0))["image"].max() == 7


def test_pixels_of_another_type_are_refused():
    with pytest.raises(Refused, match="float64"):
        Resize()({"image": np.zeros((4, 4, 3))}, (2, 2), generator(0, 0, 0))
