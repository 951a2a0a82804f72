"""What of a folder is a picture, and links."""

import io

import pytest
from image_files import pixels, save
from PIL import Image

from train.data import decode
from train.data.listing import Below, below, subfolders


def found(root, *tops):
    return [*below(root, tops)]


@pytest.mark.parametrize("name", decode.FORMATS)
def test_pictures_of_every_format_that_is_read(tmp_path, name):
    endings = [e for e, kind in Image.registered_extensions().items() if kind == name]
    content = io.BytesIO()
    Image.fromarray(pixels(16, 16)).save(content, name)
    (tmp_path / "a").mkdir()
    for ending in endings:
        (tmp_path / "a" / f"x{ending.upper()}").write_bytes(content.getvalue())
    (tmp_path / "a" / "without").write_bytes(content.getvalue())
    assert len(found(tmp_path, "a")[0].pictures) == len(endings) + 1


def test_files_are_pictures_by_their_names_and_without_an_ending_by_content(tmp_path):
    top = tmp_path / "a"
    save(top / "b.JPG", pixels(2, 2))
    save(top / "n01_1.png", pixels(2, 2)).rename(top / "n01_1")
    for name in ("empty.jpg", "space.png "):
        (top / name).write_bytes(b"")
    for name in ("Makefile", "note.txt", "c.jpg.txt", "x.heic", "y.CR2", "z.svg", "film.mp4"):
        (top / name).write_text("Python")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._b.jpg"):
        (top / name).write_text("")
    for name in ("__MACOSX", ".cache", "@eaDir"):
        save(top / name / "b.jpg", pixels(2, 2))
    assert found(tmp_path, "a") == [
        Below(
            ["a/b.JPG", "a/empty.jpg", "a/n01_1", "a/space.png "],
            ["a/x.heic", "a/y.CR2", "a/z.svg"],
            ["a/Makefile", "a/c.jpg.txt", "a/film.mp4", "a/note.txt"],
            [],
            [],
        )
    ]


def test_a_link_to_a_folder_is_entered_once(tmp_path):
    for name in ("a/1.png", "a/in/2.png", "b/3.png", "out/4.png", "out/sub/5.png"):
        save(tmp_path / name, pixels(2, 2))
    for link, target in {
        "a/above": "..",
        "a/in/top": "../../a",
        "a/in/x-other": "../../b",
        "b/y": "../a/in",
        "b/itself": "itself",
        "b/more": "../out",
        "b/moreover": "../out",
        "b/sub": "../out/sub",
        "a/gone": "nothing",
        "a/gone.png": "nothing",
        "out/back": "../b",
    }.items():
        (tmp_path / link).symlink_to(target)
    a, b = found(tmp_path, "a", "b")
    assert a == Below(
        ["a/1.png", "a/gone.png", "a/in/2.png"],
        [],
        [],
        ["a/gone", "a/gone.png"],
        ["a/above", "a/in/top", "a/in/x-other"],
    )
    assert b == Below(
        ["b/3.png", "b/more/4.png", "b/more/sub/5.png"],
        [],
        [],
        ["b/itself"],
        ["b/more/back", "b/moreover", "b/sub", "b/y"],
    )


def test_links_to_each_other_end(tmp_path):
    for name in ("p", "q", "out/p", "out/q"):
        save(tmp_path / name / "1.png", pixels(2, 2))
    (tmp_path / "out/p/q").symlink_to("../q")
    (tmp_path / "out/q/p").symlink_to("../p")
    (tmp_path / "p/out").symlink_to("../out/p")
    assert found(tmp_path, "p")[0].pictures == ["p/1.png", "p/out/1.png", "p/out/q/1.png"]


def test_classes_may_be_links_but_not_to_what_is_above_or_taken(tmp_path):
    root = tmp_path / "set"
    save(tmp_path / "elsewhere" / "1.png", pixels(2, 2))
    save(root / "cat" / "2.png", pixels(2, 2))
    for link, target in {
        "dog": "../elsewhere",
        "again": "cat",
        "loop": "..",
        "here": ".",
        "gone": "nothing",
    }.items():
        (root / link).symlink_to(target)
    names = [path.name for path in subfolders(root)]
    assert names == ["again", "cat", "dog"]
    parts = dict(zip(names, below(root, names), strict=True))
    assert parts["dog"].pictures == ["dog/1.png"]
    assert parts["cat"].pictures == ["cat/2.png"]
    assert (parts["again"].pictures, parts["again"].again) == ([], ["again"])


def test_the_order_is_that_of_the_composed_names_files_first(tmp_path):
    for name in ("é.png", "e\u0301a.png", "z.png", "a/1.png", "Z/2.png"):
        save(tmp_path / "top" / name, pixels(2, 2))
    assert [name.removeprefix("top/") for name in found(tmp_path, "top")[0].pictures] == [
        "z.png", "é.png", "e\u0301a.png", "Z/2.png", "a/1.png",
    ]  # fmt: skip
