"""R-CNN (Girshick et al. 2014, arXiv:1311.2524): each proposal warped and classified by itself.

network = models.create("rcnn_alexnet", num_classes=21)
detections = network.apply(variables, image, extent, proposals, valid, method="detect")
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.alexnet import AlexNet
from models.classification.classifier import check_num_classes
from models.classification.resnet import ResNet18
from models.detection.boxes import clip, decode, large_enough, wide
from models.detection.detections import Detections, best, whole
from models.detection.detector import detector
from models.layers.image import check_image

SHARPNESS = 3.0
"""Of scores by SVMs: a margin of -1, which an SVM leaves its negatives at, then scores 0.05."""


class Regions(NamedTuple):
    """What the network makes of N warped regions, all at least float32."""

    logits: jax.Array
    """(N, num_classes); class 0 is the background."""
    features: jax.Array
    """(N, D): the last hidden layer, which the SVMs are trained on."""
    pooled: jax.Array
    """(N, F): the last map, flattened, which the boxes are regressed from."""


class RCNN(nn.Module):
    """Regions of images, each warped to one size, to `Regions`; `detect` to detections.

    The detections are the softmax's, or those of linear SVMs, which lie with the regressors of the
    boxes in the collection `svm` of the variables: no gradient trains them (sections 2.3, 7.3).

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c).
        num_classes: with the background, at least 2.
        size: height and width of warped regions.
        context: pixels of them around the proposal, on each side (appendix A).
        widths: units of each hidden layer, at least one.
        dropout: rate behind each of them, in training.
        svm: whether scores are the SVMs': sigmoids of `SHARPNESS` times their margins, in the same
            order; 0.5 is where an SVM says yes.
        regressed: whether proposals move by the regressors of their class, which need `svm`.
        chunk: regions at a time in `detect`.
        score_threshold, nms_threshold, limit: least score of a detection, largest IoU of two of a
            class, and most of them in an image.
        least: shortest side of a detection in pixels.
        param_dtype: of the dense layers and of the collection `svm`.

    Raises:
        TypeError: `num_classes` is no whole number.
        ValueError: a field is out of its range.
    """

    backbone: nn.Module
    num_classes: int
    size: int = 227
    context: int = 16
    widths: tuple[int, ...] = (256,)
    dropout: float = 0.5
    svm: bool = False
    regressed: bool = False
    chunk: int = 256
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    limit: int = 100
    least: float = 1.0
    param_dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        check_num_classes(self.num_classes)
        if self.num_classes < 2:
            raise ValueError(f"num_classes={self.num_classes}: the background and at least one")
        if min(self.widths, default=0) < 1:
            raise ValueError(f"widths={self.widths} must be at least one, each above 0")
        if min(self.chunk, self.limit) < 1:
            raise ValueError(f"chunk={self.chunk} and limit={self.limit} must be at least 1")
        if not 0 <= 2 * self.context < self.size:
            raise ValueError(f"context={self.context} leaves nothing of size={self.size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout} must be from 0 to below 1")
        if self.regressed and not self.svm:
            raise ValueError("regressed=True needs svm=True")
        super().__post_init__()

    def __call__(
        self,
        image: jax.Array,
        proposals: jax.Array | None = None,
        proposal_valid: jax.Array | None = None,
        *,
        train: bool,
    ) -> Regions:
        """What is in regions of images, those of an image one after the other.

        Args:
            image: (B, H, W, C) floats, normalised.
            proposals: (B, P, 4) x0 y0 x1 y1 in pixels; by default one of each image, all of it, so
                that images alone make every parameter.
            proposal_valid: (B, P) bool; the others are read too, and to be passed over.
            train: whether dropout drops and BatchNorm takes the regions' statistics.
        """
        del proposal_valid
        check_image(image)
        if proposals is None:
            proposals = whole(image)[:, None]
        owner = jnp.repeat(jnp.arange(image.shape[0]), proposals.shape[1])
        return self.classify(self.warped(image, proposals.reshape(-1, 4), owner), train=train)

    @nn.nowrap
    def warped(self, image: jax.Array, boxes: jax.Array, owner: jax.Array) -> jax.Array:
        """See `warp`."""
        return warp(image, boxes, owner, size=self.size, context=self.context)

    @nn.compact
    def classify(self, x: jax.Array, *, train: bool) -> Regions:
        """Of regions that are warped: (N, size, size, C) -> `Regions`."""
        check_image(x)
        last = self.backbone(x, train=train)[-1]  # type: ignore[operator]
        high = np.promote_types(last.dtype, np.float32)
        dense = partial(nn.Dense, param_dtype=self.param_dtype)
        hidden = partial(dense, dtype=last.dtype, kernel_init=nn.initializers.he_normal())
        pooled = y = last.reshape(last.shape[0], -1)
        for number, width in enumerate(self.widths, 1):
            features = nn.relu(hidden(width, name=f"hidden{number}")(y))
            y = nn.Dropout(self.dropout, deterministic=not train)(features)
        head = dense(self.num_classes, dtype=high, precision="highest", name="head")
        found = Regions(head(y.astype(high)), features.astype(high), pooled.astype(high))
        for name, shape in self.collected(*(each.shape[1] for each in found[1:])).items():
            self.variable("svm", name, jnp.zeros, shape, self.param_dtype)
        return found

    def collected(self, features: int, pooled: int) -> dict[str, tuple[int, ...]]:
        """Name -> shape of what the collection `svm` holds; {} without SVMs."""
        classes = self.num_classes - 1
        found: dict[str, tuple[int, ...]] = {}
        if self.svm:
            found |= {"kernel": (features, classes), "bias": (classes,)}
        if self.regressed:
            found |= {"box_kernel": (pooled, 4 * classes), "box_bias": (4 * classes,)}
        return found

    def regions(self, image: jax.Array, boxes: jax.Array) -> Regions:
        """What the network makes of boxes of images, in inference mode, `chunk` at a time.

        Args:
            image: (B, H, W, C), normalised.
            boxes: (B, P, 4).

        Returns:
            Of B * P regions.
        """
        pure, variables = self.unbind()
        batch, count = boxes.shape[:2]
        owner = jnp.repeat(jnp.arange(batch), count)
        flat, total = boxes.reshape(-1, 4), batch * count
        chunk = self.chunk
        if isinstance(total, int):  # no symbol, of an export
            chunk = min(chunk, max(1, total))
        # The last chunk is filled with the last region. By indices: no symbol may be padded by.
        rows = jnp.minimum(jnp.arange(-(-total // chunk) * chunk), total - 1).reshape(-1, chunk)

        def some(part: tuple[jax.Array, jax.Array]) -> Regions:
            x = self.warped(image, *part)
            found: Any = pure.apply(variables, x, train=False, method="classify")
            return found

        found = jax.lax.map(some, (flat[rows], owner[rows]))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[jnp.arange(total)], found)

    def held(self, *names: str) -> tuple[jax.Array, ...]:
        """Arrays of the collection `svm`."""
        return tuple(self.get_variable("svm", name) for name in names)

    def detect(
        self, image: jax.Array, extent: jax.Array, proposals: jax.Array, proposal_valid: jax.Array
    ) -> Detections:
        """The detections of images among their proposals.

        Args:
            image: (B, H, W, C), normalised.
            extent: (B, 4): what of it is picture and not padding.
            proposals: (B, P, 4).
            proposal_valid: (B, P) bool.
        """
        found = self.regions(image, proposals)
        scores = nn.softmax(found.logits)[:, 1:]
        classes = self.num_classes - 1
        boxes = jnp.repeat(wide(proposals).reshape(-1, 1, 4), classes, axis=1)
        if self.svm:
            kernel, bias = self.held("kernel", "bias")
            product = jnp.matmul(found.features, kernel, precision="highest")
            scores = nn.sigmoid(SHARPNESS * (product + bias.reshape(1, -1)))
        if self.regressed:
            kernel, bias = self.held("box_kernel", "box_bias")
            deltas = jnp.matmul(found.pooled, kernel, precision="highest") + bias.reshape(1, -1)
            boxes = decode(deltas.reshape(-1, classes, 4), boxes)
        return kept(
            boxes.reshape(*proposals.shape[:2], classes, 4),
            scores.reshape(*proposals.shape[:2], classes),
            extent,
            proposal_valid,
            score_threshold=self.score_threshold,
            nms_threshold=self.nms_threshold,
            limit=self.limit,
            least=self.least,
        )


def kept(
    boxes: jax.Array,
    scores: jax.Array,
    extent: jax.Array,
    valid: jax.Array,
    *,
    score_threshold: float,
    nms_threshold: float,
    limit: int,
    least: float,
) -> Detections:
    """Boxes and scores of every class, clipped to the picture, suppressed class by class.

    Args:
        boxes: (B, P, C, 4).
        scores: (B, P, C), without the background.
        extent: (B, 4).
        valid: (B, P) bool.
        score_threshold: least score of a detection.
        nms_threshold: largest IoU of two of a class.
        limit: most detections of an image.
        least: shortest side of one, in pixels.
    """
    batch, _, classes = scores.shape
    flat = clip(boxes.reshape(batch, -1, 4), extent)
    each = scores.reshape(batch, -1)
    labels = jnp.broadcast_to(jnp.arange(classes, dtype=jnp.int32), scores.shape)
    there = jnp.repeat(valid, classes, axis=1) & (each >= score_threshold)
    there &= large_enough(flat, least)
    return best(flat, each, labels.reshape(batch, -1), there, threshold=nms_threshold, limit=limit)


def warp(
    image: jax.Array, boxes: jax.Array, owner: jax.Array, *, size: int, context: int
) -> jax.Array:
    """Regions of images, each stretched to one square with a border of its surroundings.

    Girshick et al. 2014, appendix A (d): the box covers the middle `size` - 2 `context` pixels, and
    as much around it as those scales make of the border. Bilinear between centres of pixels, exact
    where nothing is scaled and the box is on whole pixels. What lies outside the image is 0: the
    mean, once images are normalised.

    Args:
        image: (B, H, W, C) floats.
        boxes: (N, 4), x0 y0 x1 y1 in pixels; an empty one gives what is around a point.
        owner: (N,) integers: the image of each.
        size: height and width of what comes out.
        context: pixels of it around the box, on each side.

    Returns:
        (N, size, size, C) of the image's type.
    """
    image, boxes = jnp.asarray(image), wide(boxes)
    height, width = image.shape[1:3]
    # From -context to size - context in steps of one, as shares of the box.
    shares = (jnp.arange(size, dtype=boxes.dtype) + 0.5 - context) / (size - 2 * context)
    shares = shares.reshape(1, -1)

    def beside(low: jax.Array, high: jax.Array, room: int, axis: int) -> list[Any]:
        """The two pixels along an axis that each place lies between, and what each weighs."""
        centre = low[:, None] + shares * (high - low)[:, None] - 0.5
        first = jnp.floor(centre)
        found = []
        for at in (first, first + 1):
            weight = jnp.where((at >= 0) & (at < room), 1 - jnp.abs(centre - at), 0)
            place = jnp.clip(at, 0, room - 1).astype(jnp.int32)
            found.append([jnp.expand_dims(each, axis) for each in (place, weight)])
        return found

    rows = beside(boxes[:, 1], boxes[:, 3], height, 2)
    columns = beside(boxes[:, 0], boxes[:, 2], width, 1)
    # The four pixels about a place: nothing that is made is as large as the images.
    owner = owner.reshape(-1, 1, 1)
    found = jnp.zeros((), boxes.dtype)
    for y, of_y in rows:
        for x, of_x in columns:
            pixels = image.at[owner, y, x].get(mode="promise_in_bounds")
            found = found + (of_y * of_x)[..., None] * wide(pixels)
    return found.astype(image.dtype)


def hidden_layers(params: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier's parameters as those of R-CNN on it; its head, of other classes, is left out.

    Raises:
        ValueError: the backbone is missing.
    """
    if "backbone" not in params:
        raise ValueError(f"params of {', '.join(params)}: backbone is missing")
    return {name: layers for name, layers in params.items() if name != "head"}


def narrowed(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a form on ResNet-18 for small images: regions come to 32x32.

    Args:
        channels: of each of the four stages; the stem is as wide as the first, the hidden layer
            twice as wide as the last.

    Raises:
        ValueError: they are not four.
    """
    if len(channels) != 4:
        raise ValueError(f"ResNet-18 has 4 stages, not {len(channels)}")
    return {
        "stem_features": channels[0],
        "channels": channels,
        "widths": (2 * channels[-1],),
        "size": 32,
        "context": 4,
    }


rcnn = partial(detector, RCNN)
# Section 2.2 in the form of AlexNet that has published weights: 227x227, two layers of 4096.
rcnn_alexnet = partial(rcnn, AlexNet, widths=(4096, 4096))
rcnn_resnet18 = partial(rcnn, ResNet18, size=224)
