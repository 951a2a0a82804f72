from functools import partial

import numpy as np
import pytest
from image_files import classes

from train.data.arrays import Arrays
from train.data.named import Splits, may_be, named, with_validation
from train.data.source import About
from train.data.subset import cut, cut_by_time
from train.refusal import Refused


@pytest.mark.parametrize(
    ("name", "want", "message"),
    [
        ("fodler:/data/pets", "label", "data='fodler' is unknown; nearest: folder"),
        ("fodler:pets", "label", "data='fodler:pets' is unknown; nearest: .*folder:PATH"),
        ("coco", "labels", "want='labels' is unknown; nearest: label"),
        ("folder:", "label", "data='folder:': a path follows the colon"),
        (f"voc:{'x' * 300}", "mask", "x' is no folder; File name too long"),
        ("folder:~nobody-of-this-name/a", "label", "is no folder; Could not determine home"),
        ("digits", "boxes", "data='digits' has no boxes; it has label"),
        ("digits", "target", "data='digits' has no target; it has label"),
        ("digit_scene", "boxes", "data='digit_scene' is unknown; nearest: digit_scenes"),
        ("digit_scenes", "label", "data='digit_scenes' has no label; it has boxes, mask"),
    ],
)
def test_wrong_names_are_refused_in_one_line(name, want, message):
    with pytest.raises(Refused, match=message) as refused:
        named(name, want)
    assert "\n" not in str(refused.value)


def test_a_wrong_path_names_the_nearest(tmp_path):
    classes(tmp_path / "pets" / "train", {"a": 1})
    with pytest.raises(Refused) as refused:
        named(f"folder:{tmp_path}/pest/x/y")
    assert str(refused.value) == (
        f"data='folder:{tmp_path}/pest/x/y': there is no folder {tmp_path}/pest; nearest: "
        f"{tmp_path}/pets"
    )
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=r"data='coco:\S+/file': \S+/file is a file, no folder$"):
        named(f"coco:{tmp_path}/file", "boxes")
    with pytest.raises(Refused, match="has no boxes; it has label"):
        named(f"folder:{tmp_path}/pets", "boxes")


def test_a_folder_without_its_kind_is_pointed_to_it(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    for name, want, forms in (
        ("pets", "label", "folder:pets or wav:pets or series:pets"),
        ("pets", "target", "series:pets"),
        ("./pets", "mask", "folder:./pets or voc:./pets"),
        (str(tmp_path), "boxes", f"coco:{tmp_path} or voc:{tmp_path}"),
    ):
        with pytest.raises(Refused) as refused:
            named(name, want)
        assert str(refused.value) == (
            f"data={name!r} is unknown; for the folder of that name: {forms}"
        )
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(Refused, match=r"unknown; for the file of that name: series:a\.csv$"):
        named("a.csv")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    classes(tmp_path / "pets", {"a": 4, "b": 1})
    found = with_validation(named("folder:~/pets"), 0.25)
    assert [len(part) for part in found] == [3, 1, 1]


@pytest.mark.parametrize(
    ("name", "other", "may"),
    [
        ("folder:a", "folder:/b", True),
        ("voc:a", "coco:a", False),
        ("folder:a", "digits", False),
        ("cifar10:1.0.0", "cifar10:2.0.0", False),
        ("folder", "folder:a", False),
    ],
)
def test_names_that_may_be_of_one_set(name, other, may):
    assert may_be(name, other) == may


def in_time():
    """Twelve windows of a series, and three that come later."""

    def windows(*starts):
        signal = np.array(starts)[:, None, None] + np.arange(4.0)[:, None]
        return Arrays({"signal": signal}, About("series", "train", (), mirror=False))

    return Splits(windows(*range(12)), None, windows(20, 21, 22))


def test_validation_by_time_comes_after_what_is_trained_on():
    """Windows of four steps, one a step: with a gap of three no step is in both."""
    found = with_validation(in_time(), 0.25, cut=partial(cut_by_time, gap=3))
    train, validation = (
        np.concatenate([part[i]["signal"] for i in range(len(part))]) for part in found[:2]
    )
    assert len(found.validation) == 3
    assert train.max() + 1 == validation.min() == 9
    assert len(found.test) == 3
    near = with_validation(in_time(), 0.25, cut=cut_by_time)
    assert [part[len(part) - 1]["signal"][0, 0] for part in near[:2]] == [8, 11]
    assert with_validation(found, 0.5, cut=cut_by_time) is found
    assert with_validation(in_time(), 0, cut=cut_by_time).validation is None


def test_validation_by_chance_is_what_it_was():
    rest, part = with_validation(in_time(), 0.25)[:2]
    same = cut(in_time().train, 0.25, seed=0)
    assert (rest.fingerprint, part.fingerprint) == tuple(one.fingerprint for one in same)
