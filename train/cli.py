"""The command line of every experiment: a recipe, changed field by field; errors in one line."""

import argparse
import contextlib
import dataclasses
import difflib
import importlib
import inspect
import os
import pathlib
import re
import signal
import sys
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeVar

import tyro

from train import neighbours, processes, recipes, started, workdir
from train.bars import shown
from train.compiled import keep_programs
from train.exhausted import lacking
from train.help import help_text
from train.memory import keep_pages
from train.refusal import Failed, Refused
from train.stop import Stopped

Asked = TypeVar("Asked", bound=Any)

OPTION = re.compile(r"--?(?!inf\b|nan\b)[A-Za-z]", re.IGNORECASE)
"""How what is an option begins; "-1" and "-inf" are values."""

CALLED = {
    "arch": "model",
    "architecture": "model",
    "bs": "batch_size",
    "checkpoint": "workdir",
    "dataset": "data",
    "epoch": "epochs",
    "finetune": "init_from",
    "gpus": "devices",
    "hflip": "mirror",
    "image_size": "size",
    "img_size": "size",
    "imgsz": "size",
    "iterations": "steps",
    "lr": "learning_rate",
    "max_steps": "steps",
    "network": "model",
    "coordinator_address": "coordinator",
    "num_processes": "processes",
    "num_workers": "workers",
    "rank": "process_id",
    "world_size": "processes",
    "opt": "optimizer",
    "out": "workdir",
    "outdir": "workdir",
    "output": "workdir",
    "output_dir": "workdir",
    "pretrained": "init_from",
    "resume": "workdir",
    "val_split": "validation",
    "warmup": "warmup_steps",
    "wd": "weight_decay",
}
"""What others call an option -> what it is called here."""


