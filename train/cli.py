"""The command line of every experiment: a recipe, changed field by field; errors in one line."""

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import tyro

from train import workdir
from train.bars import shown
from train.memory import keep_pages
from train.refusal import Failed, Refused
from train.stop import Stopped


def command_line(experiment: str, argv: Sequence[str] | None = None) -> int:
    """Run an experiment from its command line.

    Args:
        experiment: name of its module. It has `Config`, `recipe(data, …) -> Config`, whose
            parameters are the fields that choose a recipe, and `main(config)`.
        argv: arguments; the process's by default.

    Returns:
        Exit code: 0; 2 for a request that can't be met; 1 for a run that can't go on, since it
        diverged or its files can't be written or read; 128 and the signal's number for one that a
        signal stopped.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    keep_pages()
    try:
        with at_once(), shown():
            module = importlib.import_module(experiment)
            module.main(configure(module, argv))
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        return 128 + stopped.signal
    except KeyboardInterrupt:  # before the run began
        return 128 + signal.SIGINT
    return 0


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Ctrl-C ends the process while it starts; a run then hears it itself, see `train.stop`.

    JAX has callbacks of its own, and a KeyboardInterrupt that comes in one is printed and lost: the
    run would go on to its end.
    """
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def configure(module: ModuleType, argv: Sequence[str]) -> Any:
    """The recipe that the arguments choose, or the one of the run they resume, and the rest."""
    chosen = first_look(argv, [*inspect.signature(module.recipe).parameters, "workdir"])
    path, earlier = chosen.pop("workdir", None), None
    if path == "":
        raise Refused("workdir='' names no directory")
    if path is not None:
        earlier = workdir.read_config(at_home(path), module.__name__, module.Config)
    default = module.recipe(**chosen) if earlier is None else earlier
    config = tyro.cli(
        module.Config,
        default=default,
        args=list(argv),
        description=(module.__doc__ or "").partition("\n\n")[0],
        config=(tyro.conf.FlagConversionOff,),
    )
    if config.data == "auto":
        config = dataclasses.replace(config, data=default.data)
    if config.workdir is not None:
        config = dataclasses.replace(config, workdir=at_home(config.workdir))
    return config


def at_home(path: str | pathlib.Path) -> pathlib.Path:
    """A path that may begin with "~", which no shell reads in `--workdir=~/run`."""
    return pathlib.Path(os.path.expanduser(path))


def first_look(argv: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """The few fields that must be known before the others have a default."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for field in fields:
        spellings = {f"--{field}", f"--{field.replace('_', '-')}"}  # tyro reads either
        parser.add_argument(*spellings, dest=field, default=argparse.SUPPRESS)
    try:
        return vars(parser.parse_known_args(list(argv))[0])
    except argparse.ArgumentError:
        return {}  # a value is missing: tyro says so
