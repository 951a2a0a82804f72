"""Augmentation on the device: batched, jitted, keyed.

transform = chain(pad_and_crop(4), flip(), fill=mean)
batch = transform(key, batch)
"""

from train.augment.choice import maybe, one_of
from train.augment.compose import chain
from train.augment.crops import pad_and_crop, random_crop, random_resized_crop
from train.augment.flips import alternating_flip, flip, vertical_flip
from train.augment.geometry import perspective, quarter_turns, rotation, scale, shear, shift
from train.augment.kinds import Geometric, Mixing, Paired, Pixel

__all__ = [
    "Geometric",
    "Mixing",
    "Paired",
    "Pixel",
    "alternating_flip",
    "chain",
    "flip",
    "maybe",
    "one_of",
    "pad_and_crop",
    "perspective",
    "quarter_turns",
    "random_crop",
    "random_resized_crop",
    "rotation",
    "scale",
    "shear",
    "shift",
    "vertical_flip",
]
