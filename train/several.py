"""Several: where the numbers of runs go that are trained at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from train import workdir
from train.logs import Logs
from train.loop import NonFinite
from train.terminal import Terminal, Value
from train.trackers import Track


class Several:
    """Where the numbers of N runs at once go: each run's to its own files, all to one terminal.

    One that diverges has a last line, of that step, and its `diverged.json`.

    Attributes:
        gone: place -> the step at which its run diverged.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        paths: Sequence[Path],
        *,
        steps: int,
        at: int | None,
        whole: bool,
        began: float,
        tracks: Sequence[Track | None] = (),
    ):
        """Goes on from step `at`, or begins; see `train.logs.Logs`. `tracks`: one a seed."""
        self.seeds, self.paths = seeds, paths
        self.gone: dict[int, int] = {}
        for place, path in enumerate(paths):
            if (found := workdir.read(path, workdir.DIVERGED)) is None:
                continue
            if at is not None and found["step"] <= at:
                self.gone[place] = found["step"]
            else:  # it will again
                (path / workdir.DIVERGED).unlink()
        self._told = set(self.gone)
        self._terminal = Terminal(Console(), steps)
        silent = Console(quiet=True, force_terminal=False)
        self._logs = [
            Logs(
                path,
                steps=steps,
                resume_step=at,
                evaluated=whole,
                console=silent,
                began=began,
                track=track,
            )
            for path, track in zip(paths, tracks or [None] * len(paths), strict=True)
        ]

    def train(self, step: int, values: Mapping[str, Any], epoch: float) -> None:
        """One logged interval of training, a value of each quantity for all or one for each."""
        shown: dict[str, Value] = {k: np.asarray(v).tolist() for k, v in values.items()}
        self._terminal.train(step, shown, epoch)
        for place, logs in enumerate(self._logs):
            if place in self._told:
                continue
            own = {k: v[place] if isinstance(v, list) else v for k, v in shown.items()}
            at = self.gone.get(place, step)
            logs.train(at, own, epoch * at / step)
            if place in self.gone:
                self._told.add(place)

    def validation(self, step: int, scalars: Sequence[Mapping[str, float]]) -> None:
        """What was measured of each run; {} of one that has diverged."""
        names = dict.fromkeys(name for own in scalars for name in own)
        shown = {name: [own.get(name, np.nan) for own in scalars] for name in names}
        self._terminal.evaluation(step, "validation", shown)
        for logs, own in zip(self._logs, scalars, strict=True):
            if own:
                logs.evaluation(step, "validation", own)

    def lost(self, step: int, places: Sequence[int]) -> None:
        """Those at `places` are not finite from `step` on, where that is not known yet."""
        for place in places:
            if place not in self.gone:
                self.gone[place] = step
                found = {"step": step, "error": self.why(place)}
                workdir.write(self.paths[place] / workdir.DIVERGED, found)
                self._terminal.say(f"Seed {self.seeds[place]} diverged at step {step}.")

    def why(self, place: int) -> str:
        """What is said of a run that diverged."""
        return str(NonFinite(self.gone[place], {"nonfinite": 1}))

    def close(self) -> None:
        """Closes the files, and ends the live line."""
        self._terminal.close()
        for logs in self._logs:
            logs.close()
