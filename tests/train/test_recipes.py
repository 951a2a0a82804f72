"""Which recipe a data set's name stands for."""

import dataclasses
from dataclasses import dataclass

import pytest

from experiments import classify, resnet_cifar
from train import cli, recipes, workdir
from train.data.source import About
from train.refusal import Refused


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


def asked(experiment, *arguments):
    """The config that a command line makes."""
    return cli.configure(experiment, [str(each) for each in arguments])


def test_epochs_leave_open_what_follows_from_them():
    config = asked(classify, "--data", "fashion_mnist", "--epochs", 2.5)
    assert (config.steps, config.epochs) == (None, 2.5)
    assert (config.warmup_steps, config.evaluate_every) == (None, None)
    config = asked(classify, "--data", "digits", "--epochs=2", "--warmup_steps=7")
    assert (config.steps, config.warmup_steps, config.batch_size) == (None, 7, 64)
    # The paper's recipe has no warm-up, and gets none.
    assert asked(resnet_cifar, "--data", "cifar10", "--epochs", 3).warmup_steps == 0


def test_steps_take_the_place_of_a_recipes_epochs():
    config = asked(classify, "--data", "folder:x", "--steps", 70)
    assert (config.steps, config.epochs) == (70, None)
    for arguments in (("--data", "folder:x"), ("--data", "digits")):
        with pytest.raises(Refused, match=r"steps=70 and epochs=2\.0: give one of them"):
            asked(classify, *arguments, "--epochs", 2, "--steps", 70)


@pytest.mark.parametrize(
    ("arguments", "warmup", "settled"),
    [
        ((), 500, None),
        (("--steps", 10_000), 500, None),
        (("--steps", 20_000), 500, None),
        (("--steps", 2500), 500, None),
        (("--steps", 4), None, 0),
        (("--steps", 20), None, 4),
        (("--steps", 1000), None, 50),
        (("--steps", 20, "--warmup-steps", 19), 19, None),
        (("--steps", 20, "--warmup-steps", 500), 500, None),  # as asked, and then refused
    ],
)
def test_a_warm_up_that_nobody_asked_for_follows_the_steps(arguments, warmup, settled):
    config = asked(classify, "--data", "fashion_mnist", *arguments)
    assert config.warmup_steps == warmup
    about = About("toy", "train", ("a", "b"), mirror=False, shape=(28, 28, 1))
    assert config.settled(about, 54_000, 1).get("warmup_steps") == settled


@pytest.mark.parametrize(
    ("given", "found"), [("True", "yes"), ("False", "no"), ("yes", "yes"), ("auto", "auto")]
)
def test_true_and_false_are_yes_and_no(given, found):
    assert asked(classify, "--data", "digits", "--mirror", given).mirror == found


def test_the_same_command_goes_on(tmp_path):
    """Whether to mirror is "yes" in a new run; one of an earlier version has True."""
    for has, given, found in (("yes", "True", "yes"), ("no", "False", "no"), (True, "True", True)):
        earlier = dataclasses.replace(classify.DIGITS, mirror=has)
        workdir.write_config(tmp_path, classify.NAME, earlier)
        config = asked(classify, "--workdir", tmp_path, "--mirror", given)
        assert config == dataclasses.replace(earlier, workdir=tmp_path)
        assert (type(config.mirror), config.mirror) == (type(found), found)


def test_a_run_that_goes_on_keeps_what_it_has_resolved(tmp_path):
    earlier = dataclasses.replace(classify.DIGITS, warmup_steps=399, mirror=True)
    workdir.write_config(tmp_path, classify.NAME, earlier)
    again = asked(classify, "--workdir", tmp_path)
    assert again == dataclasses.replace(earlier, workdir=tmp_path)
    longer = asked(classify, "--workdir", tmp_path, "--epochs", 3)
    assert (longer.steps, longer.epochs, longer.evaluate_every) == (None, 3, 1000)
