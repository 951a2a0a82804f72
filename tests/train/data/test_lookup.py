import os
import pickle
import unicodedata

import pytest

from train.data.lookup import Lookup

FILES = (
    *("a.jpg", "B.JPG", "c d.png", "e.jpg", "e.png", "f.tar.JPEG", "g.txt", "scan.tif.jpg"),
    *("h.JPG", "H.jpg", "sub/k.jpg", "Sub2/K.PNG", unicodedata.normalize("NFD", "é.jpg")),
)
ENDINGS = (".jpeg", ".jpg", ".png", ".tif")


@pytest.fixture
def lookup(tmp_path):
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    return Lookup(tmp_path, ENDINGS)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a", ["a.jpg"]),
        ("a.jpg", ["a.jpg"]),
        ("a.JPG", ["a.jpg"]),
        ("A", ["a.jpg"]),
        ("b", ["B.JPG"]),
        ("c d", ["c d.png"]),
        ("e", ["e.jpg", "e.png"]),
        ("e.png", ["e.png"]),
        ("E.PNG", ["e.png"]),
        ("f.tar", ["f.tar.JPEG"]),
        ("scan.tif", ["scan.tif.jpg"]),
        ("h", ["h.JPG"]),
        ("H", ["H.jpg"]),
        ("H.JPG", ["H.jpg", "h.JPG"]),
        ("sub/k", ["sub/k.jpg"]),
        ("sub\\k.jpg", ["sub/k.jpg"]),
        ("./sub/k", ["sub/k.jpg"]),
        ("SUB2/k", ["Sub2/K.PNG"]),
        ("é", [unicodedata.normalize("NFD", "é.jpg")]),
        ("gone", ["gone.jpg"]),
        ("g", []),
        ("g.txt", []),
        ("sub", []),
        ("nowhere/k", []),
        ("a/b", []),
        ("a" * 300, []),
        ("a" * 300 + "/b", []),
        ("a\0b/c", []),
        ("", []),
    ],
)
def test_what_a_name_means(lookup, tmp_path, name, found):
    wanted = [tmp_path / each for each in found]
    assert lookup.find(name) == wanted
    assert pickle.loads(pickle.dumps(lookup)).find(name) == wanted


def test_a_folder_is_listed_once(lookup, monkeypatch):
    assert lookup.find("a")
    monkeypatch.setattr(os, "listdir", None)
    assert lookup.find("b")


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert Lookup(tmp_path / "gone", ENDINGS).find("a") == []


def test_a_name_without_its_ending(lookup):
    bare = {"a.jpg": "a", "A.JPG": "A", "a": "a", "a.txt": "a.txt", "a.tif.png": "a.tif"}
    assert {name: lookup.bare(name) for name in bare} == bare
