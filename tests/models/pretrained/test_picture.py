"""A picture as training sees it: the same pixels as the decoder's, and by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from models.pretrained.picture import rgb
from models.pretrained.preprocess import Sizes, resize_and_crop
from train.data.decode import decode

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def saved(image, form, **how):
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def oriented(form, orientation, image=COLOUR):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(image), form, exif=exif)


def seen(data):
    """What a picture's file becomes here, opened as a user does."""
    with Image.open(io.BytesIO(data)) as image:
        return np.array(rgb(image))


TURNED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: x[::-1].transpose(1, 0, 2),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: x.transpose(1, 0, 2)[::-1],
}


@pytest.mark.parametrize("orientation", TURNED)
def test_every_orientation_is_applied_as_in_training(orientation):
    np.testing.assert_array_equal(seen(oriented("PNG", orientation)), TURNED[orientation](COLOUR))
    smooth = np.repeat(np.repeat(COLOUR, 8, 0), 8, 1)
    for form in ("JPEG", "PNG", "WEBP"):
        data = oriented(form, orientation, smooth)
        np.testing.assert_array_equal(seen(data), decode(data), err_msg=form)
    grey = oriented("JPEG", orientation, smooth[..., 0])
    np.testing.assert_array_equal(seen(grey), decode(grey))


def test_a_picture_that_is_upright_already_is_not_turned_again():
    with Image.open(io.BytesIO(oriented("PNG", 6))) as image:
        once = rgb(image)
    for again in (rgb(once), rgb(once.convert("RGB").resize((12, 18)))):
        assert again.height > again.width
    np.testing.assert_array_equal(rgb(once), once)
    tiff = oriented("TIFF", 6)  # Pillow turns it as it is loaded
    np.testing.assert_array_equal(seen(tiff), TURNED[6](COLOUR))


def test_sixteen_bits_become_the_nearest_of_eight_as_in_training():
    values = np.array([[0, 128, 129, 257, 65535], [385, 386, 32768, 65406, 65407]], np.uint16)
    data = saved(Image.fromarray(values), "PNG")
    expected = np.array([[0, 0, 1, 1, 255], [1, 2, 128, 254, 255]], np.uint8)
    np.testing.assert_array_equal(seen(data), np.repeat(expected[..., None], 3, -1))
    np.testing.assert_array_equal(seen(data), decode(data))
    wide = RNG.integers(0, 2**16, (40, 30), np.uint16)
    data = saved(Image.fromarray(wide), "PNG")
    np.testing.assert_array_equal(seen(data), decode(data))
    cut = resize_and_crop(Image.open(io.BytesIO(data)), Sizes(20, 16))
    np.testing.assert_array_equal(cut, resize_and_crop(decode(data), Sizes(20, 16)))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "RGBA", "1"])
def test_other_modes_are_as_in_training(mode):
    image = Image.fromarray(np.repeat(np.repeat(COLOUR, 4, 0), 4, 1)).convert(mode)
    data = saved(image, "TIFF" if mode == "PA" else "PNG")
    np.testing.assert_array_equal(seen(data), decode(data))


def test_a_palette_with_a_transparent_colour():
    data = saved(Image.fromarray(COLOUR).convert("P"), "PNG", transparency=0)
    np.testing.assert_array_equal(seen(data), decode(data))


def test_exif_that_cannot_be_read_turns_nothing():
    data = saved(Image.fromarray(COLOUR), "PNG", exif=b"Exif\0\0MM\0*\xff\xff")
    np.testing.assert_array_equal(seen(data), COLOUR)
