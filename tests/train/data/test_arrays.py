import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.source import About
from train.refusal import Refused

IMAGES = np.arange(3 * 4 * 5 * 1, dtype=np.uint8).reshape(3, 4, 5, 1)
LABELS = np.array([1, 0, 1])
BOX = np.array([[0, 0, 5, 4]], np.float32)
MASKS = np.array([[[0, 1, 255, 0, 1]] * 4] * 3, np.uint8)


def about(**changes):
    known = {"name": "toy", "split": "train", "classes": ("a", "b"), "mirror": True}
    known["mask_classes"] = ("ground", "a")
    return About(**(known | changes))


def toy(**changes):
    return Arrays({"image": IMAGES, "label": LABELS} | changes, about())


def test_examples_and_truth():
    box = np.array([[0, 1, 5, 4]], np.float32)
    boxes = [box[:0], np.repeat(box, 2, 0), box]
    source = toy(boxes=boxes, box_label=[[], [1, 0], [1]])
    assert len(source) == 3
    example = source[1]
    assert set(example) == {"image", "label", "boxes", "box_label"}
    np.testing.assert_array_equal(example["image"], IMAGES[1], strict=True)
    assert example["label"] == 0
    assert example["label"].dtype == np.int32
    assert all(isinstance(value, np.ndarray) for value in example.values())
    truth = source.truth(1)
    assert set(truth) == {"label", "boxes", "box_label"}
    np.testing.assert_array_equal(truth["box_label"], np.array([1, 0], np.int32), strict=True)
    assert source.truth(0)["box_label"].shape == (0,)
    np.testing.assert_array_equal(source.labels, LABELS.astype(np.int32), strict=True)
    for outside in (-1, 3):
        with pytest.raises(IndexError, match=f"index {outside} is outside"):
            source[outside]


def test_masks_and_flags_take_the_batchs_types():
    source = toy(
        mask=MASKS.astype(np.int64), boxes=[BOX[:0], BOX, BOX], box_crowd=[[], [True], [False]]
    )
    np.testing.assert_array_equal(source[1]["mask"], MASKS[1], strict=True)
    assert source.truth(0)["box_crowd"].dtype == np.bool_
    np.testing.assert_array_equal(source.truth(1)["box_crowd"], [True])
    with pytest.raises(Refused, match="declares 256 mask classes; masks have 255 at most"):
        about(mask_classes=tuple(map(str, range(256))))
    with pytest.raises(Refused, match="the set declares no mask_classes"):
        Arrays({"mask": MASKS}, about(mask_classes=()))


def test_signals_and_targets_take_the_batchs_types():
    source = Arrays(
        {
            "signal": np.arange(12).reshape(2, 3, 2),
            "length": np.array([3, 1]),
            "target": [1, 0.5],
            "proposals": [BOX[:0], BOX],
        },
        about(shape=(3, 2), targets=("age",)),
    )
    assert set(source[1]) == {"signal", "length", "target", "proposals"}
    wanted = np.float32([[6, 7], [8, 9], [10, 11]])
    np.testing.assert_array_equal(source[1]["signal"], wanted, strict=True)
    assert set(source.truth(0)) == {"target"}
    np.testing.assert_array_equal(source.truth(1)["target"], np.float32([0.5]), strict=True)
    with pytest.raises(Refused, match=r"target has 2 columns; targets=\('age',\) names 1"):
        Arrays({"target": np.zeros((3, 2))}, about(targets=("age",)))


def objects(*parts):
    """An array of objects, as NumPy's users keep what differs in length."""
    made = np.empty(len(parts), object)
    made[:] = parts
    return made


def test_an_array_of_objects_is_one_array_an_example():
    """Its own bytes are addresses: a run of the same data could not go on."""
    parts = [np.arange(3.0)[:, None], np.arange(5.0)[:, None]]
    made, again = (Arrays({"signal": objects(*(p.copy() for p in parts))}, about()) for _ in "ab")
    np.testing.assert_array_equal(made[1]["signal"], np.float32(parts[1]), strict=True)
    assert made.fingerprint == again.fingerprint
    assert made.fingerprint == Arrays({"signal": parts}, about()).fingerprint


