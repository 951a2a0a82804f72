"""What predictions become: their mean over runs, a row, a line, a picture."""

import dataclasses

import numpy as np
import pytest

from train import shown as module
from train.data.legend import colours
from train.data.source import About
from train.refusal import Refused
from train.results import Lines
from train.shown import BOXES, CLASSES, MASKS, NUMBERS, Found, shown

ABOUT = About("x", "train", ("cat", "dog", "eel"), True)
MASKED = About("x", "train", (), True, mask_classes=("ground", "a", "b"), colours=colours(3))
IMAGE = np.full((3, 4, 3), 100, np.uint8)


def test_scores():
    kept = [{"scores": np.float32(one)} for one in ([0.5, 0.25, 0.25], [0.0, 0.75, 0.25])]
    mean = CLASSES.joined(kept)
    assert mean.tolist() == [0.25, 0.5, 0.25]
    assert CLASSES.row(mean, ABOUT) == {
        "prediction": "dog", "score": 0.5, "scores": {"cat": 0.25, "dog": 0.5, "eel": 0.25},
    }  # fmt: skip
    assert CLASSES.words(mean, ABOUT, 2) == "dog 0.5000  cat 0.2500"
    drawn = np.asarray(CLASSES.drawn(IMAGE, mean, ABOUT))
    left = (drawn.shape[1] - 4) // 2
    np.testing.assert_array_equal(drawn[:3, left : left + 4], IMAGE)
    assert (drawn[3:] < 100).any()  # words


def test_numbers():
    about = dataclasses.replace(ABOUT, classes=(), targets=("+1", "+2"), shape=(5, 1))
    kept = [{"target": np.float32(one)} for one in ([1.0, -2.0], [3.0, 0.0])]
    mean = NUMBERS.joined(kept)
    assert mean.tolist() == [2, -1]
    assert NUMBERS.row(mean, about) == {"+1": 2.0, "+2": -1.0}
    assert NUMBERS.words(mean, about, 3) == "+1 2  +2 -1"
    assert NUMBERS.words(mean, about, 1) == "+1 2  and 1 more"
    assert shown({"target": mean}) is NUMBERS
    signal = np.zeros((5, 1))
    ahead = np.asarray(NUMBERS.drawn(signal, mean, about))
    other = dataclasses.replace(about, targets=("pitch", "level"))
    assert not np.array_equal(ahead, np.asarray(NUMBERS.drawn(signal, mean, other)))
    picture = np.asarray(NUMBERS.drawn(IMAGE, mean, dataclasses.replace(about, shape=(3, 4, 3))))
    assert (picture[3:] < 100).any()  # words below it


def test_names_of_any_letters_are_drawn():
    about = About("x", "train", ("\u732b", "\udcff\n"), True)
    cat, odd = (np.asarray(CLASSES.drawn(IMAGE, np.eye(2)[c], about)) for c in (0, 1))
    assert (odd[3:] < 100).any()
    other = dataclasses.replace(about, classes=("\u4e2d", ""))
    box = np.asarray(CLASSES.drawn(IMAGE, np.eye(2)[0], other))
    assert not np.array_equal(cat, box)  # neither is the box for what a font lacks


