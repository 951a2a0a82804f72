"""Detection's part: figures by hand, boxes where they were found, what has no objects."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from train.data.source import About
from train.metrics.detection import Curve
from train.report.detection import LONGEST, best_score, detection_part, row
from train.report.overlay import LINES
from train.tasks.detection.summary import summarise

NARROW = "\N{NARROW NO-BREAK SPACE}"
ABOUT = About("pets", "test", ("<cat>", "dog", "bird"), mirror=True, shape=(40, 60, 3))


class Pictures:
    """A source whose example i is a picture of the value i."""

    about = ABOUT

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"image": np.full((40, 60, 3), i, np.uint8)}


def example(index, found, there):
    """Rows of `found` are x0 y0 x1 y1 score label; of `there` x0 y0 x1 y1 label."""
    found = np.array(found, np.float32).reshape(-1, 6)
    there = np.array(there, np.float32).reshape(-1, 5)
    none = np.zeros(len(there), bool)
    return {
        "index": index,
        "size": np.array([40, 60]),
        "boxes": found[:, :4],
        "scores": found[:, 4],
        "labels": found[:, 5].astype(np.int32),
        "true_boxes": there[:, :4],
        "true_labels": there[:, 4].astype(np.int32),
        "crowd": none,
        "difficult": none,
    }


EXAMPLES = [
    # A cat that is found, and a second time; a dog that is missed.
    example(
        0,
        [[0, 0, 20, 20, 0.9, 0], [1, 0, 20, 20, 0.8, 0]],
        [[0, 0, 20, 20, 0], [30, 10, 50, 30, 1]],
    ),
    # A dog that is taken for a cat; and one found of a score that is not shown.
    example(1, [[5, 5, 25, 25, 0.7, 0], [0, 0, 9, 9, 0.01, 1]], [[5, 5, 25, 25, 1]]),
    example(2, [], []),
]


def part(examples):
    return str(detection_part(summarise({"count": 3}, examples, 3), ABOUT, Pictures()))


def test_figures_and_errors_by_hand():
    page = part(EXAMPLES)
    # The best F1 is that of the first detection alone: 2 * 1 / (1 + 3).
    assert "score of 0.900 or" in page
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', page, re.S)
    shown = {name: re.findall(r'class="n">([^<]*)<', cells) for name, cells in rows}
    assert shown["&lt;cat&gt;"] == [f"{100:.2f}{NARROW}%"] * 3 + ["1"]
    assert shown["dog"] == [f"0.00{NARROW}%", "–", f"0.00{NARROW}%", "2"]
    assert shown["bird"] == ["–", "–", "–", "0"]
    assert [shown[name] for name in ("correct", "class", "repeated", "missed")] == [
        ["1"],
        ["0"],
        ["0"],
        ["2"],
    ]
    assert "no. 2: no object and no detection" in page
    assert "no. 1: 1 missed" in page


def test_boxes_are_drawn_where_they_were_found():
    page = part(EXAMPLES)
    pictures = re.findall(r'alt="example 0, (\w+)" src="data:image/png;base64,([^"]+)"', page)
    drawn = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for name, data in pictures
    }
    scale = LONGEST // 120
    for picture in drawn.values():
        assert picture.shape == (40 * scale, 60 * scale, 3)
        assert picture[19 * scale, 20 * scale - 1].tolist() == list(LINES[0])
    # The dog is there, and was not found.
    assert drawn["truth"][30 * scale - 1, 40 * scale].tolist() == list(LINES[1])
    assert drawn["found"][30 * scale - 1, 40 * scale].tolist() == [0, 0, 0]


def test_large_pictures_are_shrunk_with_their_boxes():
    class Large(Pictures):
        def __getitem__(self, i):
            return {"image": np.zeros((400, 3 * LONGEST, 1), np.uint8)}

    examples = [example(0, [[300, 0, 600, 300, 0.9, 0]], [[300, 0, 600, 300, 0]])]
    page = str(detection_part(summarise({"count": 1}, examples, 3), ABOUT, Large()))
    (data,) = re.findall(r'alt="example 0, truth" src="data:image/png;base64,([^"]+)"', page)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
    assert picture.shape == (133, LONGEST, 3)
    assert picture[50, 199].tolist() == list(LINES[0])


def test_nothing_found_and_nothing_there():
    page = part([example(0, [], [])])
    assert "0 objects" in page
    assert "Worst images" not in page
    assert "no object and no detection" in page


def test_a_missing_picture_costs_no_section():
    class Gone(Pictures):
        def __getitem__(self, i):
            raise OSError("gone")

    page = str(detection_part(summarise({"count": 3}, EXAMPLES, 3), ABOUT, Gone()))
    assert page.count("No picture") == 5  # three typical ones, and the two with errors


@pytest.mark.parametrize(
    ("found", "scores", "positives", "best"),
    [
        # F1 of the first one, two, three: 2/4, 2/5, 4/6.
        ([1, 1, 2], [0.9, 0.5, 0.2], 3, 0.2),
        # 2/3, 2/4: the first alone.
        ([1, 1], [0.9, 0.5], 2, 0.9),
        # Equal scores count together: 2/4 and not 2/3.
        ([1, 1], [0.5, 0.5], 2, 0.5),
        ([0, 0], [0.9, 0.5], 2, 0.0),
        ([], [], 2, 0.0),
    ],
)
def test_the_score_where_f1_is_best(found, scores, positives, best):
    precision = np.divide(found, np.arange(1, len(found) + 1))
    curve = Curve(np.array(found, int), precision, np.array(scores), positives)
    empty = Curve(np.zeros(0, int), np.zeros(0), np.zeros(0), 0)
    assert best_score([curve, empty]) == best
    assert best_score([]) == 0


def test_a_row_from_a_score_on():
    curve = Curve(np.array([1, 1, 2]), np.array([1, 1 / 2, 2 / 3]), np.array([0.9, 0.5, 0.2]), 4)
    assert row("cat", curve, 0.5)[2:] == (1 / 4, 1 / 2, 4)
    assert row("cat", curve, 0.2)[2:] == (2 / 4, 2 / 3, 4)
    assert row("cat", curve, 0.95)[2:] == (0.0, None, 4)