def test_images_of_varying_size():
    images = [np.zeros((4, 5, 3), np.uint8), np.zeros((2, 7, 3), np.uint8)]
    source = Arrays({"image": images, "label": [0, 1]}, about())
    assert source[1]["image"].shape == (2, 7, 3)


@pytest.mark.parametrize(
    ("arrays", "shape", "message"),
    [
        ({}, None, "holds no key"),
        ({"image": IMAGES, "label": LABELS[:2]}, None, "image has 3, label has 2"),
        ({"image": IMAGES[:0], "label": LABELS[:0]}, None, "image holds no example"),
        ({"image": IMAGES[..., 0]}, None, r"image\[0\] has rank 2, shape \(4, 5\)"),
        ({"image": IMAGES.astype(np.float32)}, None, r"image\[0\] has type float32"),
        ({"image": [IMAGES[0], IMAGES[0, 0]]}, None, r"image\[1\] has rank 2"),
        ({"image": IMAGES}, (4, 5, 3), r"\(4, 5, 1\); wanted: \(4, 5, 3\)"),
        ({"label": [0, 1, 2]}, None, r"label\[2\]=2 is outside the 2 classes 0..1"),
        ({"label": np.array([0, -1])}, None, r"label\[1\]=-1 is outside"),
        ({"label": np.array([2**32], np.int64)}, None, r"label\[0\]=4294967296 is outside"),
        ({"label": np.array([0.0, 1.0])}, None, "label has rank 1, type float64"),
        ({"label": np.zeros((2, 2), int)}, None, "label has rank 2"),
        ({"boxes": [np.zeros((1, 3), np.float32)]}, None, r"boxes\[0\] has shape \(1, 3\)"),
        ({"boxes": [BOX.astype(np.float64)]}, None, r"boxes\[0\] has type float64"),
        ({"box_label": [[0], [1, 2]]}, None, r"box_label\[1\]\[1\]=2 is outside"),
        (
            {"boxes": [np.repeat(BOX, 2, 0)], "box_label": [[0]]},
            None,
            r"box_label\[0\] has 1 rows, boxes\[0\] has 2",
        ),
        ({"image": IMAGES[:1], "boxes": [BOX + 1]}, None, r"boxes\[0\]\[0\].*inside 0 0 5 4"),
        ({"boxes": [BOX[:0], -BOX]}, None, r"boxes\[1\]\[0\]=.*; wanted: finite, x0 < x1"),
        ({"boxes": [BOX * np.array([1, 1, 0, 1], "f4")]}, None, r"boxes\[0\]\[0\]=\[0.0, 0.0, 0.0"),
        ({"boxes": [BOX * np.float32("nan")]}, None, r"boxes\[0\]\[0\]=\[nan"),
        ({"boxes": [BOX], "box_crowd": [[1]]}, None, r"box_crowd\[0\] has rank 1, type int64"),
        (
            {"boxes": [BOX], "box_difficult": [np.zeros(2, bool)]},
            None,
            r"box_difficult\[0\] has 2 rows, boxes\[0\] has 1",
        ),
        ({"mask": MASKS.astype(np.float32)}, None, r"mask\[0\] has rank 3|mask\[0\].*float32"),
        ({"mask": MASKS + np.uint8(1)}, None, r"mask\[0\]\[0, 1\]=2 is outside the 2 mask classes"),
        ({"mask": [MASKS[0], MASKS[0].astype(int) - 1]}, None, r"mask\[1\]\[0, 0\]=-1 is"),
        ({"mask": [MASKS[0].astype(int) + 256]}, None, r"mask\[0\]\[0, 0\]=256 is outside"),
        ({"mask": MASKS[0]}, None, r"mask\[0\] has rank 1"),
        (
            {"image": IMAGES, "mask": MASKS[:, :3]},
            None,
            r"mask\[0\] has shape \(3, 5\), image\[0\] \(4, 5, 1\)",
        ),
        ({"image": IMAGES[:1], "proposals": [BOX + 1]}, None, r"proposals\[0\]\[0\].*inside 0 0"),
        (
            {"proposals": [BOX], "proposal_valid": [np.ones(2, bool)]},
            None,
            r"proposal_valid\[0\] has 2 rows, proposals\[0\] has 1",
        ),
        ({"signal": np.zeros((2, 5))}, None, r"signal\[0\] has shape \(5,\).*\(steps, channels\)"),
        ({"signal": np.zeros((2, 5, 1), bool)}, None, r"signal\[0\].*type bool; wanted: numbers"),
        (
            {"signal": np.zeros((2, 5, 1))},
            (6, 1),
            r"signal\[0\] has shape \(5, 1\); wanted: \(6, 1",
        ),
        ({"signal": [np.zeros((5, 1)), np.zeros(5)]}, None, r"signal\[1\] has shape \(5,\)"),
        ({"length": [1.5]}, None, "length has rank 1, type float64"),
        ({"target": np.zeros((2, 1, 1))}, None, r"target has shape \(2, 1, 1\)"),
        ({"target": ["a"]}, None, "target has shape .*, type <U1; wanted: numbers"),
        (
            {"target": [np.zeros(2), np.zeros(3)]},
            None,
            r"target\[1\] has shape \(3,\), target\[0\]",
        ),
        ({"image": objects(IMAGES[0], IMAGES[1, 0])}, None, r"image\[1\] has rank 2"),
        ({"signal": [[[1], [2, 3]]]}, None, r"signal\[0\] has rows that differ in length"),
        ({"image": 3}, None, "image: int is neither"),
        ({"image": np.uint8(3)}, None, "image: uint8 is neither"),
    ],
)
def test_bad_arrays_are_refused_with_key_and_value(arrays, shape, message):
    with pytest.raises(Refused, match=message):
        Arrays(arrays, about(shape=shape))


