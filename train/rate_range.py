"""The learning-rate range test (Smith 2017, arXiv:1506.01186, section 3.3): the rate only grows."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from train.prepared import Prepared
from train.refusal import Refused
from train.tasks.task import means

LONG = 10**9
"""Steps of a recipe whose schedule is then at its peak for as long as the test takes."""
MEMORY = 0.9
"""Of the running loss that says when to stop."""
WIDTH = 0.02
"""Of the smoothing kernel: its standard deviation, as a share of all updates."""


class Tried(NamedTuple):
    """One loss a rate, in the order of the updates."""

    rates: np.ndarray
    """(n,) float64, those that the optimiser used."""
    losses: np.ndarray
    """(n,) float64, of the batch before the update; the last may be not finite."""
    stopped: bool
    """Whether it diverged before the highest rate."""


class Found(NamedTuple):
    """What the curve says."""

    smoothed: np.ndarray
    """(n,) the losses, averaged over neighbours on both sides."""
    steepest: float | None
    """Rate at which the smoothed loss falls fastest a decade; None where it never falls."""
    least: float
    """Rate at which it is least."""
    last: float | None
    """The largest rate from there on at which the loss is nearer to its least than to where it
    began; None where that is so up to the highest rate."""


def tried(
    prepared: Prepared,
    *,
    lowest: float,
    highest: float,
    updates: int,
    seed: int,
    each: Callable[[int], None] = lambda update: None,
) -> Tried:
    """Train from the first weights while the rate grows exponentially; end where it diverges.

    The rate is that of the state, so it is the recipe's own step that is made, compiled once.

    Args:
        prepared: a recipe whose schedule is constant: `LONG` steps, no warm-up.
        lowest: rate of the first update.
        highest: of the last.
        updates: how many, 2 or more.
        seed: of weights, order and augmentation.
        each: called after each update, with its number.

    Raises:
        Refused: the recipe has no learning rate.
    """
    state = prepared.start(jnp.uint32(seed))
    if "learning_rate" not in state.hyper:
        raise Refused("the recipe has no learning rate in its state: there is nothing to vary")
    asked = np.geomspace(lowest, highest, updates)
    payloads = prepared.loader.payloads(0)
    rates: list[float] = []
    losses: list[float] = []
    running = first = best = math.nan
    stopped = False
    try:
        for number, rate in enumerate(asked):
            hyper = {**state.hyper, "learning_rate": jnp.asarray(rate, jnp.float32)}
            state, sums = prepared.step(
                state.replace(hyper=hyper), prepared.loader.data, next(payloads)
            )
            fetched = jax.device_get(sums)
            found = means(fetched)
            losses.append(float(found["loss"]))
            rates.append(float(found.get("learning_rate", rate)))
            running = losses[-1] if number == 0 else MEMORY * running + (1 - MEMORY) * losses[-1]
            first = running if number == 0 else first
            best = running if number == 0 else min(best, running)
            each(number + 1)
            beyond = first + max(first - best, abs(first) / 2)
            if fetched["nonfinite"] > 0 or not running <= beyond:
                stopped = number + 1 < updates or not math.isfinite(running)
                break
    finally:
        payloads.close()
    return Tried(np.asarray(rates), np.asarray(losses), stopped)


def read(tested: Tried) -> Found:
    """The rates that the curve names.

    Raises:
        Refused: there are not enough losses to see anything.
    """
    rates, losses = tested.rates, np.where(np.isfinite(tested.losses), tested.losses, np.nan)
    finite = np.isfinite(losses)
    if finite.sum() < 5:
        raise Refused(
            f"diverged at the rate {rates[-1]:.3g}, after {len(rates)} updates: begin lower"
        )
    smoothed = np.full(len(losses), np.nan)
    smoothed[finite] = smooth(losses[finite])
    curve, at = smoothed[finite], rates[finite]
    slope = np.gradient(curve, np.log10(at))
    lowest = int(np.argmin(curve))
    middle = (curve[0] + curve[lowest]) / 2
    above = np.flatnonzero(curve[lowest:] > middle)
    if len(above):
        last: float | None = float(at[lowest + max(above[0] - 1, 0)])
    else:
        last = float(at[-1]) if tested.stopped else None
    fastest = int(np.argmin(slope[: lowest + 1]))
    steepest = float(at[fastest]) if slope[fastest] < 0 else None
    return Found(smoothed, steepest, float(at[lowest]), last)


def smooth(losses: np.ndarray) -> np.ndarray:
    """(n,) means under a Gaussian kernel: no lag, as a running average would have."""
    places = np.arange(len(losses))
    width = max(1.0, WIDTH * len(losses))
    kernel = np.exp(-0.5 * ((places[:, None] - places[None]) / width) ** 2)
    return (kernel @ losses) / kernel.sum(1)
