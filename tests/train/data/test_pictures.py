"""Files and arrays as a source of images alone, in the channels of a run."""

import image_files
import numpy as np
import pytest
from PIL import Image

from train.data.decode import Unreadable
from train.data.pictures import Pictures, in_channels
from train.refusal import Refused

COLOUR = image_files.pixels(5, 4)


def test_files_and_arrays(tmp_path):
    file = image_files.save(tmp_path / "a.png", COLOUR)
    source = Pictures([file, str(file), COLOUR, COLOUR[..., 0]], 3)
    assert len(source) == 4
    for i in range(3):
        np.testing.assert_array_equal(source[i]["image"], COLOUR)
    np.testing.assert_array_equal(source[3]["image"], COLOUR[..., :1].repeat(3, -1))
    assert [source.name(i) for i in range(4)] == [str(file), str(file), None, None]
    assert source.truth(0) == {}


def test_grey_is_weighed_as_pillow_does_and_exact_where_it_was_grey(tmp_path):
    grey = image_files.pixels(5, 4, channels=1)
    file = image_files.save(tmp_path / "a.png", grey)
    np.testing.assert_array_equal(Pictures([file], 1)[0]["image"], grey)
    wanted = np.asarray(Image.fromarray(COLOUR).convert("L"))
    np.testing.assert_array_equal(in_channels(COLOUR, 1, "x")[..., 0], wanted)
    wide = Image.fromarray(grey[..., 0].astype(np.uint16) * 257)
    wide.save(tmp_path / "b.png")
    np.testing.assert_array_equal(Pictures([tmp_path / "b.png"], 1)[0]["image"], grey)
    opaque = Pictures([tmp_path / "b.png"], 4)[0]["image"]
    np.testing.assert_array_equal(opaque, in_channels(grey, 4, "x"))


def test_a_photograph_stands_upright(tmp_path):
    file = image_files.save(tmp_path / "a.png", COLOUR, orientation=6)
    assert Pictures([file], 3)[0]["image"].shape == (4, 5, 3)
    assert Pictures([file], 4)[0]["image"].shape == (4, 5, 4)


def test_opacity(tmp_path):
    clear = image_files.pixels(5, 4, channels=4)
    file = image_files.save(tmp_path / "a.png", clear)
    np.testing.assert_array_equal(Pictures([file], 4)[0]["image"], clear)
    np.testing.assert_array_equal(Pictures([file], 3)[0]["image"], clear[..., :3])
    assert (in_channels(COLOUR, 4, "x")[..., 3] == 255).all()


def test_what_cannot_be_read_or_used(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    for channels in (1, 3, 4):
        with pytest.raises(Unreadable, match=r"a\.png, example 0: cannot be decoded: no picture"):
            Pictures([tmp_path / "a.png"], channels)[0]
    for odd, words in (
        (COLOUR.astype(np.float32), r"pictures\[1\] is float32 \(5, 4, 3\)"),
        (COLOUR[0, 0], r"pictures\[1\] is uint8 \(3,\)"),
        (COLOUR[:0], r"pictures\[1\] is uint8 \(0, 4, 3\)"),
    ):
        with pytest.raises(Refused, match=words):
            Pictures([COLOUR, odd], 3)
    with pytest.raises(Refused, match=r"pictures\[0\] has 2 channels; the run takes images of 3"):
        Pictures([COLOUR[..., :2]], 3)[0]


def test_a_file_that_may_not_be_read_is_one_of_those_that_cannot(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    file = image_files.save(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(type(file), "read_bytes", refuse)
    with pytest.raises(Unreadable, match="cannot be read: Permission denied"):
        Pictures([file], 3)[0]
