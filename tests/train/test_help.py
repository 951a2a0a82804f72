"""What --help prints."""

import dataclasses
import importlib
import os
import pathlib
import types
from typing import Literal

import pytest

from train.help import documented, help_text, read

EXPERIMENTS = [
    "classify",
    "resnet_cifar",
    "segment",
    "lenet_mnist",
    "mlp_vs_cnn",
    "resnet_imagenet",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """What others inherit.

    Attributes:
        steps: updates of the optimiser. An update is one batch.
        low, high: limits,
            on two lines.
    """

    steps: int = 10
    low: float = 0.5
    high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """A recipe.

    Attributes:
        steps: what it is here, 0 .. 10. More.
        by: how.
        accumulation: slices.
        own: something of its own.
        model: which.
        data: where.
    """

    by: Literal["pad", "resize"] = "pad"
    accumulation: int = 1
    own: tuple[int, ...] = (1, 2)
    workdir: pathlib.Path | None = None
    model: str = "n0"

    data: str = "digits"
    undecided = frozenset(("high",))

    def known(self):
        return {"model": [f"n{i}" for i in range(20)]}


@pytest.fixture
def module():
    made = types.ModuleType("made", "A title.\n\npython x.py   this\npython x.py --by pad\n\nMore.")
    made.Config = Config
    return made


def test_texts_of_fields_come_from_all_classes():
    found = documented(Config)
    assert found["steps"] == "what it is here, 0 .. 10. More."
    assert found["low"] == found["high"] == "limits, on two lines."


def test_forms_and_defaults():
    forms = {option.flag: (option.form, option.default) for option in read(Config, Config())}
    assert forms == {
        "--steps": ("INT", "10"),
        "--low": ("FLOAT", "0.5"),
        "--high": ("FLOAT", "automatic"),
        "--by": ("pad|resize", "pad"),
        "--accumulation": ("INT", "1"),
        "--own": ("INT …", "1 2"),
        "--workdir": ("PATH", ""),
        "--model": ("TEXT", "n0"),
        "--data": ("TEXT", "digits"),
    }


def test_short_help(module):
    said = help_text(module, Config(), whole=False, width=80)
    assert said == (
        "A title.\n"
        "\n"
        "python x.py   this\n"
        "python x.py --by pad\n"
        "\n"
        "In brackets: what it is by default, here for --data digits --model n0.\n"
        "\n"
        "Data:\n"
        "  --data TEXT                     where [digits]\n"
        "  --by pad|resize                 how [pad]\n"
        "\n"
        "Network:\n"
        "  --model TEXT                    which [n0]\n"
        "\n"
        "Training:\n"
        "  --steps INT                     what it is here, 0 .. 10 [10]\n"
        "\n"
        "Of this experiment:\n"
        "  --low FLOAT                     limits, on two lines [0.5]\n"
        "  --high FLOAT                    limits, on two lines [automatic]\n"
        "  --own INT …                     something of its own [1 2]\n"
        "\n"
        "Run:\n"
        "  --workdir PATH\n"
        "\n"
        "--model: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15,\n"
        "         n16, n17, n18, n19\n"
        "--help-all says more of each, and describes --accumulation.\n"
    )


def test_whole_help(module):
    said = help_text(module, Config(), whole=True, width=80)
    assert "\n\nMore.\n" in said
    assert "  --steps INT [10]\n      what it is here, 0 .. 10. More.\n" in said
    assert "Rare:\n  --accumulation INT [1]\n      slices.\n" in said


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("width", [80, 100])
def test_help_of_every_experiment_is_short_and_whole(name, width):
    module = importlib.import_module(f"experiments.{name}")
    default = module.recipe()
    short = help_text(module, default, whole=False, width=width)
    lines = short.splitlines()
    assert len(lines) <= 72
    assert max(map(len, lines[lines.index("Data:") :])) <= width
    assert f"python experiments/{name}.py" in short
    everything = help_text(module, default, whole=True, width=width)
    for option in read(module.Config, default):
        assert option.flag in short
        assert option.text, f"{option.flag} has no words"
        assert f"  {option.flag} " in everything


def test_values_of_model_are_listed():
    import models

    module = importlib.import_module("experiments.classify")
    said = help_text(module, module.recipe(), whole=False, width=100)
    words = said.replace(",", " ").split()
    assert set(models.names("classification")) <= set(words)


def test_width_of_the_terminal(module, monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda fallback: os.terminal_size((300, 9)))
    assert help_text(module, Config(), whole=False) == help_text(
        module, Config(), whole=False, width=110
    )
