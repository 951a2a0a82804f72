"""Program: N runs of one recipe as one compiled program, of several seeds, `hyper`, or both.

Every leaf of the state has a leading axis of N. The network's code knows nothing of it: the step of
one run is mapped (`train.mesh.over_seeds`).
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from train.data.resident import Resident
from train.in_flight import InFlight
from train.loop import Step
from train.mesh import compiled_step, make_mesh, per_seed, places, replicated
from train.prepared import Prepared, stepping
from train.progress import compiling
from train.refusal import Refused
from train.state import State


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """N runs of what is prepared.

    Attributes:
        prepared: the recipe; its own seed plays no part.
        seeds: of each run; the same one several times where the runs differ by their `hyper`.
        mesh: with a place on its `seed` axis for each run, or for several of them.
        loader: of the training examples; the data are those of `prepared`.
        step: of training, compiled: one program for all.
    """

    prepared: Prepared
    seeds: tuple[int, ...]
    mesh: Mesh
    loader: Resident
    step: Step

    def initial(
        self,
        hyper: Mapping[str, Sequence[float]] | None = None,
        *,
        change: Callable[[State], State] = lambda state: state,
    ) -> State:
        """The states before the first step, each that of its run alone.

        Args:
            hyper: name, such as "learning_rate" -> N values, in place of the recipe's.
            change: what a run changes of its first state, such as the weights that it starts from.

        Raises:
            Refused: the recipe has no such scalar, or there are not N values.
        """
        parts, count = self.prepared.parts, len(self.seeds)
        for name, values in (hyper or {}).items():
            if name not in parts.hyper:
                raise Refused(f"hyper={name!r} is none of {', '.join(parts.hyper)}")
            if len(values) != count:
                raise Refused(f"hyper={name!r} has {len(values)} values for {count} runs")
        states = []
        for place, seed in enumerate(self.seeds):
            with compiling("the first weights", place == 0):
                state = change(self.prepared.start(jnp.uint32(seed)))
            if hyper:
                own = {name: jnp.float32(values[place]) for name, values in hyper.items()}
                scalars = {**state.hyper, **own}
                moving = parts.optimizer(scalars).init(state.params)
                state = state.replace(hyper=scalars, opt_state=moving)
            states.append(jax.device_get(state))
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        return jax.device_put(stacked, per_seed(self.mesh, count))

    def fit(self, state: State, steps: int) -> State:
        """So many more steps, with nothing said or saved; `state` is donated.

        A run whose numbers are not finite any more has none from there on, as its weights show.
        """
        payloads = self.loader.payloads(int(jax.device_get(state.step)[0]))
        flight = InFlight()
        try:
            for payload in itertools.islice(payloads, steps):
                state, sums = self.step(state, self.loader.data, payload)
                flight.push(sums)
        finally:
            payloads.close()
        return state

    def each(self, states: Any) -> Iterator[Any]:
        """Of each run its own part of a tree, where `prepared` has it, so that it can measure it.

        `[*map(prepared.assess("test"), program.each(state.evaluated))]` is a `Summary` a run.
        """
        whole, where = jax.device_get(states), replicated(self.prepared.mesh)
        for place in range(len(self.seeds)):
            yield jax.device_put(jax.tree.map(lambda x, place=place: x[place], whole), where)


def program(prepared: Prepared, seeds: Sequence[int], *, spread: bool | None = None) -> Program:
    """N runs of a recipe as one program; nothing is compiled before its first step.

    Args:
        prepared: the recipe, its data on the devices.
        seeds: one a run; the same one N times for N values of a `hyper`, see `Program.initial`.
        spread: whether each run has a place of its own on the devices (`train.mesh.places`), or
            all are on the first; by default, where there are several devices.

    Raises:
        Refused: the data stream, or the runs can't be spread evenly.
    """
    loader, devices = prepared.loader, prepared.mesh.devices.ravel().tolist()
    if not isinstance(loader, Resident):
        raise Refused("loader='streaming': several runs as one program need loader='resident'")
    spread = len(devices) > 1 if spread is None else spread
    count = places(len(seeds), len(devices)) if spread else 1
    if spread and count == 1 < len(seeds):
        raise Refused(f"{len(seeds)} runs can't be shared out evenly over {len(devices)} devices")
    parts = spread and count == len(seeds) and len(devices) % count == 0
    mesh = make_mesh(devices if parts else devices[:count], seeds=count)
    several = loader.of_runs(len(seeds), mesh)
    return Program(
        prepared=prepared,
        seeds=tuple(seeds),
        mesh=mesh,
        loader=several,
        step=compiled_step(stepping(prepared.parts, several), mesh, len(seeds)),
    )
