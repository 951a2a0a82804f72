"""Segmentation's part: figures by hand, pictures exact, the worst first."""

import base64
import io
import re
import zlib

import numpy as np
from PIL import Image

from train.data.decode import Unreadable
from train.data.source import About
from train.report.segmentation import (
    IGNORED,
    TYPICAL,
    WORST,
    WRONG,
    errors_over,
    painted,
    segmentation_part,
)
from train.tasks.task import Summary

NARROW = "\N{NARROW NO-BREAK SPACE}"
COLOURS = ((0, 0, 0), (230, 159, 0), (86, 180, 233))
ABOUT = About(
    "pets",
    "test",
    ("a", "b"),
    mirror=True,
    mask_classes=("ground", "<cat>", "dog"),
    colours=COLOURS,
)


class Pictures:
    """A source whose example i is a picture of the value i, and a mask."""

    about = ABOUT

    def __len__(self):
        return 30

    def __getitem__(self, i):
        mask = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)
        return {"image": np.full((2, 3, 3), i, np.uint8), "mask": mask}


GUESS = np.array([[0, 1, 1], [2, 0, 0]], np.uint8)


def kept(count):
    mask = zlib.compress(GUESS.tobytes())
    same = {"pixel_accuracy": 0.8, "shape": (2, 3), "mask": mask}
    return [{"index": i, "iou": i / 40, **same} for i in range(count)]


def part(matrix, examples, source=None):
    summary = Summary({}, {"confusion": np.array(matrix), "worst": examples})
    return str(segmentation_part(summary, ABOUT, source or Pictures()))


def images(page):
    found = re.findall(
        r'<img class="(\w+)" alt="([^"]*)" src="data:image/png;base64,([^"]*)"', page
    )
    return {
        alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        for _, alt, content in found
    }


def test_figures_and_names():
    page = part([[6, 2, 0], [0, 2, 0], [0, 0, 0]], kept(1))
    cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", page.split("<tbody>")[1], re.DOTALL)
    rows = [[re.sub("<[^>]*>", "", c) for c in cells[i : i + 6]] for i in range(0, 24, 6)]
    # ground: 6 of 8, dice 12 / 14; cat: 2 of 4, 4 / 6; no dog is there.
    shown = ("75.00", "85.71", "100.00", "75.00", "80.00")
    assert rows[0] == ["ground", *(f"{x}{NARROW}%" for x in shown)]
    assert rows[1][:3] == ["&lt;cat&gt;", f"50.00{NARROW}%", f"66.67{NARROW}%"]
    assert rows[2] == ["dog", "–", "–", "–", "–", f"0.00{NARROW}%"]
    assert rows[3][:3] == ["mean", f"62.50{NARROW}%", f"76.19{NARROW}%"]
    assert "10 of them" in page
    assert "background: #e69f00" in page


def test_pictures_are_exact():
    found = images(part(np.eye(3, dtype=int), kept(1)))
    truth = found["example 0, the true classes"]
    np.testing.assert_array_equal(truth[0], [COLOURS[0], COLOURS[1], IGNORED])
    np.testing.assert_array_equal(
        found["example 0, the predicted classes"][0], [COLOURS[0], COLOURS[1], COLOURS[1]]
    )
    wrong = found[f"example 0, 20.0{NARROW}% wrong"]
    assert wrong[1, 1].tolist() == list(WRONG)
    assert wrong[0, 2].tolist() == list(IGNORED)
    assert (wrong == WRONG).all(-1).sum() == 1


def test_the_worst_come_first_and_typical_ones_after():
    page = part(np.eye(3, dtype=int), kept(30))
    worst, typical = page.split("Typical images")
    places = [int(n) for n in re.findall(r"no\. (\d+):", worst)]
    assert places == list(range(WORST))
    places = [int(n) for n in re.findall(r"no\. (\d+):", typical)]
    assert places == [2, 7, 12, 17, 22, 27]
    assert len(places) == TYPICAL


class Files(Pictures):
    """The same in files, of which one has gone."""

    def name(self, i):
        return f"/data/pets/JPEGImages/{i}.jpg"

    def __getitem__(self, i):
        if i == 1:
            raise Unreadable(self.name(i), i, "no such file")
        return super().__getitem__(i)


def test_images_are_named_by_their_files_and_one_that_is_lost_costs_no_other():
    page = part(np.eye(3, dtype=int), kept(3), Files()).split("Typical images")[0]
    said = f"{2.5:.1f}{NARROW}%, 20.0{NARROW}% of the pixels wrong"
    assert f'<p title="JPEGImages/1.jpg">1.jpg: mean IoU {said}' in page
    assert page.count('<div class="four">') == 2
    assert page.count("No picture: Unreadable:") == 1


def test_no_example_no_gallery():
    page = part(np.eye(3, dtype=int), [])
    assert "Worst" not in page
    assert "no. " not in page


def test_greys_where_the_set_has_no_colours():
    about = About("x", "test", (), mirror=False, mask_classes=("a", "b", "c"))
    np.testing.assert_array_equal(
        painted(np.array([[0, 1, 2]], np.uint8), about)[0, :, 0], [0, 128, 255]
    )


def test_one_channel_is_grey():
    image = np.zeros((1, 2, 1), np.uint8)
    drawn = errors_over(image, np.array([[False, True]]), np.array([[True, True]]))
    np.testing.assert_array_equal(drawn, [[(160, 160, 160), WRONG]])
