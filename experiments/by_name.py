"""An experiment by the name that a user types."""

import importlib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

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
        raise Refused(f"experiment={experiment!r} has no recipe whose fields can be changed")
    return module


def unknown(name: str) -> Refused:
    """That there is no such experiment."""
    recipes = [
        file.stem
        for file in HERE.glob("*.py")
        if "\nclass Config(" in (text := file.read_text()) and "\ndef recipe(" in text
    ]
    try:
        choose("experiment", name, recipes)
    except Refused as refused:
        return refused
    return Refused(f"experiment={name!r} is unknown")
