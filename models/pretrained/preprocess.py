"""Pictures as torchvision's published weights want them (`torchvision.transforms._presets`).

    pixels = resize_and_crop(picture, sizes("resnet50", "IMAGENET1K_V2"))   # uint8
    x = normalise(pixels)                                                   # float32

All of them, ImageNet's 1000 classes unless another set is named: the shorter side is resized,
bilinearly and with antialiasing, the centre is cropped, and channels (red, green, blue) are
normalised by `MEAN` and `STD` of pixels in 0..1.

| weights | shorter side | crop |
|---|---|---|
| `IMAGENET1K_V1` of every network but one | 256 | 224 |
| `IMAGENET1K_V1` of inception_v3 | 342 | 299 |
| `IMAGENET1K_V2` of resnet50, 101, 152, resnext*, wide_resnet* | 232 | 224 |
| `COCO_WITH_VOC_LABELS_V1` of fcn_*, deeplabv3_*: PASCAL VOC's 21 classes | 520 | none |

GoogLeNet and Inception v3 take these same pictures: the normalisation of their own on top, with
which their weights were trained, is among their variables (`models.pretrained.torchvision`).
VGG-16's `IMAGENET1K_FEATURES` are no classifier and are not read.
"""

from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from models.pretrained import picture as pictures
from models.pretrained.naming import family_of

MEAN = (0.485, 0.456, 0.406)
"""Of red, green and blue in 0..1; times 255 for pixels in 0..255."""
STD = (0.229, 0.224, 0.225)
TRAINED_ANEW = (
    *("resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2"),
)
"""The networks with a second version of weights."""
PROGRAMS = ("EPS", "WMF")
"""Formats whose pictures Pillow has other programs make, such as Ghostscript."""


class Sizes(NamedTuple):
    """Of a picture on its way into a network, in pixels, each at least 1."""

    resize: int = 256
    """Shorter side after resizing."""
    crop: int | None = 224
    """Height and width of what is cut from the centre; None: nothing is cut."""


def sizes(name: str, weights: str = "IMAGENET1K_V1") -> Sizes:
    """Those that torchvision evaluates published weights with.

    Args:
        name: of the network, as in `models.names()`.
        weights: torchvision's name for them.

    Raises:
        ValueError: torchvision has no such network, or no such weights of it; it is a detector,
            whose pictures `models.pretrained.detection_picture` makes.
    """
    known = {"IMAGENET1K_V1": Sizes(342, 299) if name == "inception_v3" else Sizes()}
    if family_of(name).boxes:
        raise ValueError(f"name={name!r} is a detector: see models.pretrained.detection_picture")
    if family_of(name).pixels:
        known = {"COCO_WITH_VOC_LABELS_V1": Sizes(520, None)}
    if name in TRAINED_ANEW:
        known["IMAGENET1K_V2"] = Sizes(232, 224)
    if weights not in known:
        raise ValueError(f"weights={weights!r} of {name} are none of {', '.join(known)}")
    return known[weights]


def preprocess(picture: np.ndarray | Image.Image, sizes: Sizes = Sizes()) -> np.ndarray:
    """`resize_and_crop`, then `normalise`: one picture -> (crop, crop, 3) float32, or (H, W, 3)."""
    return normalise(resize_and_crop(picture, sizes))


def resize_and_crop(picture: np.ndarray | Image.Image, sizes: Sizes = Sizes()) -> np.ndarray:
    """The centre of a picture resized, the same bytes as torchvision's of a PIL image.

    The other side becomes floor(resize * longer / shorter); a centre between two pixels goes to the
    even offset; a picture smaller than the crop is padded with black, the odd row or column after.

    Args:
        picture: a PIL image, or uint8 of shape (H, W, 3); also (H, W) or (H, W, 1) grey, (H, W, 2)
            grey with alpha, (H, W, 4) RGBA. It becomes upright RGB first, as in training, see
            `models.pretrained.picture`: EXIF's orientation is applied, grey is repeated, 16 bits
            become 8, alpha is dropped (not blended), a palette is looked up.
        sizes: in pixels.

    Returns:
        (crop, crop, 3) uint8; (H, W, 3), whatever the two have become, without a crop.

    Raises:
        ValueError: the picture has other axes, another dtype, 32 bits a channel, or no pixels, or
            is a program (EPS); a size is below 1.
    """
    if min(size for size in sizes if size is not None) < 1:
        raise ValueError(f"{sizes} must be at least 1 pixel each")
    image = rgb(picture)
    image = image.resize(resized(image.size, sizes.resize), Image.Resampling.BILINEAR)
    if sizes.crop is None:
        return np.array(image)
    # Left, top, right, bottom.
    lacking = [max(sizes.crop - side, 0) for side in image.size]
    border = (*(n // 2 for n in lacking), *((n + 1) // 2 for n in lacking))
    image = ImageOps.expand(image, border)
    left, top = (round((side - sizes.crop) / 2) for side in image.size)
    return np.array(image.crop((left, top, left + sizes.crop, top + sizes.crop)))


def normalise(pixels: Any) -> Any:
    """(x / 255 - MEAN) / STD: (…, 3) of 0..255, NumPy's or JAX's -> the same shape in float32.

    Raises:
        ValueError: the last axis is not red, green and blue.
    """
    if not pixels.shape or pixels.shape[-1] != 3:
        raise ValueError(f"pixels of shape {pixels.shape}: expected (…, 3), red, green and blue")
    axes = (1,) * (pixels.ndim - 1) + (3,)
    mean, std = (np.array(value, np.float32).reshape(axes) for value in (MEAN, STD))
    return (pixels.astype(np.float32) / np.float32(255) - mean) / std


def rgb(picture: np.ndarray | Image.Image) -> Image.Image:
    """A picture as an upright 8-bit RGB image of PIL's."""
    if not isinstance(picture, Image.Image):
        array = np.asarray(picture)
        shaped = array.ndim == 2 or (array.ndim == 3 and 1 <= array.shape[2] <= 4)
        if array.dtype != np.uint8 or not shaped or 0 in array.shape:
            raise ValueError(
                f"picture of shape {array.shape} and dtype {array.dtype}: expected uint8, "
                f"(H, W) or (H, W, 1 to 4), none of them 0"
            )
        picture = Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)
    if picture.format in PROGRAMS:
        raise ValueError(f"picture of format {picture.format}: expected pixels, not a program")
    if 0 in picture.size:
        raise ValueError(f"picture of {picture.size[0]}x{picture.size[1]} pixels has none")
    return pictures.rgb(picture)


def resized(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height once the shorter of the two is so many pixels."""
    width, height = size
    # One product and one quotient in float64, rounded down, as torchvision computes it.
    longer = int(shorter * max(size) / min(size))
    return (shorter, longer) if width <= height else (longer, shorter)
