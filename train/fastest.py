"""Fastest: whether the seeds of a study are trained as one program, by what was asked or measured.

Under `vmap` over weights a convolution is a grouped one, which costs more than several on some
devices; elsewhere one program of N small steps is faster than N programs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice

import jax
import jax.numpy as jnp

from train.data.loader import Loader
from train.data.resident import Resident
from train.loop import Step
from train.prepared import Prepared
from train.program import Program, program
from train.progress import compiling
from train.seeds_as import in_the_way
from train.state import State

MEASURED = 5
"""Steps whose median decides; one before them compiles."""


def chosen(prepared: Prepared, seeds: Sequence[int], say: Callable[[str], None]) -> Program | None:
    """The program that is to train these seeds; None where they come one after the other.

    Where the recipe leaves it open, or what it asks for can't be had, `say` gets a line.
    """
    asked, devices = prepared.config.seeds_as, prepared.mesh.devices.size
    if asked == "loop" or not seeds:
        return None
    if len(seeds) == 1:
        say(
            f"Seed {seeds[0]} is trained by itself: seeds_as={asked!r} makes one program of seeds "
            "that begin together."
        )
        return None
    how = asked if asked != "auto" else "vmap" if devices == 1 else "devices"
    why = "the data are streamed, and must be on the device (loader='resident')"
    if isinstance(prepared.loader, Resident):
        why = in_the_way(how, prepared.config, prepared.data, devices, len(seeds))
    if why:
        say(f"One seed after the other: seeds_as={how!r} can't be had: {why}.")
        return None
    made = program(prepared, seeds, spread=how == "devices")
    if asked != "auto":
        return made
    try:
        alone, together = times(made)
    except jax.errors.JaxRuntimeError as error:  # it needs more memory, in most cases
        why = str(error).partition("\n")[0]
        say(f"One seed after the other (seeds_as='auto'), since {how!r} failed: {why}.")
        return None
    best = "All seeds as one program" if together < alone else "One seed after the other"
    say(
        f"{best} (seeds_as='auto'): a step of {len(seeds)} seeds takes {1e3 * together:.3g} ms by "
        f"{how!r} and {1e3 * alone:.3g} ms one after the other (median of {MEASURED})."
    )
    return made if together < alone else None


def times(made: Program) -> tuple[float, float]:
    """Seconds that a step of all seeds takes one after the other, and as one program."""
    prepared, seed = made.prepared, made.seeds[0]
    alone = seconds(prepared.step, prepared.start(jnp.uint32(seed)), prepared.loader)
    return len(made.seeds) * alone, seconds(made.step, made.initial(), made.loader)


def seconds(step: Step, state: State, loader: Loader) -> float:
    """That a step takes, the median of a few."""
    found: list[float] = []
    payloads = loader.payloads(0)
    try:
        for payload in islice(payloads, 1 + MEASURED):
            with compiling("the training step", not found):
                began = time.perf_counter()
                state, sums = step(state, loader.data, payload)
                jax.block_until_ready((state, sums))
                found.append(time.perf_counter() - began)
    finally:
        payloads.close()
    return statistics.median(found[1:])