def test_a_mask_of_one_run_goes_to_the_pixels_of_the_source():
    """A picture of 2 x 4, halved in width, lay in the second row of a mask of 4 x 2."""
    mask = np.array([[0, 0], [1, 2], [2, 1], [0, 0]], np.uint8)
    matrix = np.array([[0.5, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32)
    kept = {"mask": mask, "matrix": matrix, "size": np.array([2, 4])}
    found = MASKS.joined([kept])
    assert found.tolist() == [[1, 1, 2, 2], [2, 2, 1, 1]]
    assert MASKS.row(found, MASKED) == {
        "height": 2, "width": 4, "shares": {"ground": 0.0, "a": 0.5, "b": 0.5},
    }  # fmt: skip
    assert MASKS.words(found, MASKED, 3) == "a 50.0 %  b 50.0 %"


@pytest.mark.parametrize("strip", [1, 2**24])
def test_masks_of_runs_at_several_sizes_are_averaged_in_the_source(strip, monkeypatch):
    monkeypatch.setattr(module, "STRIP", strip)
    rng = np.random.default_rng(0)
    kept, total = [], np.zeros((6, 8, 3))
    for k in (1, 2):  # one saw the picture as it is, one at half its size
        probabilities = rng.random((6 // k, 8 // k, 3), np.float32)
        matrix = np.diag([1 / k, 1 / k, 1]).astype(np.float32)
        kept.append(
            {"probabilities": probabilities, "matrix": matrix, "size": np.array([6, 8], np.int32)}
        )
        total += probabilities.repeat(k, 0).repeat(k, 1)
    np.testing.assert_array_equal(MASKS.joined(kept), total.argmax(-1))


def test_pictures_of_masks():
    mask = np.array([[0, 1, 2, 0]] * 3, np.uint8)
    painted = np.asarray(MASKS.drawn(IMAGE, mask, MASKED))
    assert painted.shape == IMAGE.shape
    assert painted[0, 1].tolist() == [114, 50, 50]  # half of (128, 0, 0)
    assert painted[0, 0].tolist() == [100, 100, 100]
    assert MASKS.mask is not None
    png = MASKS.mask(mask, MASKED)
    assert png.mode == "P"
    np.testing.assert_array_equal(np.asarray(png), mask)
    assert png.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_which_way_predictions_are_shown():
    assert shown(np.zeros((2, 3))) is CLASSES
    assert shown({"mask": 0, "probabilities": 0}) is MASKS
    with pytest.raises(Refused, match="predicts boxes, scores can't be shown yet"):
        shown({"boxes": 0, "scores": 0})


def found(*rows):
    """Of (box, score, label)."""
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Found(np.float32(boxes).reshape(-1, 4), np.float32(scores), np.int32(labels), (20, 30))


def test_detections():
    some = found(((1, 2, 9, 8), 0.75, 2), ((0, 0, 5, 5), 0.5, 0), ((0, 0, 2, 2), 0.125, 1))
    assert BOXES.row(some, ABOUT) == {
        "height": 20,
        "width": 30,
        "detections": [
            {"class": "eel", "score": 0.75, "box": [1, 2, 9, 8]},
            {"class": "cat", "score": 0.5, "box": [0, 0, 5, 5]},
            {"class": "dog", "score": 0.125, "box": [0, 0, 2, 2]},
        ],
    }
    assert [one["class"] for one in BOXES.cells(some, ABOUT)] == ["eel", "cat", "dog"]
    assert BOXES.words(some, ABOUT, 3) == "eel 0.75  cat 0.50"  # the third is unlikely
    assert BOXES.words(some, ABOUT, 1) == "eel 0.75  and 1 more"
    image = np.full((20, 30, 3), 255, np.uint8)
    drawn = np.asarray(BOXES.drawn(image, some, ABOUT))
    assert drawn.shape == (320, 480, 3)  # names need room
    assert (drawn[8 * 16 - 1, 16 : 9 * 16] != 255).any(-1).all()
    unlikely = np.asarray(BOXES.drawn(image, found(((0, 0, 2, 2), 0.125, 1)), ABOUT))
    np.testing.assert_array_equal(unlikely, np.full((320, 480, 3), 255))


def test_no_detections(tmp_path):
    none = found()
    assert BOXES.row(none, ABOUT) == {"height": 20, "width": 30, "detections": []}
    assert BOXES.words(none, ABOUT, 3) == "no box with a score of 0.3 or more"
    with Lines(tmp_path / "found.csv") as lines:
        for one in (none, found(((1, 2, 9, 8), 0.75, 2))):
            for row in BOXES.cells(one, ABOUT):
                lines.add({"file": "x.png", **row})
    assert (tmp_path / "found.csv").read_text().splitlines() == [
        "file,class,score,x0,y0,x1,y1",
        "x.png,,,,,,",
        "x.png,eel,0.75,1.0,2.0,9.0,8.0",
    ]
