"""What `--help` prints: the commands of an experiment, and its options in groups, a line each."""

import dataclasses
import inspect
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import tyro

GROUPS: dict[str, tuple[str, ...]] = {
    "Data": ("data", "classes", "size", "by", "validation", "examples", "least_classes"),
    "Network": (
        *("model", "channels", "dropout", "init_from", "freeze", "frozen_norm", "backbone_rate"),
        *("norm_epsilon", "head_rate", "bias_rate", "anchors", "auxiliary_weight"),
        *("shortcut", "norm", "stages", "kernel_size", "dilations", "downsample"),
        *("remat", "zero_init_residual"),
    ),
    "Training": (
        *("steps", "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "drops"),
        *("warmup_steps", "momentum", "nesterov", "weight_decay", "label_smoothing", "loss"),
        *("ema", "evaluate_every", "weights", "seed"),
    ),
    "Augmentation": (
        *("augment", "mirror", "crop", "crop_area", "pad", "rotate", "zoom", "move", "colour"),
        *("dark_ground", "mixup", "cutmix", "erasing"),
    ),
    "Run": ("workdir", "seeds", "seeds_as", "devices", "workers"),
}
"""Heading -> the options under it, of any experiment. Others stand under `OTHERS`."""

OTHERS = "Of this experiment"
RARE = frozenset(
    {
        *("accumulation", "backend", "clip_norm", "corrupt_limit", "dtype", "fsdp", "gentle_start"),
        *("coordinator", "loader", "log_every", "max_pixels", "on_corrupt", "process_id"),
        *("processes", "profile", "save_every", "tracker"),
    }
)
"""Options that `--help` names alone; `--help-all` describes them."""

FEW = 6
"""Up to so many values of an option stand beside it; more stand below all options."""

NARROW, WIDE = 80, 110
"""Limits of the width in columns."""

LEFT = 33
"""Columns before the words about an option."""


class Option(NamedTuple):
    """One field of a `Config`."""

    name: str
    values: tuple[str, ...]
    """All that it can be; () where they are too many to list."""
    kind: str
    default: str
    text: str
    """What the docstring says of it."""

    @property
    def flag(self) -> str:
        """As it is typed."""
        return "--" + self.name.replace("_", "-")

    @property
    def form(self) -> str:
        """What follows the flag."""
        return "|".join(self.values) if 0 < len(self.values) <= FEW else self.kind


def help_text(module: ModuleType, default: Any, *, whole: bool, width: int | None = None) -> str:
    """What `--help` prints, or `--help-all`.

    Args:
        module: the experiment's.
        default: its `Config`, as the other arguments choose it.
        whole: every option with all that its docstring says; else a line each, and the rare ones by
            name.
        width: of a line, in columns; the terminal's by default.
    """
    width = width or min(max(shutil.get_terminal_size((100, 24)).columns, NARROW), WIDE)
    options = {option.name: option for option in read(type(default), default)}
    listed = {name for names in GROUPS.values() for name in names}
    groups = [(title, [n for n in names if n in options]) for title, names in GROUPS.items()]
    rare = [name for name in options if name in RARE]
    groups.insert(-1, (OTHERS, [name for name in options if name not in listed | RARE]))
    if whole:
        groups.append(("Rare", rare))
    lines = [*commands(module, whole)]
    lines += ["", f"In brackets: what it is by default, here for {for_what(default)}."]
    for title, names in groups:
        if names:
            lines += ["", f"{title}:"]
            lines += [
                line
                for name in names
                for line in (described if whole else brief)(options[name], width)
            ]
    lines.append("")
    for option in options.values():
        if len(option.values) > FEW:
            lines += wrapped(f"{option.flag}: ", ", ".join(option.values), width)
    if not whole and rare:
        flags = ", ".join(options[name].flag for name in rare)
        lines += wrapped("", f"--help-all says more of each, and describes {flags}.", width)
    return "\n".join(lines).rstrip() + "\n"


def for_what(default: Any) -> str:
    """The data and the model of a recipe, as they are typed."""
    return f"--data {default.data} --model {default.model}"


def commands(module: ModuleType, whole: bool) -> Iterator[str]:
    """The docstring of an experiment: all of it, or its title and its commands as they stand."""
    paragraphs = inspect.cleandoc(module.__doc__ or "").split("\n\n")
    for n, paragraph in enumerate(paragraphs if whole else paragraphs[:2]):
        if n and not whole and not paragraph.startswith("python "):
            return
        if n:
            yield ""
        yield from paragraph.splitlines()


def brief(option: Option, width: int) -> list[str]:
    """An option in one line: its first clause, and what it is by default."""
    left = f"  {option.flag} {option.form}".ljust(LEFT)
    right = f" [{option.default}]" if option.default else ""
    first = re.split(r"(?<!\.)[.;:](?:\s|$)", " ".join(option.text.split()), maxsplit=1)[0]
    room = width - len(left) - 1 - len(right)
    if len(first) > room:
        first = first[: max(room - 1, 0)].rsplit(" ", 1)[0].rstrip(",") + "…"
    return [f"{left} {first}{right}".rstrip()]


def described(option: Option, width: int) -> list[str]:
    """An option with all that is said of it."""
    default = f" [{option.default}]" if option.default else ""
    return [
        f"  {option.flag} {option.form}{default}",
        *textwrap.wrap(option.text, width - 6, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]


def wrapped(lead: str, text: str, width: int) -> list[str]:
    """A paragraph; its later lines stand under the first one's text."""
    return textwrap.wrap(
        lead + text, width, subsequent_indent=" " * min(len(lead), 12), break_on_hyphens=False
    )


def read(kind: type, default: Any) -> Iterator[Option]:
    """The options of a `Config`, in the order of its fields."""
    texts, hints = documented(kind), typing.get_type_hints(kind, include_extras=True)
    known, open_fields = default.known(), default.undecided
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if tyro.conf.Suppress in getattr(hint, "__metadata__", ()):
            continue  # no one types it
        values, shape = form(hint)
        values = tuple(known.get(field.name, values))
        given = shown(getattr(default, field.name))
        if field.name in open_fields and getattr(default, field.name) is None:
            given = "automatic"
        yield Option(field.name, values, shape, given, texts.get(field.name, ""))


def documented(kind: type) -> dict[str, str]:
    """Field -> its text, from the `Attributes:` of a dataclass and those that it inherits."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        text = inspect.cleandoc(each.__dict__.get("__doc__") or "")
        section = re.search(r"^Attributes:\n((?:[ ].*\n?|\n)*)", text, re.MULTILINE)
        for entry in re.split(r"\n(?=    \S)", section[1].rstrip()) if section else []:
            names, _, words = entry.strip().partition(":")
            for name in names.split(","):
                found[name.strip()] = " ".join(words.split())
    return found


def form(hint: Any) -> tuple[tuple[str, ...], str]:
    """The values of a type, where they are few; and what stands for one."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return form(inner[0])
    if origin is Literal:
        return tuple(map(str, inner)), "NAME"
    if origin in (types.UnionType, typing.Union):
        # Beside names, True and False are what earlier versions had.
        named = any(typing.get_origin(each) is Literal for each in inner)
        left_out = (type(None), bool) if named else (type(None),)
        forms = [form(each) for each in inner if each not in left_out]
        return sum((values for values, _ in forms), ()), forms[0][1]
    if origin is tuple:
        return (), f"{form(inner[0])[1]} …" if inner[-1] is ... else "VALUES"
    if hint is bool:
        return ("True", "False"), "BOOL"
    names = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
    return (), names.get(hint, "VALUE")


def shown(value: Any) -> str:
    """A default as it is typed; "" of what is empty."""
    if isinstance(value, tuple):
        return " ".join(shown(each) for each in value)
    return "" if value is None else str(value)
