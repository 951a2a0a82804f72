"""What is written of predictions: lines, and names of pictures."""

import csv
import json
import os
import pathlib
import resource

import pytest
from PIL import Image

from train.files import WriteFailed
from train.refusal import Refused
from train.results import Lines, names, save

ROWS = [
    {"file": "a, b.jpg", "score": 0.25, "scores": {"x": 0.75, "é": 0.25}},
    {"file": os.fsdecode(b"\xff\nc.jpg"), "score": 0.5, "scores": {"x": 0.5, "é": 0.5}},
]


def test_csv(tmp_path):
    path = tmp_path / "new" / "p.csv"
    with Lines(path) as lines:
        for row in ROWS:
            lines.add(row)
            assert path.stat().st_size  # there at once
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [*found[0]] == ["file", "score", "scores.x", "scores.é"]
    assert found[0]["file"] == "a, b.jpg"
    assert found[1]["file"] == r"\xff\nc.jpg"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3  # a line a file
    assert float(found[0]["scores.x"]) == 0.75


def test_json_keeps_names_that_are_not_utf_8(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("of before")
    with Lines(path) as lines:
        for row in ROWS:
            lines.add(row)
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == ROWS


def test_another_ending_and_a_folder_that_cannot_be(tmp_path):
    with pytest.raises(Refused, match=r"'\.xlsx' is unknown; nearest: \.csv, \.jsonl"):
        Lines(tmp_path / "p.xlsx")
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="can't be made"):
        Lines(tmp_path / "file" / "p.csv")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["a/x.jpg", "b/x.jpg"], ["a/x.png", "b/x.png"]),
        (["a/x.jpg"], ["x.png"]),
        (["x.jpg", "x.tif"], ["x.png", "x.tif.png"]),
        (["x.jpg", "X.jpg", "x.JPG"], ["x.png", "X.jpg.png", "x.JPG-2.png"]),
        (["x.png.png", "x.png", "x.jpg"], ["x.png.png", "x.png", "x.jpg.png"]),
        (["../up/x", "y"], ["up/x.png", "here/y.png"]),
        ([], []),
    ],
)
def test_no_two_pictures_have_one_name(given, wanted, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert [str(name) for name in names([*map(pathlib.Path, given)])] == wanted


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("b/a.gif", "GIF")]
)
def test_a_picture_is_of_the_kind_that_its_name_says(tmp_path, name, kind):
    save(Image.new("RGB", (4, 3)), tmp_path / name)
    with Image.open(tmp_path / name) as found:
        assert (found.format, found.size) == (kind, (4, 3))


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.txt"])
def test_a_name_that_is_no_picture_s_is_refused(tmp_path, name):
    with pytest.raises(Refused, match=r"^out='.*/a\S*': '\S*' is no ending of a picture's name"):
        save(Image.new("RGB", (4, 3)), tmp_path / name, field="out")
    assert [*tmp_path.iterdir()] == []


def test_a_picture_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "a.png"
    save(Image.new("RGB", (4, 3)), path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(WriteFailed, match="File too large"):
            save(Image.new("RGB", (9, 9)), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [*tmp_path.iterdir()] == [path]
