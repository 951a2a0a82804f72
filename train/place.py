"""Place: where a run writes, and what must be the same there, and in all processes."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from train import processes, workdir
from train.data.named import Splits, may_be
from train.data.source import About, Source, earlier_fingerprint
from train.experiment import RUNTIME
from train.lock import locked
from train.mesh import connect
from train.prepared import Prepared, prepare
from train.provenance import revision, versions
from train.refusal import Refused
from train.stop import again
from train.watch import Alone, Watch, watching

MOVED = 0.01
"""Of a standard deviation, that statistics may move by: another decoder of JPEG moves them less."""


@contextlib.contextmanager
def place(module: ModuleType, config: Any) -> Iterator[Callable[[], Path]]:
    """Where a run, or several, will write: `config.workdir`, or a new directory; it is locked.

    Yields:
        What gives the directory, and makes it where it is new: called once nothing can be refused
        any more.

    Raises:
        Refused: another process is at work there, something else lives there, or it can't be
            written; before anything is touched.
    """
    path = config.workdir
    with contextlib.ExitStack() as held:
        there = path is not None and path.is_dir()
        if there:
            held.enter_context(locked(path))
            refuse_other(path, module, config)

        def made() -> Path:
            new = workdir.claim(module.__name__, config.data) if path is None else path
            workdir.make(new)
            held.enter_context(locked(new))
            refuse_other(new, module, config)  # begun by another process meanwhile
            return new

        def claim() -> Path:
            found = processes.same("the work directory", lambda: path if there else made())
            return path or found

        yield claim


@contextlib.contextmanager
def beginning(
    module: ModuleType, config: Any, check: Callable[[Prepared], Any] = lambda prepared: None
) -> Iterator[tuple[Prepared, Path, Watch | Alone, Any]]:
    """Prepare what runs, then make its directory: what can be refused is refused before that.

    Of several processes each does it for itself, and where one can't, none goes on.

    Args:
        module: the experiment's.
        config: its `Config`.
        check: what is to be found out, or refused, before the directory is made.

    Yields:
        What runs; its directory, locked; the watch of the processes; what `check` found.

    Raises:
        Refused: as `place` and `prepare`; or the processes were not started alike.
    """
    with contextlib.ExitStack() as held:
        with processes.together("what is asked"):
            claim = held.enter_context(place(module, config))
            prepared = prepare(module, config)
            found = check(prepared)
            prints = fingerprints(prepared.data) if processes.several() else {}
        if processes.several():
            about, loader = prepared.about, type(prepared.loader).__name__
            processes.refuse_others(
                "whether all are alike",
                {
                    **{
                        field.name: getattr(prepared.config, field.name)
                        for field in dataclasses.fields(prepared.config)
                        if field.name not in workdir.OF_START
                    },
                    **{f"fingerprint of {split}": mark for split, mark in prints.items()},
                    "classes": about.classes,
                    "mean and standard deviation of the data": (about.mean, about.std),
                    "kind of loader": loader,
                    "commit": revision(Path(__file__)),
                    **{f"version of {name}": version for name, version in versions().items()},
                },
            )
            connect(prepared.mesh)
        path = claim()
        watch = held.enter_context(watching(path, again=again(path)))
        yield prepared, path, watch, found


def given(data: Splits) -> dict[str, Source]:
    """Split -> its source, of those that there are."""
    return {split: source for split, source in data._asdict().items() if source is not None}


def fingerprints(data: Splits) -> dict[str, str]:
    """Split -> the fingerprint of its source."""
    return {split: source.fingerprint for split, source in given(data).items()}


def earlier_prints(data: Splits) -> dict[str, str]:
    """Split -> fingerprint as earlier versions recorded it."""
    return {split: earlier_fingerprint(source) for split, source in given(data).items()}


def refuse_other_data(path: Path, data: Splits) -> None:
    """What lives in a directory must have begun with these data.

    Raises:
        Refused: it did not.
    """
    now = fingerprints(data)
    workdir.refuse_other_data(path, now, partial(earlier_prints, data))


def refuse_other_statistics(path: Path, about: About) -> None:
    """What lives in a directory must have begun with training data of these statistics.

    Fingerprints go by names, sizes and a few bytes of a file: what they don't see, such as pixels
    that were changed far from these, is seen by what was measured over all of them.

    Raises:
        Refused: it did not; gives both.
    """
    began = workdir.decoded(path, workdir.ABOUT, About)
    if began is None or began.mean is None or began.std is None:
        return
    now = zip(about.mean or (), about.std or (), strict=True)
    for (mean, std), (before, spread) in zip(
        now, zip(began.mean, began.std, strict=False), strict=False
    ):
        if max(abs(mean - before), abs(std - spread)) > MOVED * spread:
            raise Refused(
                f"workdir={str(path)!r} began with other data: the mean and standard deviation of "
                f"a channel are {mean:.4g} and {std:.4g}, {workdir.ABOUT} recorded {before:.4g} "
                f"and {spread:.4g}"
            )


def refuse_other(path: Path, module: ModuleType, config: Any) -> None:
    """What lives in a directory must be what is asked, but for its runtime fields, and for the
    place of data in files and where their names may lead: whether they are the same is seen when
    they are read.

    What is asked may leave fields open until the data are known: these are not compared.

    Raises:
        Refused: it is another run.
    """
    earlier = workdir.read_config(path, module.__name__, module.Config)
    if earlier is None:
        return
    if bool(earlier.seeds) != bool(config.seeds):
        holds, asked = (
            (f"runs of seeds={earlier.seeds}", "one run")
            if earlier.seeds
            else ("one run", f"seeds={config.seeds}")
        )
        raise Refused(f"workdir={str(path)!r} holds {holds}, not {asked}")
    if left := sorted(set(earlier.seeds) - set(config.seeds)):
        raise Refused(f"workdir={str(path)!r} holds runs of seeds that are left out: {left}")
    if may_be(earlier.data, config.data):
        earlier = dataclasses.replace(earlier, data=config.data)
    if hasattr(config, "outside"):  # the same data, whether or not their names are minded
        earlier = dataclasses.replace(earlier, outside=config.outside)
    same = {name: getattr(earlier, name) for name in config.undecided}
    workdir.refuse_changes(path, earlier, dataclasses.replace(config, **same), RUNTIME)
