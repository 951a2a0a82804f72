"""Dense detectors: every place of every map of a pyramid predicts classes and boxes.

Rows of predictions run over (level, y, x, anchor), the finest level first, as torchvision's.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import check_num_classes
from models.detection.anchors import anchors_of
from models.detection.boxes import clip
from models.detection.detections import Detections, best
from models.detection.fpn import FPN, Convolutions, levels
from models.detection.selection import pairs
from models.layers.conv import at_least_one
from models.layers.image import check_image

ModuleDef = Callable[..., Any]
Maps = tuple[jax.Array, ...]

# torch's epsilon; the variance in two passes, as everywhere here.
GroupNorm = partial(nn.GroupNorm, num_groups=32, epsilon=1e-5, use_fast_variance=False)


class Tower(nn.Module):
    """3x3 convolutions with ReLU that keep channels and size: (B, h, w, C) -> the same.

    Attributes:
        depth: how many convolutions.
        conv: makes them.
        norm: () -> what normalises each before its ReLU; None for nothing.
    """

    depth: int
    conv: ModuleDef
    norm: ModuleDef | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number in range(1, self.depth + 1):
            x = self.conv(x.shape[-1], (3, 3), padding=1, name=f"conv{number}")(x)
            if self.norm is not None:
                x = self.norm(name=f"norm{number}")(x)
            x = nn.relu(x)
        return x


class DenseDetector(nn.Module):
    """What dense detectors have in common; each adds its head, and says how to read it.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c), with `strides`.
        num_classes: of the logits; the background is none of them.
        maps: which of the backbone's the pyramid stands on, finest first.
        width: channels of pyramid and head.
        extra: the pyramid's own levels (`models.detection.fpn`).
        depth: convolutions of each of the head's towers.
        head_norm: of the towers, without statistics that move; None for none.
        prior: the probability of every class at every place at first.
        score_threshold: scores of detections are above it.
        nms_threshold: of two boxes of a class whose IoU is above it the better one stays.
        candidates: of each level, pairs of a box and a class that are looked at.
        limit: detections of an image.
        conv_general_dilated, dtype, param_dtype: of pyramid and head, as the backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it, `width`, `depth`, `candidates` or `limit` is below 1; `maps` do not ascend,
            or are not among the backbone's; a threshold is not from 0 to 1; `prior` is not between
            them; in a call, the image is none.
    """

    backbone: nn.Module
    num_classes: int
    maps: tuple[int, ...] = (1, 2, 3)
    width: int = 256
    extra: ModuleDef = partial(Convolutions, source="pyramid")
    depth: int = 4
    head_norm: ModuleDef | None = None
    prior: float = 0.01
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    candidates: int = 1000
    limit: int = 300
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        count = len(self.backbone.strides)  # type: ignore[attr-defined]
        if not self.maps or list(self.maps) != sorted({*self.maps} & {*range(count)}):
            raise ValueError(
                f"maps={self.maps} must ascend, at least one, of the backbone's 0 to {count - 1}"
            )
        for name in ("width", "depth", "candidates", "limit"):
            at_least_one(name, getattr(self, name))
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be from 0 to 1")
        if not 0 < self.prior < 1:
            raise ValueError(f"prior={self.prior} must be above 0 and below 1")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one place of each level."""
        own = self.backbone.strides  # type: ignore[attr-defined]
        chosen = tuple(own[number] for number in self.maps)
        more = range(1, levels(self.extra) + 1)
        return (*chosen, *(chosen[-1] * 2**level for level in more))

    def input_size(self, size: int) -> int:
        """The least height or width of an image that covers `size` pixels."""
        return max(size, getattr(self.backbone, "smallest", 1))

    @nn.nowrap
    def pyramid(self, image: jax.Array, *, train: bool) -> Maps:
        """(B, H, W, C) floats -> a map (B, h, w, width) a level, finest first."""
        check_image(image)
        maps = self.backbone(image, train=train)  # type: ignore[operator]
        fpn = FPN(
            self.width,
            extra=self.extra,
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="fpn",
        )
        return fpn(tuple(maps[number] for number in self.maps), train=train)

    @nn.nowrap
    def layers(self, x: jax.Array) -> dict[str, Any]:
        """What a head on maps like x is made with: see `RetinaNetHead` and `FCOSHead`."""
        conv = partial(
            nn.Conv,
            kernel_init=nn.initializers.normal(0.01),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        logits = partial(
            conv,
            kernel_size=(3, 3),
            padding=1,
            dtype=np.promote_types(x.dtype, np.float32),
            precision="highest",
        )
        norm = self.head_norm
        if norm is not None:
            norm = partial(norm, dtype=self.dtype, param_dtype=self.param_dtype)
        return {
            "num_classes": self.num_classes,
            "conv": conv,
            "logits": logits,
            "norm": norm,
            "prior": self.prior,
            "depth": self.depth,
            "name": "head",
        }

    @nn.nowrap
    def anchors(
        self,
        image: jax.Array,
        maps: Maps,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
    ) -> tuple[jax.Array, tuple[int, ...]]:
        """(A, 4) float32 of all levels, and how many each has: see `anchors_of`.

        Args:
            image: (B, H, W, C).
            maps: of each level.
            sizes: of each level.
            ratios: height by width.
        """
        places = [x.shape[1:3] for x in maps]
        levels = anchors_of(image.shape[1:3], places, self.strides, sizes, ratios)  # type: ignore[arg-type]
        return jnp.asarray(np.concatenate(levels)), tuple(map(len, levels))

    @nn.nowrap
    def detections(
        self, scores: jax.Array, boxes: jax.Array, counts: Sequence[int], extent: jax.Array
    ) -> Detections:
        """`detections` by one's own fields."""
        return detections(
            scores,
            boxes,
            counts,
            extent,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            candidates=self.candidates,
            limit=self.limit,
        )


def prior_bias(prior: float) -> nn.initializers.Initializer:
    """Logits whose sigmoid is `prior` at first (Lin et al. 2017, section 4.1)."""
    return nn.initializers.constant(-math.log((1 - prior) / prior))


def rows(maps: Maps, layer: Callable[[jax.Array], jax.Array], size: int) -> jax.Array:
    """What a layer yields on all maps, flattened: (B, h, w, a * size) each -> (B, A, size)."""
    made = [layer(x) for x in maps]
    return jnp.concatenate([y.reshape(y.shape[0], -1, size) for y in made], axis=1)


def detections(
    scores: jax.Array,
    boxes: jax.Array,
    counts: Sequence[int],
    extent: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    candidates: int,
    limit: int,
) -> Detections:
    """The detections among all predictions: torchvision's `postprocess_detections`.

    Of each level the `candidates` best pairs of a box and a class, above the threshold; of these
    boxes, clipped to the picture, what non-maximum suppression within each class leaves.

    Args:
        scores: (B, A, K) in 0..1.
        boxes: (B, A, 4) in pixels.
        counts: rows of each level; they sum to A.
        extent: (B, 4) x0 y0 x1 y1 of the picture in the image.
        score_threshold: scores are above it.
        nms_threshold: a box whose IoU with a better one is above it is left out.
        candidates: pairs of each level that are looked at.
        limit: detections of an image.
    """
    boxes, ends = clip(boxes.astype(jnp.float32), extent), np.cumsum(counts)[:-1]
    levels = zip(
        jnp.split(boxes, ends, axis=1),
        jnp.split(scores.astype(jnp.float32), ends, axis=1),
        strict=True,
    )
    found = [pairs(*level, candidates) for level in levels]
    boxes, scores, labels = (jnp.concatenate(each, axis=1) for each in zip(*found, strict=True))
    valid = scores > score_threshold
    return best(boxes, scores, labels, valid, threshold=nms_threshold, limit=limit)
