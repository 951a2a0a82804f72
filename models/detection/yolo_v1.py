"""YOLO (Redmon et al. 2016, arXiv:1506.02640): two boxes and one class a cell, from dense layers.

`YOLOv1` is the network, `YOLOv1Backbone` its 24 convolutions; `boxes_of` and `scores_of` say what
its outputs mean.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from models.classification.classifier import check_num_classes
from models.detection.darknet import EPSILON, DarknetSmall, leaky
from models.detection.detections import Detections
from models.detection.detector import detector
from models.detection.grid import check_multiple, corners, least_multiple
from models.detection.selection import select
from models.layers.image import check_channels, check_image
from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]
Stage = tuple[tuple[int, int], ...]
"""Channels and kernel of each convolution."""


class YOLOv1Backbone(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, ceil(H / stride), ceil(W / stride), c) a stage.

    Convolutions with LeakyReLU (fig. 3). The first has a stride of 2; between stages stands the
    maximum over 2x2, but before the last one, whose first convolution has a stride of 2 instead.

    Attributes:
        stages: channels and kernel of each convolution of each stage.
        batch_norm: whether `norm` takes the place of the biases. The paper has none; the authors'
            later files of this network do.
        act, epsilon, norm, conv_general_dilated, dtype, param_dtype: as `Darknet`'s.

    Raises:
        ValueError: there are less than two stages, or an empty one; in a call, the image is none.
    """

    stages: tuple[Stage, ...]
    batch_norm: bool = False
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = EPSILON
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if len(self.stages) < 2 or not all(self.stages):
            raise ValueError(f"stages={self.stages} must be at least two, none of them empty")
        super().__post_init__()

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each map."""
        return tuple(2**stage for stage in range(1, len(self.stages) + 1))

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return tuple(stage[-1][0] for stage in self.stages)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x)
        check_channels(x, self, "stage1_conv1")
        types = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        maps: list[jax.Array] = []
        for stage, layers in enumerate(self.stages, 1):
            if 1 < stage < len(self.stages):
                x = max_pool(x, (2, 2), strides=2, padding="SAME")
            for number, (features, kernel) in enumerate(layers, 1):
                conv = nn.Conv(
                    features,
                    (kernel, kernel),
                    strides=2 if number == 1 and stage in (1, len(self.stages)) else 1,
                    padding=kernel // 2,
                    use_bias=not self.batch_norm,
                    kernel_init=nn.initializers.he_normal(),
                    conv_general_dilated=self.conv_general_dilated,
                    name=f"stage{stage}_conv{number}",
                    **types,
                )
                x = conv(x)
                if self.batch_norm:
                    norm = self.norm(
                        epsilon=self.epsilon, name=f"stage{stage}_norm{number}", **types
                    )
                    x = norm(x, train=train, act=self.act)
                else:
                    x = self.act(x)
            maps.append(x)
        return tuple(maps)


class Predicted(NamedTuple):
    """What `YOLOv1` says of each cell, at least float32; all of it linear, with no sigmoid."""

    boxes: jax.Array
    """(B, rows, columns, boxes, 5): x and y of the centre in the cell, 0..1; square roots of width
    and height, each by the image's; the confidence, which is to be the IoU with an object."""
    classes: jax.Array
    """(B, rows, columns, num_classes): P(class | object)."""


