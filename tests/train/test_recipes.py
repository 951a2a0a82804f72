"""Which recipe a data set's name stands for."""

from dataclasses import dataclass

import pytest

from train import recipes


@dataclass(frozen=True)
class Config:
    data: str
    steps: int


DIGITS, OTHER = Config("digits", 10), Config("mnist", 20)


@pytest.mark.parametrize(
    ("data", "steps"),
    [
        ("digits", 10),
        ("digits:1.0.0", 10),
        ("digits/small", 10),
        ("digits_and_letters", 20),
        ("folder:/digits", 20),
    ],
)
def test_a_sets_recipe_is_that_of_its_name_without_configuration_and_version(data, steps):
    assert recipes.of_set(data, {"digits": DIGITS}, OTHER) == Config(data, steps)


def test_auto_is_what_is_there(monkeypatch):
    monkeypatch.setattr(recipes, "prepared", lambda name: name == "mnist")
    assert recipes.resolved("auto", "mnist") == "mnist"
    assert recipes.resolved("auto", "cifar10") == "digits"
    assert recipes.resolved("cifar10", "mnist") == "cifar10"
