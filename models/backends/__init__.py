"""Backends: who computes convolutions and batch normalisation. The numbers agree up to rounding.

| name | convolutions | where |
|---|---|---|
| `onednn` | oneDNN's, through a compiled extension | one CPU device, Linux on x86-64 |
| `jax` | XLA's, with the gradients that it is slow at as matrix products | CPUs |
| `xla` | JAX's own, on a CPU without negative padding | GPUs, TPUs, export, and on request |

backend = backends.choose("auto", jax.devices())
network = models.create("resnet20", num_classes=10, **backend.fields)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from models.backends import convolution, normalisation, pure, xla
from models.backends.normalisation import NormEngine
from models.backends.onednn import engine as onednn
from models.backends.onednn.engine import Missing
from models.layers.norm import BatchNorm

NAMES = ("onednn", "jax", "xla")


class Backend(NamedTuple):
    """What a network is given.

    Attributes:
        name: one of `NAMES`.
        conv_general_dilated: with the signature of JAX's.
        norm: `BatchNorm`, or that with another way through memory.
        why: what stood in the way of a faster one; empty where nothing did.
    """

    name: str
    conv_general_dilated: Callable[..., jax.Array]
    norm: Callable[..., Any]
    why: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """Of a network."""
        return {"conv_general_dilated": self.conv_general_dilated, "norm": self.norm}


XLA = Backend("xla", xla.conv_general_dilated, BatchNorm)


def choose(name: str, devices: Sequence[jax.Device]) -> Backend:
    """The backend of that name for a batch split over the devices; "auto" takes the fastest.

    Raises:
        Missing: `onednn` was asked for and can't be had here.
        ValueError: the name is none of `NAMES` and "auto".
    """
    if name not in ("auto", *NAMES):
        raise ValueError(f"backend {name!r} is none of auto, {', '.join(NAMES)}")
    if name == "xla" or (name == "auto" and devices[0].platform != "cpu"):
        return XLA
    why = ""
    if name != "jax":
        try:
            return with_onednn(devices)
        except Missing as missing:
            if name == "onednn":
                raise
            why = str(missing) if len(devices) == 1 else ""
    conv = partial(convolution.conv_general_dilated, engine=pure.engine(len(devices)))
    return Backend("jax", conv, normalised(NormEngine()), why)


def with_onednn(devices: Sequence[jax.Device]) -> Backend:
    """`onednn`.

    Raises:
        Missing: not on these devices, or not without the extension.
    """
    if len(devices) > 1 or devices[0].platform != "cpu":
        given = f"{len(devices)} {devices[0].platform}"
        raise Missing(f"oneDNN computes on one CPU device, not on {given}")
    onednn.extension()
    conv = partial(convolution.conv_general_dilated, engine=onednn.ENGINE)
    return Backend("onednn", conv, normalised(onednn.NORM))


def normalised(engine: NormEngine) -> Callable[..., Any]:
    """`BatchNorm` by an engine."""
    return partial(BatchNorm, batch_normalise=partial(normalisation.batch_normalise, engine=engine))