def command_line(experiment: str, argv: Sequence[str] | None = None) -> int:
    """Run an experiment from its command line.

    Args:
        experiment: name of its module. It has `Config`, `recipe(data, …) -> Config`, whose
            parameters are the fields that choose a recipe, and `main(config)`.
        argv: arguments; the process's by default.

    Returns:
        Exit code: 0; 2 for a request that can't be met; 1 for a run that can't go on, since it
        diverged, its files can't be written or read, or there is too little memory; 128 and the
        signal's number for one that a signal stopped.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)

    def work() -> None:
        module = importlib.import_module(experiment)
        module.main(configure(module, arguments))

    return left(exit_code(work))


def exit_code(work: Callable[[], object]) -> int:
    """What `work` ends with, as `command_line` says; what can't be is printed in one line."""
    keep_pages()
    keep_programs()
    try:
        with at_once(), shown(), started.command():
            work()
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        return 128 + stopped.signal
    except Exception as error:
        if not (why := lacking(error)):
            raise
        print(f"error: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before the run began
        return 128 + signal.SIGINT
    return 0


def left(code: int) -> int:
    """End at once with this code, if another process may wait: JAX would wait for it too."""
    if code and processes.several():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def command(kind: type[Asked], main: Callable[[Asked], object], about: str | None) -> int:
    """Run a command that is no experiment: `main` of what the arguments ask for.

    Args:
        kind: a dataclass, an option a field.
        main: the work.
        about: for `--help`.

    Returns:
        Exit code, see `command_line`.
    """

    def work() -> None:
        argv = ["--help" if each == "-h" else each for each in sys.argv[1:]]
        refuse_unknown(argv, [*(field.name for field in dataclasses.fields(kind)), "help"])
        main(tyro.cli(kind, args=options_last(argv, kind), description=about))

    return exit_code(work)


def options_last(argv: Sequence[str], kind: type) -> list[str]:
    """The arguments, with what has a place before what has a name: tyro reads no other order.

    Where nothing has a place they stay as they are. Every option is one of one value, or of none
    where its field is a bool.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    if not any(
        tyro.conf.Positional in getattr(hint, "__metadata__", ()) for hint in hints.values()
    ):
        return list(argv)
    flags = {f"--{name.replace('_', '-')}" for name, hint in hints.items() if hint is bool}
    placed, named, words = [], [], iter(argv)
    for each in words:
        if not OPTION.match(each):
            placed.append(each)
            continue
        named.append(each)
        if "=" not in each and each not in {"--help", *flags}:
            named += [value for value in [next(words, None)] if value is not None]
    return placed + named


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
        if earlier is None:
            neighbours.refuse_mistaken(at_home(path))
    fields = [field.name for field in dataclasses.fields(module.Config)]
    given = asked(argv, fields)
    default = module.recipe(**chosen) if earlier is None else earlier
    default = recipes.before(default, given, new=earlier is None)
    helped = [each for each in argv if each in ("-h", "--help", "--help-all")]
    if helped:
        print(help_text(module, default, whole="--help-all" in helped), end="")
        raise SystemExit(0)
    refuse_unknown(argv, fields)
    argv = spread(argv, module.Config)
    refuse_no_number(argv, module.Config)
    config = tyro.cli(
        module.Config,
        default=default,
        args=list(argv),
        description=(module.__doc__ or "").partition("\n\n")[0],
        config=(tyro.conf.FlagConversionOff,),
        add_help=False,
    )
    if config.data == "auto":
        config = dataclasses.replace(config, data=default.data)
    if config.workdir is not None:
        config = dataclasses.replace(config, workdir=at_home(config.workdir))
    return recipes.after(config, given, earlier)


def asked(argv: Sequence[str], fields: Sequence[str]) -> set[str]:
    """The fields that the arguments name, in either spelling."""
    named = {word.partition("=")[0][2:].replace("-", "_") for word in argv if word[:2] == "--"}
    return named & set(fields)


def refuse_unknown(argv: Sequence[str], fields: Sequence[str]) -> None:
    """Refuse an option that there is none of.

    Raises:
        Refused: names it, and the one that is meant, or the nearest.
    """
    for each in argv:
        flag = each.partition("=")[0]
        name = flag.lstrip("-").replace("-", "_")
        if not OPTION.match(each) or (name in fields and flag.startswith("--")):
            continue
        if CALLED.get(name, name) in fields:
            meant = [CALLED.get(name, name)]
        else:
            # Words are put before it more often than its first letter is mistyped.
            words = {*name.lower().split("_")}
            inside = [one for one in fields if {*one.split("_")} <= words]
            close = difflib.get_close_matches(name, fields, n=3, cutoff=0.6)
            alike = [one for one in close if one[0] == name[0].lower()]
            meant = [max(inside, key=len)] if inside else alike
        hint = ", ".join("--" + one.replace("_", "-") for one in meant)
        raise Refused(f"there is no option {flag}: {f'try {hint}' if hint else 'see --help'}")


def spread(argv: Sequence[str], kind: type) -> list[str]:
    """The arguments, with the values of a field of several numbers apart: "0,1" as "0", "1"."""
    numbers = {
        name
        for name, hint in typing.get_type_hints(kind).items()
        if typing.get_origin(hint) is tuple and {int, float} & set(typing.get_args(hint))
    }
    apart, within = [], False
    for each in argv:
        flag, equals, value = each.partition("=")
        if OPTION.match(each):
            within = flag.removeprefix("--").replace("-", "_") in numbers
            parts = [flag, *value.split(",")] if within and equals else [each]
        else:
            parts = [one for one in each.split(",") if one] if within else [each]
        apart += parts
    return apart


def refuse_no_number(argv: Sequence[str], kind: type) -> None:
    """Refuse a value that is no number where one is wanted; tyro's words are for programmers.

    Raises:
        Refused: names the field and the value.
    """
    hints = typing.get_type_hints(kind)
    for at, each in enumerate(argv):
        flag, equals, value = each.partition("=")
        wanted = {hints.get(flag.removeprefix("--").replace("-", "_"))}
        wanted |= {one for hint in wanted for one in typing.get_args(hint)}
        if not flag.startswith("--") or typing.Literal in map(typing.get_origin, wanted):
            continue
        number = next((one for one in (float, int) if one in wanted), None)
        following = argv[at + 1] if at + 1 < len(argv) and not OPTION.match(argv[at + 1]) else None
        given = value if equals else following
        if number is None or given is None or tuple in map(typing.get_origin, wanted):
            continue
        try:
            number(given)
        except ValueError:
            if given != "None":
                what = "whole number" if number is int else "number"
                raise Refused(f"{flag[2:].replace('-', '_')}={given!r} is no {what}") from None


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
