"""Steps: signals of several lengths brought to that of the longest of their set."""

import numpy as np

from train.data.source import About, Example


def placed(signal: np.ndarray, about: About) -> Example:
    """`signal` as the examples of a set are, zeros at its end and its `length` where they differ.

    Args:
        signal: (l, C).
        about: of the set, with its `shape` and `ragged`.

    Returns:
        `signal`, (L, C) float32; in a ragged set `length` too, int32.

    Raises:
        ValueError: it has other channels, or more steps, or fewer where all have as many; says how
            many.
    """
    assert about.shape is not None
    steps, channels = about.shape
    if signal.shape[-1] != channels:
        raise ValueError(f"has {signal.shape[-1]} channels; wanted: {channels}")
    if len(signal) > steps or (len(signal) < steps and not about.ragged):
        most = "at most " if about.ragged else ""
        raise ValueError(f"has {len(signal):,} steps; wanted: {most}{steps:,}")
    padded = np.zeros((steps, channels), np.float32)
    padded[: len(signal)] = signal
    length = {"length": np.asarray(len(signal), np.int32)} if about.ragged else {}
    return {"signal": padded, **length}
