"""What the loop costs beside its steps: every process of `experiments.benchmark --what loop`.

A process of its own runs this file, and speaks as `rounds.answer` does:

    python loop_speed.py '{"side": "loop", "model": "resnet20", "size": 32, "batch_size": 128,
                           "backend": "auto", "steps": 100, "folder": "DIR"}'

`side`: "loop" trains as every run does: batches from the loader, metrics, a line of them every 20
steps on a terminal and in files, and an asynchronous checkpoint every `steps`; "bare" repeats the
same compiled step on one batch. A round is of `steps` steps, with the save in its middle, so that
what is written in the background falls within. "save" measures how long a save holds the loop up.

An answer has more than a rate: `cpu`, seconds of all threads a step, and milliseconds a step of
what the loop's thread does, `parts` by the clock and `own` of its CPU time; of "save" those a save.
"""

import itertools
import json
import os
import pathlib
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments import resnet_cifar
from train.checkpoints import Checkpoints
from train.data.arrays import Arrays
from train.data.named import Splits
from train.data.source import About
from train.logs import Logs
from train.loop import Rhythm, fit
from train.memory import keep_pages
from train.prepared import Prepared, prepare

EXAMPLES = 2048
LOG_EVERY = 20
ENDLESS = 10**9


def noise(size: int) -> Arrays:
    """Images of noise, each with one of ten classes."""
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(0, 256, (EXAMPLES, size, size, 3), np.uint8),
        "label": rng.integers(0, 10, EXAMPLES, np.int32),
    }
    classes = tuple("0123456789")
    return Arrays(arrays, About("noise", "train", classes, mirror=True, shape=(size, size, 3)))


def made(spec: dict[str, Any]) -> Prepared:
    """CIFAR-10's recipe on noise, with the averaged weights that most recipes have."""
    source = noise(spec["size"])
    module: Any = SimpleNamespace(
        __name__=resnet_cifar.NAME,
        build=resnet_cifar.build,
        splits=lambda config: Splits(source, None, source),
    )
    config = resnet_cifar.Config(
        data="noise",
        model=spec["model"],
        batch_size=spec["batch_size"],
        backend=spec["backend"],
        steps=ENDLESS,
        evaluate_every=ENDLESS,
        save_every=spec["steps"],
        log_every=LOG_EVERY,
        weights="last",
        ema=0.999,
        devices=1,
        loader="resident",
    )
    return prepare(module, config)


class Parts:
    """Seconds that functions take, by name: by the clock, and of the calling thread's own work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.own: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, worked = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - began
                self.own[name] += time.thread_time() - worked

        return timed

    def taken(self, times: int) -> dict[str, dict[str, float]]:
        """Milliseconds of each, a time: `parts` by the clock, `own` of work; begins anew."""
        found = {}
        for name, seconds in {"parts": self.seconds, "own": self.own}.items():
            found[name] = {part: 1000 * each / times for part, each in seconds.items()}
            seconds.clear()
        return found


class Taken:
    """Payloads, of which the next is timed."""

    def __init__(self, payloads: Any, parts: Parts):
        self.take, self.close = parts.timed("next batch", payloads.__next__), payloads.close

    def __next__(self) -> Any:
        return self.take()


class Turns:
    """A step that says, where a round has ended, what it took, and waits until it is asked for
    another one. It never ends by itself.
    """

    def __init__(self, step: Callable[..., Any], spec: dict[str, Any], facts: Any, parts: Parts):
        self.step, self.steps, self.batch_size = step, spec["steps"], spec["batch_size"]
        self.facts, self.parts = facts, parts
        self.answers = sys.stdout  # a live line puts itself in its place
        self.at, self.next, self.out = 0, spec["steps"] // 2, None
        self.began, self.cpu = 0.0, 0.0

    def __call__(self, state: Any, data: Any, payload: Any) -> Any:
        if self.at == self.next:
            self.turn()
        self.at += 1
        out = self.step(state, data, payload)
        self.out = out[1]
        return out

    def turn(self) -> None:
        """Between two rounds."""
        jax.block_until_ready(self.out)
        if self.at < self.steps:
            print(json.dumps(self.facts), file=self.answers, flush=True)
        else:
            took = (time.perf_counter() - self.began) / self.steps
            cpu = (time.process_time() - self.cpu) / self.steps
            said = {"rate": self.batch_size / took, "cpu": cpu}
            answer = json.dumps(said | self.parts.taken(self.steps))
            print(answer, file=self.answers, flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # nobody asks any more
        self.parts.taken(1)
        self.next += self.steps
        self.began, self.cpu = time.perf_counter(), time.process_time()


def train(spec: dict[str, Any]) -> None:
    """Take turns, by the loop or by steps alone."""
    prepared, parts = made(spec), Parts()
    loader: Any = prepared.loader
    state = prepared.start(jnp.uint32(0))
    facts = {"side": spec["side"], "backend": prepared.backend.name}
    step = Turns(prepared.step, spec, facts, parts)
    if spec["side"] == "bare":
        payload = next(loader.payloads(0))
        while True:
            state, _ = step(state, loader.data, payload)
    path = pathlib.Path(spec["folder"])
    terminal = Console(file=open(os.devnull, "w"), force_terminal=True, width=100)  # noqa: SIM115
    logs: Any = Logs(path, steps=ENDLESS, console=terminal)
    checkpoints: Any = Checkpoints(path / "checkpoints", say=logs.say)
    checkpoints.save(0, state, state.evaluated)  # its imports and compilations are no part of it
    checkpoints.wait()
    payloads = loader.payloads
    loader.payloads = lambda start: Taken(payloads(start), parts)
    logs.train = parts.timed("log", logs.train)
    checkpoints.save = parts.timed("save", checkpoints.save)
    rhythm = Rhythm(
        until=ENDLESS, evaluate_every=ENDLESS, save_every=spec["steps"], log_every=LOG_EVERY
    )
    fit(
        state,
        step=step,
        loader=loader,
        rhythm=rhythm,
        evaluate=None,
        checkpoints=checkpoints,
        logs=logs,
    )


def save(spec: dict[str, Any]) -> None:
    """Save a state again and again; each time first copy it to the host, by itself."""
    prepared, parts = made(spec), Parts()
    state = prepared.start(jnp.uint32(0))
    leaves = jax.tree.leaves(state)
    facts = {"arrays": len(leaves), "megabytes": sum(leaf.nbytes for leaf in leaves) / 1e6}
    with Checkpoints(pathlib.Path(spec["folder"]) / "checkpoints", say=print) as checkpoints:
        copy = parts.timed("copy", copied)
        blocked = parts.timed("save", checkpoints.save)
        for step in itertools.count():
            # Other arrays each time: what was copied to the host once is kept there.
            fresh = jax.block_until_ready(jax.tree.map(jnp.copy, state))
            copy(fresh)
            fresh = jax.block_until_ready(jax.tree.map(jnp.copy, state))
            blocked(step, fresh, fresh.evaluated)
            checkpoints.wait()
            taken = parts.taken(1)
            if step:
                rate = 1000 / taken["parts"]["save"]
                print(json.dumps({"rate": rate, **taken}), flush=True)
            else:  # it compiles and imports
                print(json.dumps(facts), flush=True)
            if not sys.stdin.readline():
                return


def copied(state: Any) -> None:
    """To the host: of a CPU, which shows its own memory, too."""
    jax.tree.map(np.array, jax.device_get(state))


if __name__ == "__main__":
    keep_pages()
    asked = json.loads(sys.argv[1])
    try:
        (save if asked["side"] == "save" else train)(asked)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
