"""`experiments.benchmark --what layers`: each convolution of a network by each backend.

GFLOP/s of the definition: 2 * N * out * kernel * C / groups * O, whatever a backend really does, so
that Winograd's form and skipped padding may pass the limit of a matrix product.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import models
from models.backends import convolution, pure, stock
from models.backends.convolution import Engine, Geometry
from models.backends.onednn import engine as onednn

ROUNDS = 5
Layer = tuple[Geometry, int, int]
"""Geometry, channels in, channels out."""


def layers(names: Sequence[str], batch_size: int | None, console: Console) -> list[dict[str, Any]]:
    """Print a table for each network; the numbers."""
    engines = {"jax": pure.engine(), "xla": stock.STOCK}
    try:
        onednn.extension()
        engines = {"onednn": onednn.ENGINE, **engines}
    except onednn.Missing as missing:
        console.print(f"Without onednn: {missing}")
    square = jnp.ones((2048, 2048))
    limit = 2 * 2048**3 / fastest(jnp.matmul, square, square) / 1e9
    console.print(f"A product of two 2048 x 2048 matrices, float32: {limit:.0f} GFLOP/s")
    measured: list[dict[str, Any]] = []
    for name in names:
        size, batch = measured_at(name, batch_size)
        table = Table(title=f"{name}, batch {batch}: GFLOP/s of y, dx, dw")
        table.add_column("layer", no_wrap=True)
        for head in ("times", *engines):
            table.add_column(head, justify="right")
        for layer, times in convolutions(name, size).items():
            speeds = {one: [round(s) for s in rates(layer, batch, engines[one])] for one in engines}
            cells = (" ".join(f"{speed:3}" for speed in three) for three in speeds.values())
            table.add_row(described(layer), str(times), *cells)
            measured.append({"model": name, "layer": described(layer), "times": times, **speeds})
        console.print(table)
    return measured


def measured_at(name: str, batch_size: int | None) -> tuple[int, int]:
    """Size of the images and of a batch: a first map as large as the image is for 32x32."""
    small = models.create(name, num_classes=10).backbone.strides[0] == 1
    return (32, batch_size or 128) if small else (224, batch_size or 32)


def convolutions(name: str, size: int) -> Counter[Layer]:
    """Those of a network, with how often each occurs; nothing is computed."""
    conv = partial(convolution.conv_general_dilated, engine=stock.STOCK)
    network = models.create(name, num_classes=10, conv_general_dilated=conv)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    traced = jax.make_jaxpr(partial(network.init, train=False))(jax.random.key(0), image)
    return Counter(
        (
            equation.params["geometry"],
            channels_of(equation.invars[0]),
            channels_of(equation.outvars[0]),
        )
        for equation in traced.jaxpr.eqns
        if equation.primitive is convolution.PRIMITIVES["forward"]
    )


def channels_of(variable: Any) -> int:
    """Of a traced array (B, H, W, C)."""
    return variable.aval.shape[-1]


def rates(layer: Layer, batch: int, engine: Engine) -> list[float]:
    """GFLOP/s of the output, and of the gradients to input and kernel."""
    geometry, channels, features = layer
    rng = np.random.default_rng(0)
    x, w, y = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in (
            (1, batch, *geometry.size, channels),
            (1, *geometry.kernel, channels // geometry.groups, features),
            (1, batch, *geometry.out, features),
        )
    )
    taps = math.prod(geometry.kernel) * channels // geometry.groups
    work = 2 * batch * math.prod(geometry.out) * taps * features
    pairs = ((engine.forward, x, w), (engine.data, y, w), (engine.weights, x, y))
    return [work / fastest(lambda a, b, f=f: f(a, b, geometry), a, b) / 1e9 for f, a, b in pairs]


def fastest(function: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> float:
    """Seconds of the fastest of a few calls."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(a, b))
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        jax.block_until_ready(compiled(a, b))
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def described(layer: Layer) -> str:
    """Such as "3x3/2 64 -> 128 at 32x32"."""
    geometry, channels, features = layer
    kernel, size = ("x".join(map(str, axes)) for axes in (geometry.kernel, geometry.size))
    stride = "" if set(geometry.strides) == {1} else f"/{geometry.strides[0]}"
    groups = "" if geometry.groups == 1 else f" in {geometry.groups} groups"
    return f"{kernel}{stride} {channels} -> {features} at {size}{groups}"
