"""Examples of a run's test split, or files, as its network is shown them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from train.data.given import Signals
from train.data.limited import Limited
from train.data.order import once, order
from train.data.pictures import Pictures
from train.data.source import Source, is_signals
from train.data.streaming import Streaming
from train.data.subset import file_of, subset
from train.mesh import make_mesh
from train.opened import Opened
from train.predict import channels_of, host_of
from train.remeasure import remeasured
from train.tasks.detection.task import parted
from train.tasks.inputs import Signal
from train.tasks.segmentation import over_border


class Examples(NamedTuple):
    """A batch of a few examples.

    Attributes:
        batch: as evaluation makes it, on the host.
        names: the file of each, or where in its split it stands.
        inputs: of the network's call, arrays, the first (B, H, W, C) or (B, L, C).
        how: of the network's call: `length` of signals, or None.
        pixels: (B, H, W, C) uint8: the first input as a picture, before it was normalised; of
            signals None.
    """

    batch: dict[str, np.ndarray]
    names: list[str]
    inputs: tuple[Any, ...]
    how: dict[str, Any]
    pixels: np.ndarray | None


def of_split(run: Opened, count: int) -> Examples:
    """The first examples of the run's test split in a shuffled order, which is always the same.

    Raises:
        Refused: the run's data are not there, or one of them can't be read.
    """
    what = remeasured(run)
    source = what.source
    places = np.arange(min(count, len(source)))
    indices = order(0, 0, places, len(source)).astype(np.int64)
    names = [file_of(source, int(i)) or f"{source.about.split} {i}" for i in indices]
    host = None if what.parts.host is None else what.parts.host[1]
    return shown(run, subset(source, indices), names, host=host, capacity=what.parts.capacity)


def of_files(run: Opened, items: Sequence[Any], names: Sequence[str]) -> Examples:
    """Pictures or signals, as `train.predict.predictions` takes them.

    Raises:
        Refused: one can't be read; names it.
    """
    if is_signals(run.about):
        return shown(run, Signals(items, run.about), names, host=None, capacity=run.parts.given)
    pictures = Limited(Pictures(items, channels_of(run)), run.config.max_pixels)
    source = run.parts.deriving(pictures, keep=False)
    return shown(run, source, names, host=host_of(run), capacity=run.parts.given)


def shown(run: Opened, source: Source, names: Sequence[str], **how: Any) -> Examples:
    """All examples of a source in one batch, as the run's evaluation sees them."""
    mesh = make_mesh(jax.devices()[:1])
    loader = Streaming(source, mesh=mesh, batch_size=len(source), order=once, threads=1, **how)
    payloads = loader.payloads(0)
    try:
        batch = dict(next(payloads))
    finally:
        payloads.close()
    inputs, called = call(run, batch)
    pixels = None if is_signals(run.about) else unnormalised(run, batch, inputs[0])
    return Examples(jax.device_get(batch), list(names), inputs, called, pixels)


def call(run: Opened, batch: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the network is called with for a batch: (arguments, those by name)."""
    inputs = jax.jit(run.parts.task.inputs)(batch)
    if isinstance(inputs, Signal):
        return (inputs.values,), {"length": inputs.length}
    if isinstance(inputs, jax.Array):
        if hasattr(run.parts.network, "margin"):
            _, inputs = over_border(run.parts.network, lambda x: (x, x), inputs)
        return (inputs,), {}
    images, *others = parted(inputs)
    return (images.image, *others), {}


def unnormalised(run: Opened, batch: dict[str, Any], x: jax.Array) -> np.ndarray:
    """The images that a network is given as pixels: black and white are what a task makes of them.

    Where it makes no such difference, each image goes from its own least value to its largest.
    """
    extremes = [
        np.asarray(call(run, {**batch, "image": np.full_like(batch["image"], value)})[0][0])
        for value in (0, 255)
    ]
    low, high = extremes[0].min((0, 1, 2)), extremes[1].max((0, 1, 2))
    images = np.asarray(x, np.float64)
    if not np.all(high > low):
        low, high = images.min((1, 2, 3), keepdims=True), images.max((1, 2, 3), keepdims=True)
    share = (images - low) / np.maximum(high - low, 1e-12)
    return np.clip(np.rint(255 * share), 0, 255).astype(np.uint8)
