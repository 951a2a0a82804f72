"""Augmentation on the device: batched, jitted, keyed.

transform = chain(pad_and_crop(4), flip(), fill=mean)
batch = transform(key, batch)
"""

from train.augment.blur import gaussian_blur, sharpness
from train.augment.choice import maybe, one_of
from train.augment.colour import (
    brightness,
    colour_jitter,
    contrast,
    gamma,
    grayscale,
    hue,
    saturation,
)
from train.augment.compose import chain
from train.augment.crops import pad_and_crop, random_crop, random_resized_crop
from train.augment.erasing import cutout, random_erasing
from train.augment.flips import alternating_flip, flip, vertical_flip
from train.augment.geometry import perspective, quarter_turns, rotation, scale, shear, shift
from train.augment.kinds import Geometric, Mixing, Paired, Pixel
from train.augment.mixing import cutmix, mixup
from train.augment.noise import channel_noise, gaussian_noise
from train.augment.policies import rand_augment, trivial_augment_wide
from train.augment.signals import amplitude, time_mask, time_shift
from train.augment.tone import autocontrast, dark_ground, equalise, invert, posterise, solarise

__all__ = [
    "Geometric",
    "Mixing",
    "Paired",
    "Pixel",
    "alternating_flip",
    "amplitude",
    "autocontrast",
    "brightness",
    "chain",
    "channel_noise",
    "colour_jitter",
    "contrast",
    "cutmix",
    "cutout",
    "dark_ground",
    "equalise",
    "flip",
    "gamma",
    "gaussian_blur",
    "gaussian_noise",
    "grayscale",
    "hue",
    "invert",
    "maybe",
    "mixup",
    "one_of",
    "pad_and_crop",
    "perspective",
    "posterise",
    "quarter_turns",
    "rand_augment",
    "random_crop",
    "random_erasing",
    "random_resized_crop",
    "rotation",
    "saturation",
    "scale",
    "sharpness",
    "shear",
    "shift",
    "solarise",
    "time_mask",
    "time_shift",
    "trivial_augment_wide",
    "vertical_flip",
]
