"""What `mlp_vs_cnn.py` trains: networks, and their parameters for images of any size."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import models
from experiments.mlp_vs_cnn_findings import Count
from models.classification.mlp import MLP
from models.layers.pooling import adaptive_average_pool
from train.data.source import About

COUNTED = (28, 56, 112, 224)
"""Sides in pixels for which parameters are counted, beside the data's."""
LECTURE = (1080, 1920, 3)
"""An image of the lecture's."""


class Flatten(nn.Module):
    """Images to logits: a backbone, its last map flattened, one dense layer.

    Attributes:
        backbone: `(x, *, train)` -> tuple of maps (B, h, w, c).
        head: of the map.
        size: that the map is averaged to first, as in AlexNet and VGG; None flattens it as it is.

    Raises:
        ValueError: in a call, what is flattened has other values than the weights are for.
    """

    backbone: nn.Module
    head: MLP
    size: int | None = None

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        last = self.backbone(x, train=train)[-1]  # type: ignore[operator]
        if self.size is not None:
            last = adaptive_average_pool(last, (self.size, self.size))
        return self.head(last, train=train)


def mlp(channels: tuple[int, ...], num_classes: int, **fields: Any) -> nn.Module:
    """Of 256, 128 and 100 units."""
    del channels
    return models.create("mlp", num_classes=num_classes, **fields)


def cnn(channels: tuple[int, ...], num_classes: int, **fields: Any) -> Any:
    """3x3 convolutions of these channels, pooling in between; the mean of its last maps."""
    stages = (1,) * len(channels)
    return models.create(
        "plain_cnn", num_classes=num_classes, stages=stages, channels=channels, **fields
    )


def flatten(channels: tuple[int, ...], num_classes: int, **fields: Any) -> nn.Module:
    """The same convolutions, their last maps flattened."""
    return Flatten(cnn(channels, num_classes, **fields).backbone, MLP(num_classes, widths=()))


NETWORKS: dict[str, Callable[..., nn.Module]] = {"mlp": mlp, "cnn": cnn, "flatten": flatten}
"""(channels, num_classes, **fields) -> a network; `fields` are the layers' and the arithmetic's."""


@dataclass(frozen=True)
class Training:
    """One of the study's.

    Attributes:
        name: of the network, in `NETWORKS`.
        permuted: whether the pixels of every image are in another order.
    """

    name: str
    permuted: bool = False

    @property
    def network(self) -> Callable[..., nn.Module]:
        """What makes it."""
        return NETWORKS[self.name]


TRAININGS = {
    "mlp": Training("mlp"),
    "cnn": Training("cnn"),
    "flatten": Training("flatten"),
    "mlp_permuted": Training("mlp", permuted=True),
    "cnn_permuted": Training("cnn", permuted=True),
}


def adaptive(trained: tuple[Any, Any], side: int) -> tuple[Flatten, Any]:
    """A `Flatten` with its own weights, behind a pooling to the map that they are for."""
    network, variables = trained
    assert isinstance(network, Flatten)
    backbone: Any = network.backbone
    return network.clone(size=side // backbone.strides[-1]), variables


def counts(channels: tuple[int, ...], about: About) -> Iterator[Count]:
    """Parameters for images of several sizes, the data's and the lecture's among them."""
    assert about.shape
    classes = len(about.classes)
    squares = sorted({*COUNTED, about.shape[0]})
    for image in (*((side, side, about.shape[2]) for side in squares), LECTURE):
        for name, make in NETWORKS.items():
            made = shapes(make(channels, classes), image)
            parameters = sum(math.prod(x.shape) for x in jax.tree.leaves(made["params"]))
            yield Count(name, image, parameters)
        half = shapes(MLP(classes, widths=(math.prod(image) // 2,)), image)
        yield Count("half", image, math.prod(half["params"]["hidden1"]["kernel"].shape))


def shapes(network: nn.Module, image: tuple[int, ...]) -> Any:
    """Of the variables for an image (H, W, C); nothing is allocated."""
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    return jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
