"""Variant: a named network and what is known of it, so that nobody reads it from the name."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn


class Variant(NamedTuple):
    """A row of the table of variants.

    Attributes:
        make: (num_classes=…, **fields) -> the network.
        auxiliary: whether it can have auxiliary heads; its field `aux` says whether it has.
        classifier: the variant whose backbone it has, and so can take the weights of; "" where
            there is none, and of a classifier, which has its own.
        converted: parameters of that classifier -> those of this network; None where layers of one
            name are the same in both.
        narrowed: channels of each level or stage, from the image's size down -> fields of a form so
            wide, or a ValueError; None where there is only the paper's form.
        background: whether the first of its logits' classes is the background, in a detector.
        proposals: whether it reads regions beside the images, a detector that proposes none itself:
            (B, P, 4) in pixels, and (B, P), which of them there are.
        svm: whether SVMs may score for it in place of its softmax, as its field `svm` says, and
            regressors move its regions, as `regressed` does.
        least_batch: images that it needs at once in training: 2 where a head pools the whole image,
            and normalises one value a channel of each.
    """

    make: Callable[..., nn.Module]
    auxiliary: bool = False
    classifier: str = ""
    converted: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    narrowed: Callable[[tuple[int, ...]], dict[str, Any]] | None = None
    background: bool = False
    proposals: bool = False
    svm: bool = False
    least_batch: int = 1
