"""Which pictures are meant by files, folders and patterns."""

import os

import pytest
from image_files import pixels, save

from train.data.finding import find
from train.refusal import Refused


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "b.JPG", "a.png", "é.webp", "[1].png", "1.png", ".hidden.png", "notes.txt", "sub/c.ppm",
        "sub/deep/d.avif", ".git/e.png", "photo.mpo", "x.jp2", "elsewhere/f.tif",
    ):  # fmt: skip
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "in"


def names(found):
    return [os.path.relpath(path, "in") for path in found]


def test_a_folder_with_all_below_it_in_order(tree):
    found = find(["in"])
    assert names(found.pictures) == [
        "1.png", "[1].png", "a.png", "b.JPG", "photo.mpo", "x.jp2", "é.webp", "elsewhere/f.tif",
        "sub/c.ppm", "sub/deep/d.avif",
    ]  # fmt: skip
    assert names(found.others) == ["notes.txt"]


def test_files_as_they_are_asked_and_each_once(tree):
    asked = ["in/b.JPG", "in/notes.txt", "in/sub", "in", str(tree / "a.png")]
    found = names(find(asked).pictures)
    assert found[:4] == ["b.JPG", "notes.txt", "sub/c.ppm", "sub/deep/d.avif"]
    assert len(found) == len(set(found)) == 11


def test_patterns_and_names_that_look_like_one(tree):
    assert names(find(["in/*.png"]).pictures) == ["1.png", "[1].png", "a.png"]
    assert names(find(["in/[1].png"]).pictures) == ["[1].png"]
    assert names(find(["in/**/*.ppm"]).pictures) == ["sub/c.ppm"]
    assert names(find(["in/s*"]).pictures) == ["sub/c.ppm", "sub/deep/d.avif"]


def test_links_lead_in_no_circle(tree):
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "again").symlink_to(tree / "elsewhere")
    (tree / "lost.png").symlink_to(tree / "nowhere.png")
    found = names(find(["in"]).pictures)
    assert [name for name in found if name.endswith("f.tif")] == ["again/f.tif"]
    assert "lost.png" in found
    assert len(found) == 11


def test_a_picture_without_an_ending_is_one_as_in_training(tree):
    save(tree / "picture.png", pixels(2, 2)).rename(tree / "picture")
    (tree / "Thumbs.db").write_bytes(b"")
    found = find(["in"])
    assert "picture" in names(found.pictures)
    assert names(found.others) == ["notes.txt"]


def test_folders_that_are_written_to_are_left_out_below_others(tree):
    found = names(find(["in"], [tree / "sub"]).pictures)
    assert not [name for name in found if name.startswith("sub")]
    assert names(find(["in/sub"], [tree / "sub"]).pictures) == ["sub/c.ppm", "sub/deep/d.avif"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ([], "no picture, folder or pattern"),
        ([""], "input='' does not exist"),
        (["in/a.jpg"], "input='in/a.jpg' does not exist; nearest: .*in/a.png"),
        (["else/a.jpg"], "'else/a.jpg' does not exist; '.*' has no 'else'"),
        (["in/*.gif"], "input='in/\\*.gif': no file fits"),
        (["in/.git/none"], "does not exist"),
        (["a\0b"], "does not exist|no name of a file"),
        (["x" * 300], "does not exist|no name of a file"),
    ],
)
def test_what_is_not_there_is_refused(asked, words, tree):
    with pytest.raises(Refused, match=words):
        find(asked)


def test_a_folder_without_a_picture(tree):
    (tree / "bare").mkdir()
    (tree / "bare" / "a.csv").write_text("")
    with pytest.raises(Refused, match=r"holds no picture; it has 1 other file$"):
        find(["in/bare"])
