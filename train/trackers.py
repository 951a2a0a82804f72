"""Trackers: what a run measures, told to Weights & Biases or to Trackio too."""

import contextlib
import importlib
import math
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from train import encoding, workdir
from train.files import cause
from train.refusal import Refused

NONE = "none"
TRACKER = "tracker.json"
"""Of a run: the name that it has there, so that a run which goes on is the same one."""
PROJECT = "svertka"
"""Unless WANDB_PROJECT or TRACKIO_PROJECT says otherwise."""


class Tracks(Protocol):
    """A run at a tracker; the same form as `train.events.Events`."""

    def scalars(self, step: int, values: Mapping[str, float | int]) -> None: ...

    def close(self) -> None: ...


Track = Callable[[str, Callable[[str], None]], Tracks]
"""(folder of a seed, or "", `say`) -> its run at a tracker."""


class Tracker:
    """A run at wandb or trackio. Where telling it fails, one line says so, and nothing more is.

    Both have the form of `init(…) -> run`, `run.log(values, step)`, `run.finish()`. wandb takes no
    step twice: of a run that went back to a checkpoint, what it measures anew is new to it only
    beyond the last step that it had been told.
    """

    def __init__(self, name: str, path: Path, config: Any, folder: str, say: Callable[[str], None]):
        """Begin the run there, or go on with it.

        Args:
            name: of the tracker.
            path: the work directory.
            config: the recipe, which is shown there.
            folder: of one seed of several, "seed_3"; else "".
            say: takes a line for the user.
        """
        self._name, self._say = name, say
        self._run: Any = None
        key = f"{name}/{folder}" if folder else name
        with self._failing():
            known = workdir.read(path, TRACKER) or {}
            if key not in known:
                parts = (path.absolute().parent.name, path.absolute().name, folder)
                label = "-".join(filter(None, parts))
                known[key] = f"{label}-{uuid.uuid4().hex[:8]}"
                workdir.write(path / TRACKER, known)
            shown = {**encoding.plain(config), "workdir": str(path)}
            own = {"id": workdir.slug(known[key]), "dir": str(path), "reinit": "create_new"}
            here = own if name == "wandb" else {}  # several seeds at once are several runs
            self._run = imported(name).init(
                project=os.environ.get(f"{name.upper()}_PROJECT", PROJECT),
                name=known[key],
                config=shown,
                resume="allow",
                **here,
            )

    def scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        """Tag -> value at `step`; one that is not finite is left out."""
        if self._run is None:
            return
        finite = {tag: value for tag, value in values.items() if math.isfinite(value)}
        with self._failing():
            self._run.log(finite, step=step)

    def close(self) -> None:
        """Ends the run there. May be called twice."""
        run, self._run = self._run, None
        if run is not None:
            with self._failing():
                run.finish()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        """No network is no reason to lose a run of hours."""
        try:
            yield
        except Exception as error:
            self._run = None
            self._say(f"{self._name} is told no more: {cause(error)}.")


def tracking(name: str, path: Path, config: Any) -> Track | None:
    """What `Logs` takes, of the tracker of a recipe; None where it has none."""
    return None if name == NONE else partial(Tracker, name, path, config)


def imported(name: str) -> ModuleType:
    """The tracker's package, imported where it is used.

    Raises:
        Refused: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Refused(f"tracker={name!r}: {name} is not installed; pip install {name}") from None


def refuse_missing(name: str) -> None:
    """Refuse a tracker that is not installed, before anything is made.

    Raises:
        Refused: it is not.
    """
    if name != NONE:
        imported(name)
