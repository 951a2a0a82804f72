"""Neighbours: the runs in and beside a directory, so that a mistyped name begins no new run."""

import difflib
import os
import pathlib
import shlex

from train import workdir
from train.refusal import Refused


def refuse_mistaken(path: pathlib.Path) -> None:
    """Refuse to begin a run where another must be meant; of a directory that holds none.

    An empty directory is always a place for a new run.

    Args:
        path: as a user typed it.

    Raises:
        Refused: it holds runs, or lies in one; or it does not exist and would stand in a directory
            of runs or beside one of a similar name, or be a run if a folder on the way were spelt
            otherwise.
    """
    name, whole = f"workdir={str(path)!r}", pathlib.Path(os.path.abspath(path))
    if holds_run(whole.parent):
        raise Refused(f"{name} lies in {str(path.parent)!r}, which is a run itself")
    if os.path.isdir(path):
        if runs := runs_below(path):
            raise Refused(f"{name} is no run; {holding(path, runs)}")
        return
    runs = runs_in(whole.parent)
    if runs and (mostly(whole.parent, runs) or nearest(path.name, runs)):
        raise Refused(
            f"{name} does not exist; {holding(path.parent, runs, near=path.name)}. For a new run "
            f"there, make its directory first: {shlex.join(['mkdir', str(path)])}"
        )
    if meant := misspelt(path):
        raise Refused(f"{name} does not exist; a run is in {meant}")
    above = path.parent
    if not os.path.lexists(above):
        for near in alike(above):
            if runs := runs_in(near):
                make = shlex.join(["mkdir", "-p", str(path)])
                raise Refused(
                    f"{name} does not exist, nor does {str(above)!r}; {holding(near, runs)}. For a "
                    f"new run there, make its directory first: {make}"
                )


def refuse_no_run(path: pathlib.Path) -> None:
    """Refuse a directory without a run, and say what may be meant.

    Raises:
        Refused: it does not exist, or holds several, or none.
    """
    if holds_run(path):
        return
    name = f"workdir={str(path)!r} holds no run"
    if os.path.isdir(path):
        if runs := runs_below(path):
            raise Refused(f"{name} itself; {holding(path, runs)}")
        workdir.experiment_of(path)  # says more
        return
    if os.path.lexists(path):
        raise Refused(f"{name}: it is no directory")
    if runs := runs_in(path.parent):
        raise Refused(f"{name}: it does not exist; {holding(path.parent, runs, near=path.name)}")
    meant = misspelt(path)
    hint = "" if meant is None else f"; a run is in {meant}"
    raise Refused(f"{name}: it does not exist{hint}")


def holds_run(path: pathlib.Path) -> bool:
    """Whether a run, or several, live in a directory; whatever else is there is none."""
    try:
        return bool(workdir.experiment_of(path))
    except Refused:
        return os.path.isdir(path / "checkpoints") and os.path.isfile(path / workdir.CONFIG)


def runs_in(path: pathlib.Path) -> list[str]:
    """Names of the runs that are directly in a directory, the newest first."""
    try:
        names = [each.name for each in path.iterdir() if holds_run(each)]
        return sorted(names, key=lambda name: -(path / name / workdir.CONFIG).stat().st_mtime)
    except OSError:  # no directory, or a run that somebody removes
        return []


def runs_below(path: pathlib.Path) -> list[str]:
    """As `runs_in`; where it has none, those in its folders, as runs/ has them: "classify/…"."""
    if runs := runs_in(path):
        return runs
    try:
        folders = [each for each in path.iterdir() if each.is_dir()]
        found = [each / name for each in folders for name in runs_in(each)]
        found.sort(key=lambda run: -(run / workdir.CONFIG).stat().st_mtime)
    except OSError:
        return []
    return [str(run.relative_to(path)) for run in found]


def holding(path: pathlib.Path, runs: list[str], near: str | None = None) -> str:
    """What a directory holds, in words: the runs of the nearest names, or else the newest."""
    found = [] if near is None else nearest(near, runs)
    named = ", ".join(str(path / name) for name in found or runs[:3])
    count = "a run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{str(path)!r} holds {count}; {'nearest' if found else 'the newest'}: {named}"


def nearest(name: str, runs: list[str]) -> list[str]:
    """Up to three of similar names."""
    return difflib.get_close_matches(name, runs, n=3, cutoff=0.7)


def alike(path: pathlib.Path) -> list[pathlib.Path]:
    """Folders beside a path whose names are similar."""
    try:
        names = [each.name for each in path.parent.iterdir() if each.is_dir()]
    except OSError:
        return []
    return [path.with_name(name) for name in nearest(path.name, names)]


def mostly(path: pathlib.Path, runs: list[str]) -> bool:
    """Whether a directory is one of runs: half of what it holds at least, unlike /tmp or a home."""
    with os.scandir(path) as entries:
        folders = [each for each in entries if each.is_dir() and not each.name.startswith(".")]
    return 2 * len(runs) >= len(folders)


def misspelt(path: pathlib.Path) -> pathlib.Path | None:
    """A run at the same path but for the first folder of it that does not exist."""
    above = [path, *path.parents]
    missing = [each for each in above if not os.path.lexists(each)]
    if len(missing) < 2:
        return None
    first = missing[-1]
    rest = path.relative_to(first)
    try:
        found = [each / rest for each in first.parent.iterdir() if holds_run(each / rest)]
    except OSError:
        return None
    return found[0] if found else None
