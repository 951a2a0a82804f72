"""Writes torchvision_augment.npz, torchvision's augmentations: `python torchvision_augment.py`.

Needs PyTorch and torchvision, which no test does. `image` is (H, W, 3) uint8. `colour/NAME`: a row
an amount of `amounts/NAME`, in floats 0..255 where torchvision works in floats (`float/NAME`) and
for uint8 (`uint8/NAME`); `grey/NAME` is of the image's green channel alone, in floats.
`RAND/OPERATION` and `WIDE/OPERATION` are magnitudes for 31 bins and an image 32 high and 48 wide;
`moved/OPERATION` is what `affine` and `rotate` make of the image, bilinearly, at the magnitudes
`moved_by/OPERATION`.
"""

import pathlib

import numpy as np
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode, functional

FACTORS = [0.0, 0.35, 1.7]
OF_FLOATS = {
    "brightness": (functional.adjust_brightness, FACTORS),
    "contrast": (functional.adjust_contrast, FACTORS),
    "saturation": (functional.adjust_saturation, FACTORS),
    "hue": (functional.adjust_hue, [-0.5, -0.21, 0.0, 0.08, 1 / 3, 0.5]),
    "gamma": (functional.adjust_gamma, [0.0, 0.5, 2.2]),
    "sharpness": (functional.adjust_sharpness, FACTORS),
    "blur": (lambda image, sigma: functional.gaussian_blur(image, [7, 7], [sigma] * 2), [0.3, 1.5]),
    "autocontrast": (lambda image, _: functional.autocontrast(image), [0.0]),
    "invert": (lambda image, _: functional.invert(image), [0.0]),
}
OF_UINT8 = {
    "posterise": (lambda image, bits: functional.posterize(image, int(bits)), [0, 1, 3, 6, 8]),
    "solarise": (functional.solarize, [0.0, 77.0, 128.5, 255.0]),
}
MOVED = {
    "ShearX": [0.3, -0.99],
    "ShearY": [0.3, -0.99],
    "TranslateX": [3.7, -3.7],
    "TranslateY": [2.2, -5.0],
    "Rotate": [30.0, -135.0],
}


def picture():
    """(H, W, 3) uint8: noise, a soft ramp, equal channels, the ends of the range, pure colours."""
    values = np.random.default_rng(16).integers(0, 256, (10, 9, 3), np.uint8)
    values[3:6] = np.arange(3 * 9 * 3).reshape(3, 9, 3) + 60
    values[0, :5] = np.array([0, 255, 128, 77, 254])[:, None]
    values[1, :7] = [
        [0, 0, 255],
        [0, 255, 0],
        [255, 0, 0],
        [255, 255, 0],
        [0, 9, 9],
        [9, 0, 9],
        [7, 7, 8],
    ]
    return values


def planes(image):
    """(H, W, C) -> (C, H, W), a tensor."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, 2, 0)))


def last(tensor):
    """(C, H, W) -> (H, W, C), NumPy."""
    return np.moveaxis(tensor.numpy(), 0, 2)


def main():
    image = picture()
    exact = planes(image)
    wide = exact.to(torch.float32) / 255
    arrays = {"image": image}
    for name, (change, amounts) in OF_FLOATS.items():
        arrays[f"amounts/{name}"] = np.array(amounts, np.float32)
        arrays[f"float/{name}"] = np.stack([last(change(wide, a)) * 255 for a in amounts])
        arrays[f"grey/{name}"] = np.stack([last(change(wide[1:2], a)) * 255 for a in amounts])
        arrays[f"uint8/{name}"] = np.stack([last(change(exact, a)) for a in amounts])
    for name, (change, amounts) in OF_UINT8.items():
        arrays[f"amounts/{name}"] = np.array(amounts, np.float32)
        arrays[f"uint8/{name}"] = np.stack([last(change(exact, a)) for a in amounts])
    policies = {"RAND": v2.RandAugment(), "WIDE": v2.TrivialAugmentWide()}
    for policy, transform in policies.items():
        for name, (magnitudes, _) in transform._AUGMENTATION_SPACE.items():
            values = magnitudes(31, 32, 48)
            scale = 255 if name == "Solarize" else 1
            arrays[f"{policy}/{name}"] = np.zeros(31) if values is None else values.numpy() * scale
    bilinear = InterpolationMode.BILINEAR
    for name, amounts in MOVED.items():
        moved = [
            policies["WIDE"]._apply_image_or_video_transform(
                wide, name, amount, interpolation=bilinear, fill={type(wide): None}
            )
            for amount in amounts
        ]
        arrays[f"moved_by/{name}"] = np.array(amounts, np.float32)
        arrays[f"moved/{name}"] = np.stack([last(one) * 255 for one in moved])
    path = pathlib.Path(__file__).with_suffix(".npz")
    np.savez_compressed(
        path, **{k: a.astype(np.float32) if a.dtype.kind == "f" else a for k, a in arrays.items()}
    )
    print(path.stat().st_size)


if __name__ == "__main__":
    main()
