"""Names: what can't be shown is escaped, examples are called by their files."""

import numpy as np
import pytest

from train.data.arrays import Arrays
from train.data.folder import folder
from train.data.keys import Wanted
from train.data.source import About
from train.data.subset import cut, subset
from train.report.names import called, places


class Named:
    """A source that only knows the files of its examples."""

    about = About("birds", "test", (), mirror=True)

    def __init__(self, *files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def name(self, i):
        return self.files[i]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            ("/a/pets/test/cat/1.jpg", "/a/pets/test/dog/2.jpg"),
            ["test/cat/1.jpg", "test/dog/2.jpg"],
        ),
        (("/a/val2017/sub/1.jpg", "/a/val2017/2.jpg"), ["val2017/sub/1.jpg", "val2017/2.jpg"]),
        (("a/pets/cat/1.jpg",), ["cat/1.jpg"]),
        # The set is named after its root.
        (("/a/birds/cat/1.jpg", "/a/birds/dog/2.jpg"), ["cat/1.jpg", "dog/2.jpg"]),
        (("/a/birds/test/tit/1.jpg",), ["test/tit/1.jpg"]),
        (("birds/1.jpg",), ["1.jpg"]),
        (("1.jpg", "2.jpg"), ["1.jpg", "2.jpg"]),
        (("/1.jpg",), ["1.jpg"]),
        (("/a/1.jpg", None, "/a/2.jpg"), ["a/1.jpg", None, "a/2.jpg"]),
        (("/a/1.jpg", "b/2.jpg"), ["/a/1.jpg", "b/2.jpg"]),
        ((None, None), [None, None]),
        ((), []),
    ],
)
def test_places_begin_at_the_root_of_the_data(files, found):
    assert places(Named(*files)) == found


def test_parts_of_a_source_know_its_files(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "pets" / "train" / name / f"{i}.png").write_bytes(b"")
    source = folder(tmp_path / "pets")
    picked = Wanted(subset(source, [5, 0]), "label")
    assert places(picked) == ["train/dog/1.png", "train/cat/0.png"]
    rest, part = cut(source, 0.25, 0)
    assert sorted([*places(rest), *places(part)]) == places(source)


def test_a_source_in_memory_has_numbers():
    about = About("two", "test", ("a",), mirror=False)
    source = Arrays(
        {"label": np.zeros(2, np.int32), "image": np.zeros((2, 1, 1, 1), np.uint8)}, about
    )
    assert places(source) == [None, None]
    assert called(None, 9) == "no. 9"
    assert called("test/temple/temple_04.jpg", 9) == "temple_04.jpg"
