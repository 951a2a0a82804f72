"""Pictures go into a detector as torchvision's transform makes them, and boxes come back."""

import numpy as np
import pytest
from PIL import Image

from models.pretrained.detection_picture import detection_pictures, in_picture


def test_every_case_is_torchvisions(golden, inputs):
    cases = golden("detection_picture")
    boxes = cases["boxes"]
    for name in sorted({key.rpartition("/")[0] for key in cases} - {""}):
        given = [inputs.picture(*map(int, size.split("x"))) for size in name.split()]
        least, most, divisor = map(int, cases[f"{name}/how"])
        images, sizes = detection_pictures(given, min_size=least, max_size=most, divisor=divisor)
        assert images.image.shape == tuple(cases[f"{name}/shape"]), name
        assert (images.image.dtype, images.extent.dtype) == (np.float32, np.float32), name
        found = inputs.sampled(name, np.asarray(images.image), 600)
        np.testing.assert_allclose(found, cases[f"{name}/image"], atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(images.extent[:, :2], 0 * images.extent[:, :2])
        np.testing.assert_array_equal(images.extent[:, :1:-1], cases[f"{name}/sizes"])
        np.testing.assert_array_equal(sizes, [picture.shape[:2] for picture in given])
        back = in_picture(np.stack([boxes] * len(given)), images.extent, sizes)
        np.testing.assert_allclose(back, cases[f"{name}/boxes"], rtol=3e-7, err_msg=name)


def test_padding_is_zero_and_a_pil_image_is_the_same(inputs):
    given = [inputs.picture(20, 30), inputs.picture(30, 20)]
    images, _ = detection_pictures(given, min_size=20, max_size=40)
    assert images.image.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(images.extent, [[0, 0, 30, 20], [0, 0, 20, 30]])
    assert not np.any(images.image[0, 20:])
    assert not np.any(images.image[1, :, 20:])
    pictures = [Image.fromarray(picture) for picture in given]
    from_pil, _ = detection_pictures(pictures, min_size=20, max_size=40)
    np.testing.assert_array_equal(from_pil.image, images.image)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"min_size": 0}, "min_size=0 must be a whole number"),
        ({"max_size": 2.5}, "max_size=2.5 must be a whole number"),
        ({"divisor": 0}, "divisor=0 must be a whole number"),
        ({"max_size": 10}, r"picture of 1x30 pixels in max_size=10: nothing is left"),
    ],
)
def test_what_makes_no_image_is_refused(how, said):
    with pytest.raises(ValueError, match=said):
        detection_pictures([np.zeros((1, 30, 3), np.uint8)], **how)


def test_no_pictures_are_refused():
    with pytest.raises(ValueError, match=r"pictures=\[\] are none"):
        detection_pictures([])