def test_a_set_without_labels_says_which_keys_it_has():
    with pytest.raises(Refused, match=r"'toy' has no label; its keys: \['image'\]"):
        _ = Arrays({"image": IMAGES}, about()).labels


def test_fingerprint_is_of_the_contents_alone():
    # pinned: the same on every platform
    assert toy().fingerprint == "9e8d56aca6f1229c413d2a47e8df4bda74837695eeff59ae64ab278ab6802f7b"
    same = [
        Arrays({"label": LABELS.astype(np.int16), "image": IMAGES}, about()),  # order of keys
        toy(image=np.asfortranarray(IMAGES)),
        Arrays({"image": IMAGES, "label": LABELS}, about(name="other", split="test")),
        toy(label=LABELS.astype(">i8")),
    ]
    assert {source.fingerprint for source in same} == {toy().fingerprint}
    big = np.array([[1.0], [2.0], [3.0]], ">f4")
    assert toy(x=big).fingerprint == toy(x=big.astype("<f4")).fingerprint


def test_fingerprint_sees_order_shape_type_and_values():
    other = IMAGES.copy()
    other[2, 3, 4, 0] ^= 1
    rows = [BOX[:0], np.repeat(BOX, 2, 0), BOX]
    sources = [
        toy(),
        toy(image=IMAGES[::-1]),
        toy(image=IMAGES.reshape(3, 5, 4, 1)),
        toy(image=IMAGES.reshape(3, 2, 5, 2)),
        toy(image=other),
        toy(image=list(IMAGES)),
        toy(label=[1, 1, 0]),
        toy(boxes=rows),
        toy(boxes=[rows[1], rows[0], rows[2]]),
        toy(x=np.zeros(3, np.float32)),
        toy(x=np.zeros(3, np.int32)),
        toy(y=np.zeros(3, np.int32)),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
