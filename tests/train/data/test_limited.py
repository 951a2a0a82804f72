import pickle
from functools import partial

import jax
import numpy as np
import pytest
from image_files import classes, coco, save, voc
from PIL import Image

from train.data.boxes import clipped_said
from train.data.coco import coco as open_coco
from train.data.decode import PIXELS, Unreadable
from train.data.host import Host, Letterbox
from train.data.limited import Limited, limited
from train.data.named import Splits, named, with_validation
from train.data.order import once
from train.data.streaming import Streaming
from train.data.subset import file_of, labels, read
from train.mesh import make_mesh

LARGE = (20, 30)


@pytest.fixture
def pictures(tmp_path):
    """Ten small ones and, in both splits, one of 600 pixels."""
    for split in ("train", "test"):
        classes(tmp_path / split, {"a": 5, "b": 5})
        save(tmp_path / split / "b" / "large.png", np.zeros((*LARGE, 3), np.uint8))
    return f"folder:{tmp_path}"


def test_a_picture_of_more_is_refused_and_named_with_the_option(pictures):
    data = limited(partial(named, pictures), 599)
    assert isinstance(data, Splits)
    for source in (data.train, data.test):
        last = len(source) - 1
        said = (
            r"b/large\.png, example 10: cannot be decoded: it has 600 pixels, more than "
            r"max_pixels=599; --max-pixels 600 lets it in$"
        )
        with pytest.raises(Unreadable, match=said):
            source[last]
        with pytest.raises(Unreadable, match="max_pixels=599"):
            read(source, [last])
        assert source[0]["image"].shape == (3, 4, 3)
        assert source.truth(last) == {"label": 1}
    for source in (named(pictures).train, limited(partial(named, pictures), 600).train):
        assert source[10]["image"].shape == (*LARGE, 3)


def test_the_usual_limit_changes_nothing(pictures):
    assert not isinstance(limited(partial(named, pictures), PIXELS).train, Limited)


def test_a_source_keeps_what_it_knows(pictures, tmp_path):
    plain, source = named(pictures).train, limited(partial(named, pictures), 1000).train
    again = pickle.loads(pickle.dumps(source))
    for one in (source, again):
        assert (one.about, one.fingerprint, len(one)) == (plain.about, plain.fingerprint, 11)
        assert file_of(one, 10) == file_of(plain, 10)
        np.testing.assert_array_equal(labels(one), labels(plain))
    part = with_validation(Splits(source, None, source), 0.4).validation
    assert part is not None
    assert len(part) == 4
    boxes = Limited(open_coco(*coco(tmp_path / "coco")), 1000)
    boxes.truth(0)
    assert clipped_said(boxes).startswith("Clipped: 1 box in 1 ")
    assert not hasattr(source, "nothing_such")
    assert file_of(Limited(object(), 1), 0) is None


def test_a_mask_and_the_size_of_its_image_are_limited_too(tmp_path):
    root = tmp_path / "VOC2012"
    voc(root, ["a"], size=LARGE, mask=np.zeros(LARGE, np.uint8))
    voc(root, ["a"], size=LARGE, mask=np.zeros(LARGE, np.uint8), split="val")
    source = limited(partial(named, f"voc:{root}", "mask"), 599).train
    for read_one in (source.__getitem__, source.truth):
        with pytest.raises(Unreadable, match="600 pixels, more than max_pixels=599"):
            read_one(0)


@pytest.mark.parametrize("workers", [0, 1])
def test_threads_and_processes_have_the_limit(pictures, workers, monkeypatch):
    """Pillow's own guard stands in the way of none."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for pixels, shown in ((599, None), (600, (11, 8, 8, 3))):
        source = limited(partial(named, pictures), pixels).test
        loader = Streaming(
            source,
            mesh=make_mesh(jax.devices()[:1]),
            batch_size=11,
            order=once,
            host=Host(Letterbox(), ((8, 8),)),
            workers=workers,
            threads=1,
        )
        payloads = loader.payloads(0)
        if shown is None:
            with pytest.raises(Unreadable, match="600 pixels, more than max_pixels=599"):
                next(payloads)
        else:
            assert next(payloads)["image"].shape == shown
        payloads.close()
