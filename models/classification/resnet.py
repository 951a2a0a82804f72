"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2016), Wide ResNet (Zagoruyko & Komodakis 2016).

`ResNet` is the backbone; the partials at the end name its variants. Padding is explicit and the
same on both sides at stride 2 too, as in the authors' code and in torchvision.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from models.classification.stages import check_output_stride, check_stages
from models.layers.image import check_channels, check_image
from models.layers.norm import BatchNorm
from models.layers.pooling import max_pool

ModuleDef = Callable[..., Any]


class Shortcut(nn.Module):
    """The input of a block in the shape of its output (He et al. 2015, sections 3.3 and 4.1).

    (B, H, W, C) -> (B, ceil(H / strides), ceil(W / strides), features)

    Attributes:
        option: where the shape changes, "A" takes every strides-th pixel and appends channels of
            zeros, "B" projects by a 1x1 convolution; "C" projects in every block. "none" yields
            None, and nothing is added: a plain network (section 3.3).
    """

    features: int
    strides: int
    option: str
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array | None:
        if self.option == "none":
            return None
        channels = x.shape[-1]
        if self.option != "C" and self.strides == 1 and self.features == channels:
            return x
        if self.option == "A":
            if self.features < channels:
                raise ValueError(
                    f"shortcut='A' cannot narrow {channels} channels to features={self.features}"
                )
            x = x[:, :: self.strides, :: self.strides]
            return jnp.pad(x, [(0, 0)] * 3 + [(0, self.features - channels)])
        y = self.conv(self.features, (1, 1), strides=self.strides, name="conv")(x)
        return self.norm(name="norm")(y, train=train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, fig. 2).

    (B, H, W, C) -> (B, ceil(H / strides), ceil(W / strides), features)

    Attributes:
        dilations: of the convolution that has the stride, and of what comes after it.
        last_norm: of the last convolution; None is `norm`.
    """

    features: int
    strides: int
    shortcut: ModuleDef
    conv: ModuleDef
    norm: ModuleDef
    dilations: tuple[int, int] = (1, 1)
    last_norm: ModuleDef | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        first, second = (
            partial(self.conv, self.features, (3, 3), kernel_dilation=d, padding=d)
            for d in self.dilations
        )
        y = first(strides=self.strides, name="conv1")(x)
        y = self.norm(name="norm1")(y, train=train, act=nn.relu)
        y = second(name="conv2")(y)
        x = self.shortcut(self.features, self.strides, name="shortcut")(x, train=train)
        return (self.last_norm or self.norm)(name="norm2")(y, train=train, add=x, act=nn.relu)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut (He et al. 2015, fig. 5; Xie et al. 2016, fig. 3c).

    (B, H, W, C) -> (B, ceil(H / strides), ceil(W / strides), features). The stride is on the 3x3
    convolution, as in torchvision, not on the first as in the paper.

    Attributes:
        features: channels that come out.
        dilations: of the convolution that has the stride, and of what comes after it: no other here
            has a dilation.
        groups: of the 3x3 convolution (ResNeXt's cardinality).
        width: channels of each group where 256 come out; it grows with `features`.
        last_norm: of the last convolution; None is `norm`.

    Raises:
        ValueError: `groups` or `width` is below 1, or width * features / 256 is not whole.
    """

    features: int
    strides: int
    shortcut: ModuleDef
    conv: ModuleDef
    norm: ModuleDef
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    width: int = 64
    last_norm: ModuleDef | None = None

    def __post_init__(self) -> None:
        if min(self.groups, self.width) < 1:
            raise ValueError(f"groups={self.groups} and width={self.width} must be at least 1")
        if self.width * self.features % 256:
            raise ValueError(
                f"width={self.width} and features={self.features}: "
                f"width * features / 256 must be whole"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        inner = self.groups * (self.width * self.features // 256)
        y = self.conv(inner, (1, 1), name="conv1")(x)
        y = self.norm(name="norm1")(y, train=train, act=nn.relu)
        y = self.conv(
            inner,
            (3, 3),
            strides=self.strides,
            kernel_dilation=self.dilations[0],
            padding=self.dilations[0],
            feature_group_count=self.groups,
            name="conv2",
        )(y)
        y = self.norm(name="norm2")(y, train=train, act=nn.relu)
        y = self.conv(self.features, (1, 1), name="conv3")(y)
        x = self.shortcut(self.features, self.strides, name="shortcut")(x, train=train)
        return (self.last_norm or self.norm)(name="norm3")(y, train=train, add=x, act=nn.relu)


class ImageNetStem(nn.Module):
    """7x7 convolution and 3x3 maximum, both at stride 2 (He et al. 2015, table 1).

    (B, H, W, C) -> (B, ceil(H / 4), ceil(W / 4), features)
    """

    stride: ClassVar[int] = 4
    features: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(self.features, (7, 7), strides=2, padding=3, name="conv")(x)
        x = self.norm(name="norm")(x, train=train, act=nn.relu)
        return max_pool(x, (3, 3), strides=2, padding=1)


class CIFARStem(nn.Module):
    """3x3 convolution (He et al. 2015, section 4.2): (B, H, W, C) -> (B, H, W, features)."""

    stride: ClassVar[int] = 1
    features: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(self.features, (3, 3), padding=1, name="conv")(x)
        return self.norm(name="norm")(x, train=train, act=nn.relu)


class ResNet(nn.Module):
    """A backbone: (B, H, W, C) float -> a map (B, ceil(H / stride), ceil(W / stride), c) a stage.

    Attributes:
        stages: blocks of each stage; from the second on, the first block halves the resolution.
        channels: of each stage's map.
        block: `BasicBlock` or `Bottleneck`, with their own fields bound if need be.
        stem: what precedes the stages; its `stride` says by how much it divides the resolution.
        stem_features: channels that it yields.
        shortcut: "A", "B", "C" or "none", see `Shortcut`.
        output_stride: of the last map, where it is to be less than the stages make it: a stage that
            would exceed it keeps the resolution, and what follows is dilated instead (Chen et al.
            2017, arXiv:1706.05587, section 3.1), so that every n-th value stays what it was.
        zero_init_residual: whether the scale of each block's last BatchNorm starts at 0 and not at
            1, so that the block begins as its shortcut (Goyal et al. 2017, section 5.1).
        norm: `BatchNorm`, or what has its call: `NoNorm` normalises nothing.
        conv_general_dilated: the convolution, with the signature of JAX's.
        dtype: of the arithmetic and the maps; inferred from input and parameters by default. How
            many digits a convolution's float32 factors keep on an accelerator is
            `jax_default_matmul_precision`'s to say.
        param_dtype: of the parameters.
        remat: whether a block's activations are computed again in the backward pass.

    Raises:
        ValueError: `shortcut` is none of the four, or "none" where `zero_init_residual`; `stages`
            and `channels` are empty, not as many or not above 0; `stem_features` is below 1;
            `output_stride` is that of no map.
    """

    stages: tuple[int, ...]
    channels: tuple[int, ...]
    block: ModuleDef
    stem: type[ImageNetStem] | type[CIFARStem] = ImageNetStem
    stem_features: int = 64
    shortcut: str = "B"
    output_stride: int | None = None
    zero_init_residual: bool = False
    norm: ModuleDef = BatchNorm
    conv_general_dilated: Callable[..., jax.Array] = lax.conv_general_dilated
    dtype: Any = None
    param_dtype: Any = jnp.float32
    remat: bool = False

    def __post_init__(self) -> None:
        if self.shortcut not in ("A", "B", "C", "none"):
            raise ValueError(f"shortcut={self.shortcut!r} is none of 'A', 'B', 'C', 'none'")
        if self.zero_init_residual and self.shortcut == "none":
            raise ValueError("zero_init_residual=True: with shortcut='none' blocks would yield 0")
        check_stages(self.stages, channels=self.channels)
        if self.stem_features < 1:
            raise ValueError(f"stem_features={self.stem_features} must be at least 1")
        check_output_stride(self.output_stride, self.undilated)
        super().__post_init__()

    @property
    def undilated(self) -> tuple[int, ...]:
        """`strides`, were there no `output_stride`."""
        return tuple(self.stem.stride * 2**stage for stage in range(len(self.stages)))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image to one of each stage's map."""
        most = self.output_stride or self.undilated[-1]
        return tuple(min(stride, most) for stride in self.undilated)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, ...]:
        check_image(x)
        check_channels(x, self, "stem", "conv")
        conv = partial(
            nn.Conv,
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            conv_general_dilated=self.conv_general_dilated,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        norm = partial(self.norm, dtype=self.dtype, param_dtype=self.param_dtype)
        zero = partial(norm, scale_init=nn.initializers.zeros)

        x = self.stem(self.stem_features, conv=conv, norm=norm, name="stem")(x, train=train)
        maps: list[jax.Array] = []
        stride = self.strides[0]
        dilation = 1
        for stage, (blocks, features) in enumerate(zip(self.stages, self.channels, strict=True), 1):
            before, dilation = dilation, self.undilated[stage - 1] // self.strides[stage - 1]
            for number in range(1, blocks + 1):
                # Where dilation takes a stride's place, what projected for its sake still does.
                kept = number == 1 < stage and self.strides[stage - 1] == stride
                option = "C" if kept and self.shortcut == "B" else self.shortcut
                block = self.block(
                    features,
                    strides=self.strides[stage - 1] // stride,
                    dilations=(before, dilation),
                    shortcut=partial(Shortcut, option=option, conv=conv, norm=norm),
                    conv=conv,
                    norm=norm,
                    last_norm=zero if self.zero_init_residual else None,
                    name=f"stage{stage}_block{number}",
                )
                run = lambda block, x: block(x, train=train)  # noqa: E731
                x = nn.remat(run)(block, x) if self.remat else run(block, x)
                stride, before = self.strides[stage - 1], dilation
            maps.append(x)
        return tuple(maps)


# He et al. 2015, section 4.2: 6n + 2 layers, option A.
OnCIFAR = partial(
    ResNet,
    channels=(16, 32, 64),
    block=BasicBlock,
    stem=CIFARStem,
    stem_features=16,
    shortcut="A",
)
ResNet20 = partial(OnCIFAR, stages=(3, 3, 3))
ResNet32 = partial(OnCIFAR, stages=(5, 5, 5))
ResNet44 = partial(OnCIFAR, stages=(7, 7, 7))
ResNet56 = partial(OnCIFAR, stages=(9, 9, 9))
ResNet110 = partial(OnCIFAR, stages=(18, 18, 18))

# He et al. 2015, table 1.
Basic = partial(ResNet, channels=(64, 128, 256, 512), block=BasicBlock)
Deep = partial(ResNet, channels=(256, 512, 1024, 2048), block=Bottleneck)
ResNet18 = partial(Basic, stages=(2, 2, 2, 2))
ResNet34 = partial(Basic, stages=(3, 4, 6, 3))
ResNet50 = partial(Deep, stages=(3, 4, 6, 3))
ResNet101 = partial(Deep, stages=(3, 4, 23, 3))
ResNet152 = partial(Deep, stages=(3, 8, 36, 3))

# ResNet-18 for images of 32x32.
ResNet18CIFAR = partial(ResNet18, stem=CIFARStem)

# Groups x width: Xie et al. 2016, table 1; 32x8d is Mahajan et al. 2018's and torchvision's.
ResNeXt50_32x4d = partial(ResNet50, block=partial(Bottleneck, groups=32, width=4))
ResNeXt101_32x8d = partial(ResNet101, block=partial(Bottleneck, groups=32, width=8))

# Zagoruyko & Komodakis 2016, section 3.5: a 3x3 convolution of twice the width.
WideResNet50_2 = partial(ResNet50, block=partial(Bottleneck, width=128))
WideResNet101_2 = partial(ResNet101, block=partial(Bottleneck, width=128))
