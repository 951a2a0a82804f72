"""Pictures go into a network as torchvision's presets make them, to the byte."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from models.pretrained.naming import FAMILIES
from models.pretrained.preprocess import Sizes, normalise, preprocess, resize_and_crop, sizes

V2 = {
    *("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("wide_resnet50_2", "wide_resnet101_2"),
}


def test_every_case_is_torchvisions(golden, inputs):
    cases = golden("preprocess")
    for name in sorted({key.rpartition("/")[0] for key in cases}):
        size, resize, crop = name.split()
        picture = inputs.picture(*map(int, size.split("x")))
        before = picture.copy()
        how = Sizes(int(resize), int(crop))
        pixels, ready = resize_and_crop(picture, how), preprocess(picture, how)
        assert pixels.shape == ready.shape == (how.crop, how.crop, 3), name
        assert (pixels.dtype, ready.dtype) == (np.uint8, np.float32), name
        found = inputs.sampled(name, pixels, 1000)
        np.testing.assert_array_equal(found, cases[f"{name}/pixels"], err_msg=name)
        found = inputs.sampled(name, ready, 100)
        np.testing.assert_allclose(found, cases[f"{name}/ready"], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(picture, before)
        from_pil = resize_and_crop(Image.fromarray(picture), how)
        np.testing.assert_array_equal(from_pil, pixels, err_msg=name)


def test_normalised_by_hand():
    pixels = np.array([[[0, 255, 51]]], np.uint8)
    expected = [-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(normalise(pixels)[0, 0], expected, rtol=1e-6)


def test_batches_are_normalised_on_the_device_too(inputs):
    pixels = np.stack([inputs.picture(5, 4), inputs.picture(5, 4)[::-1]])
    expected = normalise(pixels)
    found = jax.jit(normalise)(jnp.asarray(pixels))
    assert (found.shape, found.dtype) == ((2, 5, 4, 3), jnp.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_are_converted_as_pil_does(inputs, mode):
    image = Image.fromarray(inputs.picture(30, 41)).convert(mode)
    expected = resize_and_crop(np.array(image.convert("RGB")), Sizes(20, 16))
    np.testing.assert_array_equal(resize_and_crop(image, Sizes(20, 16)), expected)


def test_a_picture_that_is_a_program_is_refused():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(ValueError, match="format EPS: expected pixels"):
        resize_and_crop(Image.open(io.BytesIO(eps)))


def test_grey_is_repeated_and_alpha_is_dropped(inputs):
    colour, how = inputs.picture(30, 41), Sizes(20, 16)
    grey = resize_and_crop(colour[..., 0], how)
    np.testing.assert_array_equal(grey, resize_and_crop(colour[..., [0, 0, 0]], how))
    np.testing.assert_array_equal(grey, resize_and_crop(colour[..., :1], how))
    np.testing.assert_array_equal(grey, resize_and_crop(colour[..., :2], how))
    clear = np.concatenate([colour, np.zeros_like(colour[..., :1])], -1)
    np.testing.assert_array_equal(resize_and_crop(clear, how), resize_and_crop(colour, how))


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].boxes])
def test_detectors_pictures_are_made_elsewhere(name):
    with pytest.raises(ValueError, match=rf"{name}' is a detector: see .*detection_picture"):
        sizes(name)


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if not (family.pixels or family.boxes)]
)
def test_sizes_are_those_of_the_published_weights(name):
    first = Sizes(342, 299) if name == "inception_v3" else Sizes(256, 224)
    assert sizes(name) == sizes(name, "IMAGENET1K_V1") == first
    if name in V2:
        assert sizes(name, "IMAGENET1K_V2") == Sizes(232, 224)
    else:
        with pytest.raises(ValueError, match=f"weights='IMAGENET1K_V2' of {name} are none of"):
            sizes(name, "IMAGENET1K_V2")


@pytest.mark.parametrize("name", [name for name in FAMILIES if FAMILIES[name].pixels])
def test_segmentation_takes_all_of_a_picture(name):
    how = sizes(name, "COCO_WITH_VOC_LABELS_V1")
    assert how == Sizes(520, None)
    with pytest.raises(ValueError, match=f"weights='IMAGENET1K_V1' of {name} are none of COCO"):
        sizes(name)


@pytest.mark.parametrize(("picture", "height", "width"), [((30, 41), 20, 27), ((41, 30), 27, 20)])
def test_without_a_crop_a_picture_is_resized_alone(inputs, picture, height, width):
    found = resize_and_crop(inputs.picture(*picture), Sizes(20, None))
    assert (found.shape, found.dtype) == ((height, width, 3), np.uint8)
    cut = resize_and_crop(inputs.picture(*picture), Sizes(20, 20))
    middle = found[4:-3] if height > width else found[:, 4:-3]
    np.testing.assert_array_equal(cut, middle)
    ready = preprocess(inputs.picture(*picture), Sizes(20, None))
    assert (ready.shape, ready.dtype) == ((height, width, 3), np.float32)


def test_a_network_that_torchvision_lacks_has_no_sizes():
    with pytest.raises(ValueError, match="name='resnet20' is none of torchvision's: resnet18, "):
        sizes("resnet20")


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"shape \(4, 4, 3\) and dtype float32: expected uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros((4, 4, 0), np.uint8), r"shape \(4, 4, 0\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (Image.new("I", (4, 4)), "mode I, numbers of 32 bits; wanted: 8 or 16"),
        (Image.new("F", (4, 4)), "mode F, numbers of 32 bits"),
        (Image.new("RGB", (0, 4)), "picture of 0x4 pixels has none"),
    ],
)
def test_what_is_no_picture_is_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        resize_and_crop(picture)


@pytest.mark.parametrize("bad", [Sizes(0, 4), Sizes(4, 0), Sizes(-1, 4)])
def test_sizes_below_one_are_refused(bad):
    with pytest.raises(ValueError, match=rf"Sizes\(resize={bad.resize}, crop={bad.crop}\) must be"):
        resize_and_crop(np.zeros((4, 4, 3), np.uint8), bad)


@pytest.mark.parametrize("shape", [(), (4,), (2, 2, 4), (3, 2, 2)])
def test_pixels_without_three_channels_are_refused(shape):
    with pytest.raises(ValueError, match="red, green and blue"):
        normalise(np.zeros(shape, np.uint8))
