"""Ablation: a recipe and changes to it, each of which is run with the same seeds."""

import contextlib
import dataclasses
import io
import itertools
import shlex
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from train import cli, workdir
from train.experiment import RUNTIME
from train.refusal import Refused

Change = Mapping[str, Any]
"""Field of the experiment's `Config` -> its value, or that as it is typed: "0.1", "8,16"."""

SEEDS = (0, 1, 2, 3, 4)
BASELINE = "baseline"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablation:
    """What is compared: a row a change, against the recipe without it.

    A row is the run that the experiment's command line gives with these options: what follows from
    a change there (a model's own learning rate) follows here too.

    Attributes:
        experiment: its module, "experiments.resnet_cifar"; without "experiments." too.
        changes: a row each. The first row is the recipe without any.
        base: of all rows, beside what the experiment's `recipe` says.
        within: the comparison is made anew with each of these: a baseline and all changes. Of a
            table of depths: ({"model": "resnet20"}, {"model": "resnet32"}).
        seeds: of each row.
        metric: the scalar of the test split that is compared; "" is the one that ranks.
        title: the question, in words.
        baseline: words for the rows without a change.
    """

    experiment: str
    changes: Sequence[Change]
    base: Change = dataclasses.field(default_factory=dict)
    within: Sequence[Change] = ({},)
    seeds: tuple[int, ...] = SEEDS
    metric: str = ""
    title: str = ""
    baseline: str = BASELINE


class Row(NamedTuple):
    """Of the table."""

    name: str
    """All that tells it from others: "model=resnet32 shortcut=none"."""
    group: str
    """The part of it that is of `Ablation.within`."""
    change: str
    """The rest; `Ablation.baseline` of a baseline."""
    baseline: bool
    fields: dict[str, Any]
    """Of the experiment's command line, the base included."""

    @property
    def options(self) -> list[str]:
        """The experiment's command line."""
        return options(self.fields)


class Trial(NamedTuple):
    """A row, and what is run for it."""

    row: Row
    config: Any
    """With the seeds; without a work directory."""
    folder: str
    """Name of its directory, below that of the ablation."""
    follows: dict[str, Any]
    """Field -> value, of those that another change than the row's own made differ from the
    baseline's: the recipe has them so."""


def grid(fields: Mapping[str, Sequence[Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The product of values: its first combination, the baseline, and all others.

    >>> grid({"a": [1, 2], "b": [3]})
    ({'a': 1, 'b': 3}, [{'a': 2, 'b': 3}])
    """
    first, *others = [
        dict(zip(fields, values, strict=True)) for values in itertools.product(*fields.values())
    ]
    return first, others


def rows(ablation: Ablation) -> Iterator[Row]:
    """In the order of the table.

    Raises:
        Refused: nothing is compared, or a field is changed twice in one row.
    """
    if not ablation.changes:
        raise Refused("no change is given: there is nothing to compare")
    for within in ablation.within:
        for change in ({}, *ablation.changes):
            if both := sorted(within.keys() & change.keys()):
                raise Refused(f"{words(change)!r} changes {both[0]!r}, as {words(within)!r} does")
            group, own = words(within), words(change) or ablation.baseline
            bare = group and not change and own == BASELINE
            yield Row(
                group if bare else " ".join(filter(None, [group, own])),
                group,
                own,
                not change,
                {**ablation.base, **within, **change},
            )


def trials(module: ModuleType, ablation: Ablation) -> list[Trial]:
    """What is run for each row. No data are read.

    Raises:
        Refused: a row's recipe can't be, two are the same, or the seeds can't be; names the row.
    """
    if not ablation.seeds:
        raise Refused("seeds=() names none; each row is run with some")
    found: list[Trial] = []
    for row in rows(ablation):
        config = configured(module, row, ablation)
        for other in found:
            if other.config == config:
                raise Refused(f"{row.name!r} is the same recipe as {other.row.name!r}")
        first = next((t for t in found if t.row.baseline and t.row.group == row.group), None)
        follows = {} if first is None else differences(first.config, config)
        found.append(
            Trial(
                row,
                config,
                unused(workdir.slug(row.name), [one.folder for one in found]),
                {name: value for name, value in follows.items() if name not in row.fields},
            )
        )
    return found


def configured(module: ModuleType, row: Row, ablation: Ablation) -> Any:
    """The `Config` of a row, with all seeds.

    Raises:
        Refused: names the row.
    """
    if held := sorted({"workdir", "seed", "seeds"} & row.fields.keys()):
        raise Refused(f"{row.name!r}: {held[0]} is the ablation's own, not a row's")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            config = cli.configure(module, row.options)
        return dataclasses.replace(config, seeds=tuple(ablation.seeds), workdir=None)
    except Refused as error:
        raise Refused(f"{row.name!r}: {error}") from None
    except SystemExit:  # tyro's, which has printed a page
        raise Refused(f"{row.name!r}: {wrong_value(module, row.fields)}") from None


def wrong_value(module: ModuleType, fields: Change) -> str:
    """Which of them the annotation of its field does not take, in words."""
    hints = typing.get_type_hints(module.Config)
    where = f"see the --help of {module.__name__}"
    for name, value in fields.items():
        if typing.get_origin(hint := hints.get(name)) is typing.Literal:
            valid = typing.get_args(hint)
            if str(value) not in map(str, valid):
                return f"{name}={value!r} is none of {', '.join(map(str, valid))}"
            continue
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                cli.configure(module, options({name: value}))
        except SystemExit:
            return f"{name}={value!r} is not what this field takes; {where}"
        except Refused:
            continue  # it may be good beside the others
    return f"a value is not what its field takes; {where}"


def differences(config: Any, other: Any) -> dict[str, Any]:
    """Fields of the recipe that are not the same -> the value in `other`."""
    names = [field.name for field in dataclasses.fields(config) if field.name not in RUNTIME]
    return {n: getattr(other, n) for n in names if getattr(config, n) != getattr(other, n)}


def unused(name: str, taken: Sequence[str]) -> str:
    """The name, or with the first number that makes it a new one."""
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(one for one in itertools.chain([name], numbered) if one not in taken)


def options(change: Change) -> list[str]:
    """A change as options of a command line: a value of several as several words."""
    words: list[str] = []
    for name, value in change.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, list | tuple):
            words += [flag, *map(str, value)]
        else:
            words.append(f"{flag}={value}")
    return words


def words(change: Change) -> str:
    """A change as it is typed: "optimizer=adamw mixup=0.2"."""
    return shlex.join(
        f"{name}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in change.items()
    )


def typed(text: str) -> dict[str, str]:
    """A change from how it is typed.

    >>> typed("optimizer=adamw mixup=0.2")
    {'optimizer': 'adamw', 'mixup': '0.2'}

    Raises:
        Refused: a part of it is no field=value, or a field comes twice.
    """
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise Refused(f"change {text!r}: {str(error).lower()}") from None
    change: dict[str, str] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.removeprefix("--").replace("-", "_")
        if not equals or not name.isidentifier():
            raise Refused(f"change {text!r}: {part!r} is no field=value")
        if name in change:
            raise Refused(f"change {text!r} names {name} twice")
        change[name] = value
    if not change:
        raise Refused("change '' changes nothing")
    return change
