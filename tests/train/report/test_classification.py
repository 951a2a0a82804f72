"""Classification's part: numbers by hand, names escaped, pictures exact."""

import base64
import io
import re
from functools import partial
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import classification_report

from train.data.decode import Unreadable
from train.data.source import About
from train.report.classification import (
    PICTURES,
    Confusion,
    classification_part,
    confusions,
    draw_confusion,
)
from train.report.markup import SHRUNK, figure, number, percent, picture
from train.tasks.task import Summary

NARROW = "\N{NARROW NO-BREAK SPACE}"
CLASSES = ("cat", "<b>dog</b>", "$x^2 & co")
MATRIX = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])


class Pictures:
    """A source whose example i is a picture of the value i."""

    def __init__(self, shape=(4, 6, 3)):
        self.about = About("pets", "test", CLASSES, True, shape)
        self.shape = shape

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return {"image": np.full(self.shape, i, np.uint8)}


class Cells(HTMLParser):
    """Rows of all tables as text, texts outside them, and every tag with its attributes."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.texts, self.tags = [], [], []
        self._in_cell = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._in_cell = True
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.rows[-1][-1] += data
        elif data.strip():
            self.texts.append(re.sub(r"[ \n]+", " ", data).strip())


def opened(markup, kind):
    content = re.search(rf"data:image/{kind};base64,([^\"]*)", markup)[1]
    return Image.open(io.BytesIO(base64.b64decode(content)))


def part(mistakes, matrix=MATRIX, source=None):
    source = source or Pictures()
    summary = Summary({}, {"confusion": matrix, "mistakes": mistakes})
    return Cells(str(classification_part(summary, source.about, source)))


def mistake(index=0, label=0, predicted=1, confidence=0.5):
    return {"index": index, "label": label, "predicted": predicted, "confidence": confidence}


def test_every_class_has_its_scores():
    rows = part([]).rows
    assert [f"{88.89}{NARROW}%", "80.00" + f"{NARROW}%", f"{84.21}{NARROW}%", "10"] in [
        row[1:] for row in rows if row[0] == "cat"
    ]
    assert ["<b>dog</b>", *(f"{x}{NARROW}%" for x in ("81.82", "90.00", "85.71")), "10"] in rows
    assert ["$x^2 & co", "–", "–", "–", "0"] in rows  # it has no example


def test_classes_without_examples_are_counted():
    said = "1 class has no example in the test split and no scores."
    assert any(said in text for text in part([]).texts)
    assert not any("no example" in text for text in part([], np.diag([3, 4, 5])).texts)


def test_the_averages_are_those_of_scikit_learn():
    """`classification_report` of the same 20 pairs, its third class without examples."""
    rows = part([]).rows
    truth, said = (np.repeat(axis, MATRIX.ravel()) for axis in np.indices((3, 3)).reshape(2, -1))
    # Of the labels that occur alone: the third has none, and counts in no average.
    expected = classification_report(truth, said, output_dict=True, zero_division=0)
    micro = [expected["accuracy"]] * 3
    assert rows[-3:] == [
        [f"{name} average", *(percent(value) for value in three), "20"]
        for name, three in (
            ("macro", list(expected["macro avg"].values())[:3]),
            ("micro", micro),
            ("weighted", list(expected["weighted avg"].values())[:3]),
        )
    ]


def test_the_most_frequent_confusions_come_first():
    assert ["cat", "<b>dog</b>", "2", f"20.0{NARROW}%"] in part([]).rows
    assert confusions(MATRIX, CLASSES) == [
        Confusion("cat", "<b>dog</b>", 2, 0.2),
        Confusion("<b>dog</b>", "cat", 1, 0.1),
    ]
    assert confusions(np.diag([3, 4, 5]), CLASSES) == []
    many = np.arange(100).reshape(10, 10)
    names = tuple("abcdefghij")
    assert [c.examples for c in confusions(many, names)] == [98, 97, 96, 95, 94, 93, 92, 91, 90, 89]
    equal = confusions(np.ones((40, 40), int), tuple(map(str, range(40))))
    assert [(c.truth, c.predicted) for c in equal] == [("0", str(p)) for p in range(1, 11)]
    assert confusions(many, names)[0].truth == "j"
    assert confusions(many, names)[0].predicted == "i"


def test_names_from_the_data_are_text():
    found = part([mistake(label=1, predicted=2, confidence=0.987)])
    assert "b" not in [tag for tag, _ in found.tags]
    (image,) = (a for tag, a in found.tags if tag == "img" and a.get("class") == "pixels")
    assert image["alt"] == f"<b>dog</b>, taken for $x^2 & co with 98.7{NARROW}%"
    assert found.texts[-7:] == [
        *("truth", "<b>dog</b>", "said", "$x^2 & co", "sure", f"98.7{NARROW}%", "no. 0")
    ]


class Files(Pictures):
    """The same in files, of which one has gone."""

    def name(self, i):
        return f"/data/pets/test/{'dog' if i % 2 else 'cat'}/<{i}>.jpg"

    def __getitem__(self, i):
        if i == 3:
            raise Unreadable(self.name(i), i, "no such file")
        return super().__getitem__(i)


def test_a_mistake_is_named_by_its_file():
    found = part([mistake(index=7)], source=Files())
    assert found.texts[-1] == "<7>.jpg"
    assert ("p", {"class": "place", "title": "test/dog/<7>.jpg"}) in found.tags


def test_a_picture_that_cannot_be_read_costs_no_other():
    found = part([mistake(index=i) for i in (2, 3, 4)], source=Files())
    pictures = [a for tag, a in found.tags if tag == "img" and a.get("class") == "pixels"]
    assert len(pictures) == 2
    assert sum(text.startswith("No picture: Unreadable:") for text in found.texts) == 1
    assert "<3>.jpg" in found.texts


def test_an_example_without_a_picture_is_a_mistake_all_the_same():
    class Signals(Pictures):
        def __getitem__(self, i):
            return {"signal": np.zeros((4, 1), np.float32)}

    found = part([mistake(index=5)], source=Signals())
    assert "no. 5" in found.texts
    assert not any("No picture" in text for text in found.texts)


def test_the_pictures_are_those_of_the_mistakes():
    found = part([mistake(index=i, confidence=1 - i / 100) for i in (7, 3, 12)])
    pictures = [a["src"] for tag, a in found.tags if tag == "img" and a.get("class") == "pixels"]
    values = []
    for source in pictures:
        kind, content = source.split(",")
        assert kind == "data:image/png;base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        assert pixels.shape == (4, 6, 3)
        values.append(int(pixels[0, 0, 0]))
    assert values == [7, 3, 12]


@pytest.mark.parametrize(
    ("matrix", "mistakes", "text"),
    [
        (
            np.diag([3, 4, 5]),
            [],
            "None: all 12 examples of the test split are classified correctly.",
        ),
        (MATRIX, [], "3 of 20 examples are misjudged; none was kept to be shown."),
        (MATRIX, [mistake()], "1 of 3 mistakes on 20 examples"),
        (10 * MATRIX, [mistake()] * 30, f"{PICTURES} of 30 mistakes on 200 examples"),
        (1000 * MATRIX, [mistake()] * 30, f"{PICTURES} of 3,000 mistakes on 20,000 examples"),
    ],
)
def test_how_many_mistakes_there_are(matrix, mistakes, text):
    found = part(mistakes, matrix)
    assert any(text in one for one in found.texts)
    shown = [a for tag, a in found.tags if a.get("class") == "mistake"]
    assert len(shown) == min(len(mistakes), PICTURES)


@pytest.mark.parametrize("count", [2, 10, 20, 21, 100, 150])
def test_the_matrix_is_legible(count):
    matrix = np.eye(count, dtype=np.int64) * 7
    matrix[0, 1] = 3
    names = tuple(f"class {i} $_<{'x' * 20}" for i in range(count))
    axes = draw_confusion(matrix, names).axes[0]
    cells = [text.get_text() for text in axes.texts]
    assert cells == (["7", "3", *["7"] * (count - 1)] if count <= 20 else [])
    labels = [label.get_text() for label in axes.get_yticklabels()]
    if count <= 120:
        assert labels == [f"{name[:17]}…" for name in names]
    shares = axes.images[0].get_array()
    assert shares[0, 0] == pytest.approx(0.7)
    assert shares[0, 1] == pytest.approx(0.3)
    assert axes.get_xlabel() == "prediction"
    assert axes.get_ylabel() == "truth"


def test_a_name_in_any_script_is_drawn_as_text():
    names = ("猫", "кот", "a<b$\\frac$", "caf\udce9", "two\nlines", "ไทย \U0001f408")
    markup = figure(partial(draw_confusion, np.eye(6, dtype=int), names), 'a "b"')
    match = re.fullmatch(r'<img alt="a &#34;b&#34;" width="\d+" height="\d+" src="(.*)">', markup)
    kind, content = match[1].split(",")
    drawn = base64.b64decode(content).decode()
    assert kind == "data:image/svg+xml;base64"
    assert ">猫</text>" in drawn
    assert ">кот</text>" in drawn
    assert ">a&lt;b$\\frac$</text>" in drawn
    assert ">caf\\xe9</text>" in drawn
    assert ">two\\nlines</text>" in drawn
    assert ">ไทย \U0001f408</text>" in drawn
    ElementTree.fromstring(drawn)  # it is XML


@pytest.mark.parametrize(
    ("shape", "size", "kind"),
    [
        ((8, 8, 1), (8, 8), "png"),
        ((64, 64, 3), (64, 64), "png"),
        ((300, 400, 3), (SHRUNK, 3 * SHRUNK // 4), "jpeg"),
        ((400, 300, 1), (3 * SHRUNK // 4, SHRUNK), "jpeg"),
    ],
)
def test_pictures_small_and_large(shape, size, kind):
    assert opened(picture(np.zeros(shape, np.uint8), "p"), kind).size == size


@pytest.mark.parametrize(
    ("value", "dtype", "shown"),
    [
        ([7], np.uint8, 7),
        ([7, 8, 9], np.uint8, [7, 8, 9]),
        ([7, 8, 9, 0], np.uint8, [7, 8, 9]),
        ([7, 8], np.uint8, 7),
        ([7, 8, 9, 10, 11], np.uint8, 7),
        ([-3.0, 7.6, 300.0], np.float32, [0, 8, 255]),
        ([np.nan], np.float32, 0),
        ([300], np.uint16, 255),
        ([True], np.bool_, 1),
    ],
)
def test_no_kind_of_pixels_loses_the_page(value, dtype, shown):
    pixels = np.broadcast_to(np.asarray(value, dtype), (2, 3, len(value)))
    found = np.asarray(opened(picture(pixels, "p"), "png"))
    assert found.shape[:2] == (2, 3)
    np.testing.assert_array_equal(found[1, 2], shown)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234, "1,234"),
        (0.12345, "0.1235"),
        (0, "0"),
        (0.0, "0.0000"),
        (1e-5, "1e-05"),
        (3.25, "3.2500"),
        (3018.77, "3,018.8"),
        (-123456.7, "-123,457"),
        (float("nan"), "–"),
        (None, "–"),
        (np.int64(12), "12"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_percentages():
    assert percent(0.98765) == f"98.77{NARROW}%"
    assert percent(float("nan")) == "–"
