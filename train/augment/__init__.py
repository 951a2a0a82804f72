"""Augmentation on the device: batched, jitted, keyed.

transform = chain(pad_and_crop(4), flip(), fill=mean)
batch = transform(key, batch)
"""

from train.augment.compose import chain
from train.augment.geometry import flip, pad_and_crop
from train.augment.kinds import Geometric, Pixel

__all__ = ["Geometric", "Pixel", "chain", "flip", "pad_and_crop"]