class YOLOv1(nn.Module):
    """Images to `Predicted`: (B, H, W, C) float.

    H and W are multiples of the backbone's last stride.

    The last map is flattened, (H, W, C), and goes through two dense layers: the parameters depend
    on the image's size, and the network takes images of the size alone that `init` saw: 448x448 in
    the paper, with 7x7 cells. A cell is a pixel of the backbone's last map. Dropout draws from
    `dropout`.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps, with `strides` and `channels`.
        num_classes: at least 1; no background.
        boxes: of each cell.
        hidden: width of the first dense layer.
        dropout: rate behind it, in training.
        score_threshold: of detections: confidence times P(class | object) is above it.
        nms_threshold: intersection over union from which the lower of two boxes of a class goes.
        candidates: most pairs of a box and a class of an image that non-maximum suppression sees.
        limit: most detections of an image.
        act: behind the first dense layer.
        epsilon, norm, conv_general_dilated: the backbone's; there is nothing else of that kind.
        dtype, param_dtype: as the backbone's.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: it, `boxes` or `hidden` is below 1; `dropout` is not from 0 to below 1; in a
            call, the image is none, or of another size than `init` saw.
    """

    backbone: nn.Module
    num_classes: int
    boxes: int = 2
    hidden: int = 4096
    dropout: float = 0.5
    score_threshold: float = 0.005
    nms_threshold: float = 0.5
    candidates: int = 1000
    limit: int = 100
    act: Callable[[jax.Array], jax.Array] = leaky
    epsilon: float = EPSILON
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if min(self.boxes, self.hidden) < 1:
            raise ValueError(f"boxes={self.boxes} and hidden={self.hidden} must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be from 0 to below 1")
        super().__post_init__()

    one_size: ClassVar[bool] = True
    """Images are of the size alone that `init` saw."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to a cell: one number."""
        return (self.backbone.strides[-1],)  # type: ignore[attr-defined]

    def input_size(self, size: int) -> int:
        """The least height or width of an image that covers `size` pixels."""
        return least_multiple(size, self.strides[-1])

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Predicted:
        check_image(image)
        check_multiple(image, self.strides[-1])
        last = self.backbone(image, train=train)[-1]  # type: ignore[operator]
        batch, rows, columns, _ = last.shape
        flat = last.reshape(batch, math.prod(last.shape[1:]))
        known: Any = self.get_variable("params", "hidden", {})
        if "kernel" in known and known["kernel"].shape[0] != flat.shape[1]:
            raise ValueError(
                f"image of shape {image.shape}: {rows}x{columns} cells of {last.shape[-1]} values; "
                f"the dense layer is for images with {known['kernel'].shape[0]} values in all"
            )
        wide = np.promote_types(last.dtype, np.float32)
        dense = partial(nn.Dense, param_dtype=self.param_dtype)
        hidden = dense(
            self.hidden, dtype=last.dtype, kernel_init=nn.initializers.he_normal(), name="hidden"
        )
        y = self.act(hidden(flat))
        y = nn.Dropout(self.dropout, deterministic=not train)(y).astype(wide)
        each = 5 * self.boxes
        head = dense(
            rows * columns * (each + self.num_classes),
            dtype=wide,
            kernel_init=nn.initializers.normal(0.01),
            precision="highest",
            name="head",
        )
        y = head(y).reshape(batch, rows, columns, each + self.num_classes)
        boxes = y[..., :each].reshape(batch, rows, columns, self.boxes, 5)
        return Predicted(boxes, y[..., each:])

    def detect(self, image: jax.Array, extent: jax.Array) -> Detections:
        """The best boxes of images (B, H, W, C), clipped to `extent` (B, 4) x0 y0 x1 y1."""
        boxes, scores = decode(self(image, train=False), self.strides[-1])
        return select(
            boxes,
            scores,
            extent,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            candidates=self.candidates,
            limit=self.limit,
        )


def boxes_of(cells: Predicted, stride: int) -> jax.Array:
    """(B, rows, columns, boxes, 4) x0 y0 x1 y1 in pixels (section 2)."""
    rows, columns = cells.boxes.shape[1:3]
    centre = corners(cells.boxes, stride)[..., None, :] + cells.boxes[..., :2] * stride
    image = jnp.asarray([columns * stride, rows * stride], cells.boxes.dtype).reshape(1, 1, 1, 1, 2)
    half = jnp.square(cells.boxes[..., 2:4]) * image / 2
    return jnp.concatenate([centre - half, centre + half], axis=-1)


def scores_of(cells: Predicted) -> jax.Array:
    """(B, rows, columns, boxes, C): confidence times P(class | object) (section 2, eq. 1)."""
    return cells.boxes[..., 4:5] * cells.classes[..., None, :]


def decode(cells: Predicted, stride: int) -> tuple[jax.Array, jax.Array]:
    """Boxes (B, N, 4) in pixels and scores (B, N, C), by (y, x, box)."""
    batch, classes = cells.classes.shape[0], cells.classes.shape[-1]
    boxes, scores = boxes_of(cells, stride), scores_of(cells)
    return boxes.reshape(batch, -1, 4), scores.reshape(batch, -1, classes)


# Fig. 3: 24 convolutions.
STAGES: tuple[Stage, ...] = (
    ((64, 7),),
    ((192, 3),),
    ((128, 1), (256, 3), (256, 1), (512, 3)),
    (*((256, 1), (512, 3)) * 4, (512, 1), (1024, 3)),
    (*((512, 1), (1024, 3)) * 2, (1024, 3)),
    ((1024, 3), (1024, 3), (1024, 3)),
)
yolov1 = partial(detector, YOLOv1, YOLOv1Backbone, stages=STAGES)
# Our own, for small images: 12x12 cells at 96x96.
yolov1_small = partial(detector, YOLOv1, DarknetSmall, hidden=256)
