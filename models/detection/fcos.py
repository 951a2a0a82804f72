"""FCOS (Tian et al. 2019, arXiv:1904.01355): every point of a pyramid says how far its box reaches.

`fcos_resnet50_fpn` is torchvision's, whose published weights it takes (`models.pretrained`): the
centreness stands beside the boxes, and levels 6 and 7 come from the pyramid's level 5 (Tian et al.
2020, arXiv:2006.09214).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from models.classification.resnet import ResNet18, ResNet50
from models.detection.dense import (
    DenseDetector,
    GroupNorm,
    Maps,
    Tower,
    prior_bias,
    rows,
)
from models.detection.detections import Detections
from models.detection.detector import detector

ModuleDef = Callable[..., Any]


@flax.struct.dataclass
class FCOSOutput:
    """What FCOS says of every point of a batch.

    Attributes:
        logits: (B, A, num_classes), each class's own (sigmoid, not softmax).
        distances: (B, A, 4), at least 0: from the point to the left, upper, right and lower side of
            its object's box, in strides of the level.
        centreness: (B, A) logits.
        anchors: (A, 4) float32, pixels: a square about each point, its side the level's stride.
        counts: points of each level; they sum to A.
    """

    logits: jax.Array
    distances: jax.Array
    centreness: jax.Array
    anchors: jax.Array
    counts: tuple[int, ...] = flax.struct.field(pytree_node=False)


class FCOSHead(nn.Module):
    """Two towers, shared by all levels: classes; boxes and centreness (section 3, fig. 2).

    (…, (B, h, w, c)) -> (B, A, num_classes), (B, A, 4), (B, A)

    Attributes:
        conv, norm: of the towers.
        logits: makes the last layers.
        prior: the probability of every class at every point at first.
        depth: convolutions of a tower.
    """

    num_classes: int
    conv: ModuleDef
    logits: ModuleDef
    norm: ModuleDef | None
    prior: float
    depth: int

    @nn.compact
    def __call__(self, maps: Maps) -> tuple[jax.Array, jax.Array, jax.Array]:
        tower = partial(Tower, self.depth, self.conv, self.norm)
        classes, boxes = (tower(name=f"{name}_tower") for name in ("class", "box"))
        of_classes, of_boxes = (tuple(map(each, maps)) for each in (classes, boxes))
        logits = self.logits(
            self.num_classes, bias_init=prior_bias(self.prior), name="class_logits"
        )
        distances = self.logits(4, name="box_distances")
        centreness = self.logits(1, name="centreness")
        return (
            rows(of_classes, logits, self.num_classes),
            nn.relu(rows(of_boxes, distances, 4)),
            rows(of_boxes, centreness, 1)[..., 0],
        )


class FCOS(DenseDetector):
    """Images to what every point says: (B, H, W, C) -> `FCOSOutput`."""

    head_norm: ModuleDef | None = GroupNorm
    score_threshold: float = 0.2
    nms_threshold: float = 0.6
    limit: int = 100

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> FCOSOutput:
        maps = self.pyramid(image, train=train)
        outputs = FCOSHead(**self.layers(maps[0]))(maps)
        sizes = [(stride,) for stride in self.strides]
        return FCOSOutput(*outputs, *self.anchors(image, maps, sizes, ratios=(1.0,)))

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The objects in images: `detections` by the square root of class times centreness.

        Args:
            image: (B, H, W, C).
            extent: (B, 4) x0 y0 x1 y1 of the picture in each.
        """
        output = self(image, train=False)
        return self.detections(scores(output), boxes(output), output.counts, extent)


def scores(output: FCOSOutput) -> jax.Array:
    """(B, A, num_classes) in 0..1, the geometric mean of class and centreness (2020, eq. 4)."""
    centred = jax.nn.sigmoid(output.centreness)[..., None]
    return jnp.sqrt(jax.nn.sigmoid(output.logits) * centred)


def boxes(output: FCOSOutput) -> jax.Array:
    """(B, A, 4) in pixels."""
    return reach(output.distances, output.anchors)


def reach(distances: jax.Array, anchors: jax.Array) -> jax.Array:
    """Boxes (…, A, 4) in pixels that reach so far, in sides of the anchors, from their centres.

    Args:
        distances: (…, A, 4) to the left, upper, right and lower side.
        anchors: (A, 4).
    """
    centre = (anchors[:, :2] + anchors[:, 2:]) / 2
    side = anchors[:, 2:] - anchors[:, :2]
    low, high = distances[..., :2], distances[..., 2:]
    shape = (1,) * (distances.ndim - 2) + centre.shape
    centre, side = centre.reshape(shape), side.reshape(shape)
    return jnp.concatenate([centre - low * side, centre + high * side], -1)


fcos_resnet50_fpn = partial(detector, FCOS, ResNet50)
fcos_resnet18_fpn = partial(detector, FCOS, ResNet18)
