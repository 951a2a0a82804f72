"""Proposals: the same in every process, kept, named, and measured by hand."""

import pickle

import numpy as np
import pytest

from train.data import proposals
from train.data.arrays import Arrays
from train.data.proposals import Proposed, available, regions
from train.data.source import About
from train.refusal import Refused


def picture(seed=0):
    image = np.full((40, 48, 3), 30, np.uint8)
    image[8:24, 10:30] = (200, 40, 40)
    image[26:36, 32:44] = (30, 220, 60)
    return image + np.random.default_rng(seed).integers(0, 4, image.shape, np.uint8)


def source(count=3):
    boxes = [np.array([[10, 8, 30, 24], [32, 26, 44, 36]], np.float32)] * count
    data = {"image": np.stack([picture(i) for i in range(count)]), "boxes": boxes}
    data["box_label"] = [np.zeros(2, np.int32)] * count
    return Arrays(data, About("two", "train", ("thing",), mirror=True, shape=(40, 48, 3)))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SVERTKA_CACHE", str(tmp_path))
    return tmp_path


def test_selective_search_finds_what_stands_out_in_an_order_that_is_always_the_same():
    found = regions(picture(), "fast")
    assert found.dtype == np.float32
    assert found.shape[1] == 4
    assert len(np.unique(found, axis=0)) == len(found)
    np.testing.assert_array_equal(found, regions(picture(), "fast"))
    assert (found[:, 2:] > found[:, :2]).all()
    assert (found[:, 2:] <= [48, 40]).all()
    assert (np.abs(found - [10, 8, 30, 24]).max(1) <= 1).any()
    assert not np.array_equal(found, np.unique(found, axis=0))  # an order of chance


def test_they_are_computed_once_and_kept_by_their_method(folder, monkeypatch):
    first = Proposed(source(), "fast", 20)
    expected = [first[i]["proposals"] for i in range(3)]
    monkeypatch.setattr(proposals, "regions", None)
    again = pickle.loads(pickle.dumps(Proposed(source(), "fast", 5)))
    for i in range(3):
        np.testing.assert_array_equal(again[i]["proposals"], expected[i][:5])
    with pytest.raises(TypeError):  # another method is computed anew
        Proposed(source(), "quality", 5)[0]
    assert again.fingerprint != first.fingerprint != source().fingerprint


def test_pictures_that_may_change_are_not_kept(folder):
    assert len(Proposed(source(), "fast", 5, keep=False)[0]["proposals"]) == 5
    assert not [*folder.iterdir()]


def test_without_opencv_a_grid_is_named(monkeypatch):
    monkeypatch.setattr(proposals, "_opencv", lambda: None)
    assert available() == "grid"
    with pytest.raises(Refused, match=r"proposals='fast' needs OpenCV.*svertka\[proposals\]"):
        Proposed(source(), "fast", 5)
    made = Proposed(source(), "grid", 2048)
    assert "grid" in made.notes[-1]
    found = made[0]["proposals"]
    assert len(found) > 100
    assert (found[:, :2] >= 0).all()
    assert (found[:, 2:] <= [48, 40]).all()
    assert (found == [0, 0, 48, 40]).all(1).any()


@pytest.mark.parametrize(("method", "most"), [("slow", 5), ("fast", 0), ("fast", 5000)])
def test_what_is_refused(method, most):
    with pytest.raises(Refused, match="slow" if method == "slow" else f"most_proposals={most}:"):
        Proposed(source(), method, most)
