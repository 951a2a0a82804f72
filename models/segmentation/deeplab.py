"""DeepLab: atrous convolutions, and what reads a map at several scales at once.

| | source | head |
|---|---|---|
| v1, LargeFOV | Chen et al. 2014, arXiv:1412.7062, section 3 | a dilated 3x3 for VGG's 7x7 |
| v2 | Chen et al. 2016, arXiv:1606.00915, section 3.2 | ASPP: a sum of such heads, by rate |
| v3 | Chen et al. 2017, arXiv:1706.05587, section 3.3 | ASPP with BatchNorm and image pooling |
| v3+ | Chen et al. 2018, arXiv:1802.02611, section 3.1 | v3's, and a decoder with an early map |

Rates belong to an output stride, and follow the backbone's. The dense CRF that follows v1 and v2 in
their papers is no part of the networks here.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from models.classification.resnet import ResNet18, ResNet50, ResNet101
from models.classification.vgg import VGG
from models.layers.pooling import global_average_pool
from models.layers.resize import bilinear
from models.segmentation.fcn import FCNHead
from models.segmentation.segmenter import check_fields, segmenter

ModuleDef = Callable[..., Any]
Maps = tuple[jax.Array, ...]


class LargeFOV(nn.Module):
    """A dilated 3x3 convolution and a 1x1, both with ReLU and dropout; logits (v1, section 3.2).

    (…, (B, h, w, c)) -> (B, h, w, num_classes)

    Attributes:
        rate: of the 3x3 convolution, at an output stride of 8.
        width: channels of both.
        dropout: rate after each.

    Raises:
        ValueError: `rate` or `width` is below 1; `dropout` is not from 0 to below 1.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    rate: int = 12
    width: int = 1024
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(rate=self.rate, width=self.width, dropout=self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> jax.Array:
        rate = followed(self.rate, 8, self.strides)
        drop = partial(nn.Dropout, self.dropout, deterministic=not train)
        first = self.conv(
            self.width,
            (3, 3),
            kernel_dilation=rate,
            padding=rate,
            use_bias=True,
            name="hidden1",
        )
        y = drop()(nn.relu(first(maps[-1])))
        second = self.conv(self.width, (1, 1), use_bias=True, name="hidden2")
        y = drop()(nn.relu(second(y)))
        return self.logits(self.num_classes, (1, 1), name="logits")(y)


class Atrous(nn.Module):
    """A dilated 3x3 convolution to logits: v2's branch on ResNet (its section 4.1.2).

    (…, (B, h, w, c)) -> (B, h, w, num_classes)

    Attributes:
        rate: at an output stride of 8.

    Raises:
        ValueError: `rate` is below 1.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    rate: int

    def __post_init__(self) -> None:
        check_fields(rate=self.rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> jax.Array:
        rate = followed(self.rate, 8, self.strides)
        layer = self.logits(
            self.num_classes, (3, 3), kernel_dilation=rate, padding=rate, name="logits"
        )
        return layer(maps[-1])


class Sum(nn.Module):
    """The sum of one head's logits at several rates: v2's ASPP (its section 3.2).

    Attributes:
        branch: `LargeFOV` or `Atrous`.
        rates: of each branch, at an output stride of 8; the paper's ASPP-L.

    Raises:
        ValueError: there are no `rates`, or one is below 1; what a branch refuses.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    branch: ModuleDef
    rates: tuple[int, ...] = (6, 12, 18, 24)

    def __post_init__(self) -> None:
        check_fields(rates=self.rates)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> jax.Array:
        make = partial(
            self.branch,
            self.num_classes,
            strides=self.strides,
            conv=self.conv,
            norm=self.norm,
            logits=self.logits,
        )
        branches = [
            make(rate=rate, name=f"branch{number}")(maps, train=train)
            for number, rate in enumerate(self.rates, 1)
        ]
        return sum(branches[1:], start=branches[0])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling with BatchNorm and image pooling (v3, fig. 5).

    (B, h, w, c) -> (B, h, w, width). In training with one image a device step the pooled branch has
    one value a channel, which BatchNorm refuses.

    Attributes:
        rates: of the dilated 3x3 convolutions, three in the paper.
        width: channels of every branch, and of what comes out.
        dropout: rate at the end.

    Raises:
        ValueError: there are no `rates`, one or `width` is below 1; `dropout` is not from 0 to
            below 1.
    """

    conv: ModuleDef
    norm: ModuleDef
    rates: tuple[int, ...]
    width: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(rates=self.rates, width=self.width, dropout=self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        def layer(x: jax.Array, name: str, kernel: int = 1, rate: int = 1) -> jax.Array:
            padding = rate * (kernel // 2)
            conv = self.conv(
                self.width,
                (kernel, kernel),
                kernel_dilation=rate,
                padding=padding,
                name=f"{name}_conv",
            )
            return self.norm(name=f"{name}_norm")(conv(x), train=train, act=nn.relu)

        branches = [layer(x, "branch1")]
        for number, rate in enumerate(self.rates, 2):
            branches.append(layer(x, f"branch{number}", kernel=3, rate=rate))
        pooled = layer(global_average_pool(x)[:, None, None], "pooled")
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        y = layer(jnp.concatenate(branches, -1), "project")
        return nn.Dropout(self.dropout, deterministic=not train)(y)


class DeepLabV3Head(nn.Module):
    """ASPP, a 3x3 convolution, logits: torchvision's form of v3.

    (…, (B, h, w, c)) -> (B, h, w, num_classes)

    Attributes:
        rates: at an output stride of 16; at 8 they double, as in the paper's section 3.3.
        width: channels of all inner maps.
        dropout: `ASPP`'s.

    Raises:
        ValueError: what `ASPP` refuses.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    rates: tuple[int, ...] = (6, 12, 18)
    width: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(rates=self.rates, width=self.width, dropout=self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> jax.Array:
        rates = tuple(followed(rate, 16, self.strides) for rate in self.rates)
        aspp = ASPP(self.conv, self.norm, rates, self.width, self.dropout, name="aspp")
        y = aspp(maps[-1], train=train)
        y = self.conv(self.width, (3, 3), padding=1, name="conv")(y)
        y = self.norm(name="norm")(y, train=train, act=nn.relu)
        return self.logits(self.num_classes, (1, 1), name="logits")(y)


class DeepLabV3PlusHead(nn.Module):
    """v3's ASPP, brought to the size of the first map and refined with it (v3+, fig. 2).

    ((B, H, W, C), …, (B, h, w, c)) -> (B, H, W, num_classes)

    Attributes:
        rates: at an output stride of 16; at 8 they double.
        width: channels of all inner maps.
        early: channels to which the first map is brought (v3+, table 1).
        dropout: `ASPP`'s.

    Raises:
        ValueError: `early` is below 1; what `ASPP` refuses.
    """

    num_classes: int
    strides: tuple[int, ...]
    conv: ModuleDef
    norm: ModuleDef
    logits: ModuleDef
    rates: tuple[int, ...] = (6, 12, 18)
    width: int = 256
    early: int = 48
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_fields(rates=self.rates, width=self.width, early=self.early, dropout=self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(self, maps: Maps, *, train: bool) -> jax.Array:
        first = maps[0]
        rates = tuple(followed(rate, 16, self.strides) for rate in self.rates)
        aspp = ASPP(self.conv, self.norm, rates, self.width, self.dropout, name="aspp")
        y = bilinear(aspp(maps[-1], train=train), *first.shape[1:3])
        early = self.conv(self.early, (1, 1), name="early_conv")(first)
        early = self.norm(name="early_norm")(early, train=train, act=nn.relu)
        y = jnp.concatenate([y, early], -1)
        for number in (1, 2):
            y = self.conv(self.width, (3, 3), padding=1, name=f"conv{number}")(y)
            y = self.norm(name=f"norm{number}")(y, train=train, act=nn.relu)
        return self.logits(self.num_classes, (1, 1), name="logits")(y)


def followed(rate: int, at: int, strides: tuple[int, ...]) -> int:
    """A rate that spans on the last map what it spans at an output stride `at`; at least 1."""
    return max(rate * at // strides[-1], 1)


# VGG-16 as the paper dilates it: the last two poolings keep the resolution.
DeepLabVGG16 = partial(VGG, stages=(2, 2, 3, 3, 3), window=3, output_stride=8)

deeplab_largefov = partial(segmenter, DeepLabVGG16, head=LargeFOV)
deeplabv2_vgg16 = partial(segmenter, DeepLabVGG16, head=partial(Sum, branch=LargeFOV))
deeplabv2_resnet101 = partial(
    segmenter, partial(ResNet101, output_stride=8), head=partial(Sum, branch=Atrous)
)


def v3(backbone: ModuleDef) -> partial:
    """v3 with an auxiliary head, on a backbone of output stride 8, as torchvision's."""
    return partial(
        segmenter, partial(backbone, output_stride=8), head=DeepLabV3Head, aux_head=FCNHead
    )


def v3plus(backbone: ModuleDef) -> partial:
    """v3+ on a backbone of output stride 16, which its section 4 trains with."""
    return partial(segmenter, partial(backbone, output_stride=16), head=DeepLabV3PlusHead)


def narrowed(channels: tuple[int, ...]) -> dict[str, Any]:
    """Fields of v3 on a ResNet-18 of other widths; its head is half as wide as the last stage.

    Args:
        channels: of each of the four stages; the stem is as wide as the first.

    Raises:
        ValueError: they are not four; or the third is too narrow for the auxiliary head.
    """
    if len(channels) != 4:
        raise ValueError(f"ResNet-18 has 4 stages, not {len(channels)}")
    if channels[2] < 4:
        raise ValueError("a quarter of the third stage's is none")
    head = partial(DeepLabV3Head, width=max(channels[-1] // 2, 1))
    return {"stem_features": channels[0], "channels": channels, "head": head}


deeplabv3_resnet18 = v3(ResNet18)
deeplabv3_resnet50 = v3(ResNet50)
deeplabv3_resnet101 = v3(ResNet101)
deeplabv3plus_resnet50 = v3plus(ResNet50)
deeplabv3plus_resnet101 = v3plus(ResNet101)
