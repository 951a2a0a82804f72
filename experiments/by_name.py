"""An experiment by the name that a user types."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from train.refusal import Refused, choose

HERE = Path(__file__).parent


def named(experiment: str) -> ModuleType:
    """An experiment's module: "resnet_cifar", "experiments/resnet_cifar.py", or "package.module".

    Raises:
        Refused: there is none.
    """
    name = experiment.removeprefix("./").removesuffix(".py").replace("/", ".")
    name = name.removeprefix("experiments.")
    if (HERE / f"{name}.py").is_file():
        module = importlib.import_module(f"experiments.{name}")
    elif "." not in name and find_spec(name) is None:
        raise Refused(str(unknown(name)))
    else:
        try:
            module = importlib.import_module(name)
        except (ImportError, TypeError, ValueError):  # no module, or no name of one
            raise Refused(str(unknown(name))) from None
    if not all(hasattr(module, part) for part in ("Config", "recipe", "build", "main")):
        raise Refused(f"{name} is no training with a recipe; these are: {', '.join(single())}")
    return module


def refuse_several(module: ModuleType, config: Any) -> None:
    """Refuse a recipe that is several trainings, or goes on from another, where one is wanted.

    Raises:
        Refused: names the experiment, and what is one.
    """
    for field, values in config.trainings().items():
        name, value = module.__name__.removeprefix("experiments."), getattr(config, field)
        *some, last = values
        named = f"{', '.join(some)} or {last}" if some else last
        others = ", ".join(each for each in single() if each != name)
        raise Refused(
            f"{name} with {field}={value!r} is more than one training, or goes on from another; "
            f"one is wanted here: --{field} {named}, or another experiment: {others}"
        )


def recipes() -> list[str]:
    """Names of the experiments that have one."""
    return sorted(
        file.stem
        for file in HERE.glob("*.py")
        if "\nclass Config(" in (text := file.read_text()) and "\ndef recipe(" in text
    )


def single() -> list[str]:
    """Names of those that are one training by default."""
    modules = {name: importlib.import_module(f"experiments.{name}") for name in recipes()}
    return [name for name, module in modules.items() if not module.recipe().trainings()]


def unknown(name: str) -> Refused:
    """That there is no such experiment."""
    try:
        choose("experiment", name, recipes())
    except Refused as refused:
        return refused
    return Refused(f"experiment={name!r} is unknown")
