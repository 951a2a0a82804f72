"""Names in the files of a set: they may not lead out of it, unless that is asked for."""

import dataclasses
import pathlib

import numpy as np
import pytest
from image_files import coco, pixels, save, voc

from experiments import detect
from experiments.detect import Config
from experiments.segment import Config as Masks
from train import trained, workdir
from train.data.coco import coco as open_coco
from train.data.decode import Unreadable
from train.data.inside import refuse_outside
from train.data.named import named
from train.data.voc import voc as open_voc
from train.place import refuse_other
from train.refusal import Refused

INSIDE = ("a.jpg", "sub/a.jpg", "sub/../a.jpg", "..a.jpg", "a..jpg", "../other/a.jpg", "a/./b", "")
OUTSIDE = (
    "../../a.jpg", "../../../etc/passwd", "sub/../../../a.jpg", "..\\..\\a.jpg", "sub\\..\\../../a",
    "/etc/passwd", "\\etc\\passwd", "/", "../..", "../../set2/a.jpg",
)  # fmt: skip


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set" / "images" / "sub").mkdir(parents=True)
    return tmp_path / "set"


@pytest.mark.parametrize("name", INSIDE)
def test_names_that_stay(root, name):
    refuse_outside("x", [name], root / "images", root)


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_leave(root, name):
    with pytest.raises(
        Refused, match=r"^x names .*, which lies outside of '.*/set'; --outside True"
    ):
        refuse_outside("x", ["a.jpg", name], root / "images", root)


def test_an_absolute_name_may_lie_inside_under_either_name_of_the_set(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    for top in (root, tmp_path / "link"):
        for inside in (root, tmp_path / "link")[: 1 + (top != root)]:
            refuse_outside("x", [str(inside / "images" / "a.jpg")], top / "images", top)
        with pytest.raises(Refused, match="lies outside"):
            refuse_outside("x", [str(tmp_path / "a.jpg")], top / "images", top)


def test_a_relative_set_is_the_same(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    path = pathlib.Path("set")
    refuse_outside("x", ["../b.jpg", str(root / "a.jpg")], path / "images", path)
    with pytest.raises(Refused, match=r"lies outside of 'set'"):
        refuse_outside("x", ["../../b.jpg"], path / "images", path)


def test_links_may_lead_anywhere_but_not_further_up(root, tmp_path):
    """Who made a link may read what it leads to; who wrote a name may not."""
    (tmp_path / "far" / "pictures").mkdir(parents=True)
    (root / "images" / "link").symlink_to(tmp_path / "far" / "pictures")
    refuse_outside("x", ["link/a.jpg"], root / "images", root)
    with pytest.raises(Refused, match=r"names 'link/\.\./a\.jpg', which lies outside"):
        refuse_outside("x", ["link/../a.jpg"], root / "images", root)


@pytest.fixture
def secret(tmp_path):
    return save(tmp_path / "secret.png", pixels(10, 20))


def called(name):
    return lambda given: given["images"][0].update(file_name=name)


def test_coco_names_stay_in_the_set(tmp_path, secret):
    for name in ("../../secret.png", str(secret)):
        root = tmp_path / "set"
        pair = coco(root, [called(name)])
        with pytest.raises(Refused, match=r"annotations='.*train2017\.json' names .*secret\.png"):
            open_coco(*pair, root=root)
        with pytest.raises(Refused, match=r"lies outside of '.*/set'; --outside True takes it"):
            named(f"coco:{root}", "boxes")
        data = named(f"coco:{root}", "boxes", outside=True)
        files = [part.name(i) for part in (data.train, data.test) for i in range(len(part))]
        assert sum(file.endswith("secret.png") for file in files) == 1
    # Beside the folder of images, in the set: an export's usual form.
    save(root / "others" / "b.png", pixels(10, 20))
    pair = coco(root, [called("../others/b.png")])
    assert open_coco(*pair, root=root)[0]["image"].shape == (10, 20, 3)
    assert named(f"coco:{root}", "boxes").train.about.classes
    with pytest.raises(Refused, match=r"lies outside of '.*/train2017'"):
        open_coco(*pair)


def test_names_that_are_no_name_are_one_example_s_fault(tmp_path):
    for name in ("b\0.png", "\ud800.png", "x" * 5000):
        source = open_coco(*coco(tmp_path, [called(name)]))
        assert len(source.fingerprint) == 66
        with pytest.raises(Unreadable) as caught:
            source[0]
        assert "\n" not in str(caught.value)
        assert "\0" not in str(caught.value)
        assert source[1]["image"].shape == (8, 6, 3)


@pytest.mark.parametrize("want", ["boxes", "mask"])
def test_voc_lists_stay_in_the_set(tmp_path, secret, want):
    root = tmp_path / "VOC2012"
    mask = None if want == "boxes" else np.zeros((3, 4), np.uint8)
    voc(root, ["a", "b"], size=(3, 4), mask=mask)
    kind = "Main" if want == "boxes" else "Segmentation"
    for line in ("../../secret", str(secret.with_suffix("")), "a\n..\\..\\secret.png 1"):
        (root / "ImageSets" / kind / "train.txt").write_text(f"{line}\n" + "a\nb\n" * 2)
        with pytest.raises(
            Refused, match=r"voc='.*train\.txt' names .*secret.*, which lies outsid"
        ):
            open_voc(root, "train", want)
        with pytest.raises(Refused, match="--outside True takes it nevertheless"):
            named(f"voc:{root}", want)
        named(f"voc:{root}", want, outside=True)


def test_an_experiment_is_asked_by_a_field_of_its_own(tmp_path, secret):
    root = tmp_path / "set"
    coco(root, [called("../../secret.png")])
    for outside in (False, True):
        config = Config(data=f"coco:{root}", steps=1, batch_size=1, validation=0, outside=outside)
        if not outside:
            with pytest.raises(Refused, match="--outside True"):
                trained.splits(config, "boxes", (), config.outside)
        else:
            assert len(trained.splits(config, "boxes", (), config.outside).train) == 2


def test_where_no_file_names_others_it_has_no_effect():
    for config in (Config(outside=True), Masks(data="folder:x", outside=True)):
        found = config.idle(named("digits").train.about)
        assert found["outside"] == f"data={config.data!r} names no files"
    for config in (Config(data="coco:x"), Masks(data="voc:x")):
        assert "outside" not in config.idle(named("digits").train.about)


def test_a_run_that_was_begun_before_names_were_minded_goes_on(tmp_path):
    config = Config(data="coco:set", workdir=tmp_path)
    workdir.write_config(tmp_path, detect.__name__, config)
    refuse_other(tmp_path, detect, dataclasses.replace(config, outside=True))
    with pytest.raises(Refused, match="capacity"):
        refuse_other(tmp_path, detect, dataclasses.replace(config, outside=True, capacity=7))
