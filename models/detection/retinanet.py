"""RetinaNet (Lin et al. 2017, arXiv:1708.02002): anchors on a pyramid, classified all at once.

`retinanet_resnet50_fpn` and `retinanet_resnet50_fpn_v2` are torchvision's, whose published weights
they take (`models.pretrained`). The second has GroupNorm in its heads, and its levels 6 and 7 come
from the backbone's last map.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax

from models.classification.resnet import ResNet18, ResNet50
from models.detection.boxes import decode
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
from models.detection.fpn import Convolutions

ModuleDef = Callable[..., Any]


@flax.struct.dataclass
class RetinaNetOutput:
    """What RetinaNet says of every anchor of a batch.

    Attributes:
        logits: (B, A, num_classes), each class's own (sigmoid, not softmax).
        deltas: (B, A, 4): where the object's box lies (`models.detection.boxes.decode`).
        anchors: (A, 4) float32, pixels.
        counts: anchors of each level; they sum to A.
    """

    logits: jax.Array
    deltas: jax.Array
    anchors: jax.Array
    counts: tuple[int, ...] = flax.struct.field(pytree_node=False)


class RetinaNetHead(nn.Module):
    """Two towers, shared by all levels: classes and boxes (section 4, fig. 3).

    (…, (B, h, w, c)) -> (B, A, num_classes), (B, A, 4)

    Attributes:
        anchors: of each place.
        conv, norm: of the towers.
        logits: makes the last layers.
        prior: the probability of every class of every anchor at first.
        depth: convolutions of a tower.
    """

    num_classes: int
    anchors: int
    conv: ModuleDef
    logits: ModuleDef
    norm: ModuleDef | None
    prior: float
    depth: int

    @nn.compact
    def __call__(self, maps: Maps) -> tuple[jax.Array, jax.Array]:
        # torchvision's convolutions have no bias where a norm follows.
        conv = partial(self.conv, use_bias=self.norm is None)
        tower = partial(Tower, self.depth, conv, self.norm)
        classes, boxes = (tower(name=f"{name}_tower") for name in ("class", "box"))
        logits = self.logits(
            self.anchors * self.num_classes, bias_init=prior_bias(self.prior), name="class_logits"
        )
        deltas = self.logits(self.anchors * 4, name="box_deltas")
        return (
            rows(tuple(map(classes, maps)), logits, self.num_classes),
            rows(tuple(map(boxes, maps)), deltas, 4),
        )


class RetinaNet(DenseDetector):
    """Images to logits and deltas of anchors: (B, H, W, C) -> `RetinaNetOutput`.

    Attributes:
        scale: of a level's smallest anchors, in strides of the level; two more are 1/3 and 2/3 of
            an octave larger (section 4), rounded down to pixels as in torchvision.
        ratios: height by width, of the anchors of each size.
    """

    scale: float = 4.0
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> RetinaNetOutput:
        maps = self.pyramid(image, train=train)
        head = RetinaNetHead(anchors=3 * len(self.ratios), **self.layers(maps[0]))
        sizes = [
            [int(self.scale * stride * 2 ** (third / 3)) for third in range(3)]
            for stride in self.strides
        ]
        return RetinaNetOutput(*head(maps), *self.anchors(image, maps, sizes, self.ratios))

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The objects in images, scored by the sigmoid of a class.

        Args:
            image: (B, H, W, C).
            extent: (B, 4) x0 y0 x1 y1 of the picture in each.
        """
        output = self(image, train=False)
        return self.detections(jax.nn.sigmoid(output.logits), boxes(output), output.counts, extent)


def boxes(output: RetinaNetOutput) -> jax.Array:
    """(B, A, 4) in pixels."""
    return decode(output.deltas, output.anchors[None])


# Levels 6 and 7 from the backbone's last map, as in the paper.
V2 = partial(RetinaNet, head_norm=GroupNorm, extra=Convolutions)

retinanet_resnet50_fpn = partial(detector, RetinaNet, ResNet50)
retinanet_resnet18_fpn = partial(detector, RetinaNet, ResNet18)
retinanet_resnet50_fpn_v2 = partial(detector, V2, ResNet50)
