"""The command line: exit codes, the recipe that arguments choose, a run that goes on."""

import dataclasses
import json
import pathlib
import shutil
import signal
import sys
import types

import numpy as np
import pytest

from experiments import classify, segment
from train import cli, workdir
from train.data.loader import LoaderFailed
from train.experiment import Recipe
from train.loop import NonFinite
from train.refusal import Failed, Refused
from train.stop import Stopped
from train.trained import Trained

NAME = "an_experiment_of_the_tests"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descending(Trained):
    """As most recipes."""

    data: str = "digits"
    model: str = "small"
    steps: int = 100
    batch_size: int = 32
    evaluate_every: int = 10
    learning_rate: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    """The recipe.

    Attributes:
        stages: features and blocks of each.
        mean: of each channel.
        init_from: a file.
        flip: whether to.
    """

    data: str = "digits"
    model: str = "small"
    steps: int = 100
    batch_size: int = 32
    evaluate_every: int = 10
    stages: tuple[tuple[int, int], ...] = ((16, 2), (32, 2))
    mean: tuple[float, ...] = (0.5,)
    init_from: pathlib.Path | None = None
    flip: bool = False


def recipe(data: str = "auto", model: str = "small") -> Config:
    if data not in ("auto", "digits", "cifar10"):
        raise Refused(f"data={data!r} is unknown")
    config = Config(data="digits" if data == "auto" else data, model=model)
    return dataclasses.replace(config, steps=500, flip=True) if model == "large" else config


@pytest.fixture
def experiment(monkeypatch):
    """An experiment whose `main` keeps what it is given, in `seen`."""
    module = types.ModuleType(NAME, "What it is.\n\nMore of it.")
    module.Config, module.recipe, module.seen = Config, recipe, []
    module.main = module.seen.append
    monkeypatch.setitem(sys.modules, NAME, module)
    monkeypatch.setattr(cli, "keep_pages", lambda: True)  # it would stay with all later tests
    return module


def made(experiment, *arguments):
    """The config that `main` is given."""
    assert cli.command_line(NAME, [str(each) for each in arguments]) == 0
    return experiment.seen.pop()


def refused(capsys, *arguments):
    """What tyro says before it ends the process."""
    with pytest.raises(SystemExit) as ended:
        cli.command_line(NAME, [str(each) for each in arguments])
    assert ended.value.code == 2
    return capsys.readouterr().err


# --- exit codes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (None, 0, ""),
        (Refused("model='smal' is unknown"), 2, "error: model='smal' is unknown\n"),
        (Failed("a file can't be read"), 1, "error: a file can't be read\n"),
        (LoaderFailed("a reader died"), 1, "error: a reader died\n"),
        (
            NonFinite(7, {"nonfinite": 1}),
            1,
            "error: loss, gradient or weights are not finite at step 7\n",
        ),
        (Stopped(signal.SIGTERM), 143, ""),
        (Stopped(signal.SIGHUP), 129, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_how_a_run_ends_is_the_exit_code_and_at_most_a_line(experiment, capsys, error, code, said):
    def main(config):
        if error is not None:
            raise error

    experiment.main = main
    assert cli.command_line(NAME, []) == code
    assert capsys.readouterr() == ("", said)


def test_ctrl_c_ends_the_process_at_once_until_a_run_hears_it(experiment):
    """JAX's own callbacks would drop a KeyboardInterrupt."""
    heard = []
    experiment.main = lambda config: heard.append(signal.getsignal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.command_line(NAME, []) == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what is in its background
        assert cli.command_line(NAME, []) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIG_DFL, signal.SIG_IGN]


def test_an_error_of_the_program_is_not_hidden(experiment):
    experiment.main = lambda config: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cli.command_line(NAME, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "error: steps=0 must be above 0\n"),
        (["--data", "nonesuch"], "error: data='nonesuch' is unknown\n"),
        (["--seeds", "3", "3"], "error: seeds=(3, 3) names a seed twice\n"),
        (["--workdir", ""], "error: workdir='' names no directory\n"),
        (["--steps", "many"], "error: steps='many' is no whole number\n"),
        (["--steps=2.5"], "error: steps='2.5' is no whole number\n"),
        (["--corrupt-limit", "few"], "error: corrupt_limit='few' is no number\n"),
    ],
)
def test_a_request_that_can_not_be_met_is_one_line(experiment, capsys, arguments, said):
    assert cli.command_line(NAME, arguments) == 2
    assert capsys.readouterr() == ("", said)
    assert not experiment.seen


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--stepz", "there is no option --stepz: try --steps"),
        ("--num-epochs", "there is no option --num-epochs: try --epochs"),
        ("--base-learning-rate", "there is no option --base-learning-rate: try --learning-rate"),
        ("--lr", "there is no option --lr: try --learning-rate"),
        ("--lr=0.1", "there is no option --lr: try --learning-rate"),
        ("-lr", "there is no option -lr: try --learning-rate"),
        ("--num-workers", "there is no option --num-workers: try --workers"),
        ("--arch", "there is no option --arch: try --model"),
        ("--Steps", "there is no option --Steps: try --steps"),
        ("-steps", "there is no option -steps: try --steps"),
        ("--wqxz", "there is no option --wqxz: see --help"),
    ],
)
def test_an_option_that_is_unknown_is_named_with_the_one_that_is_meant(
    experiment, capsys, option, said
):
    experiment.Config = Descending
    experiment.recipe = lambda data="auto": Descending()
    assert cli.command_line(NAME, [option, "3"]) == 2
    assert capsys.readouterr() == ("", f"error: {said}\n")


def test_what_others_call_an_option_is_one_of_some_experiment():
    fields = set(vars(classify.Config()) | vars(segment.Config()))
    assert set(cli.CALLED.values()) <= fields
    assert not set(cli.CALLED) & fields


def test_a_negative_number_is_a_value(experiment):
    assert made(experiment, "--mean", "-1", "-.5", "-inf", "-1e3").mean == (-1, -0.5, -np.inf, -1e3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--loader", "slow"], "slow"),
        (["--steps"], "--steps"),
        (["--workdir"], "--workdir"),
        (["--data"], "--data"),
    ],
)
def test_a_value_that_is_none_or_missing_is_said(experiment, capsys, arguments, named):
    assert named in refused(capsys, *arguments)
    assert not experiment.seen


def test_help_shows_the_label_and_the_defaults_of_the_recipe_that_is_chosen(experiment, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.command_line(NAME, ["--model", "large", "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "What it is." in said
    assert "More of it." not in said
    assert "500" in said


def test_arguments_are_the_process_s_by_default(experiment, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["script.py", "--steps", "7"])
    assert cli.command_line(NAME) == 0
    assert experiment.seen == [Config(steps=7)]


# --- what the arguments choose -----------------------------------------------------------------


def test_without_arguments_it_is_the_recipe(experiment):
    assert made(experiment) == Config()


@pytest.mark.parametrize("chosen", [["--model", "large"], ["--model=large"]])
def test_a_recipe_is_chosen_before_its_fields_have_defaults(experiment, chosen):
    assert made(experiment, *chosen) == Config(model="large", steps=500, flip=True)
    changed = Config(model="large", steps=7, flip=True)
    assert made(experiment, "--steps", 7, *chosen) == changed
    assert made(experiment, *chosen, "--steps", 7) == changed


@pytest.mark.parametrize("option", ["--base-model", "--base_model"])
def test_a_field_of_two_words_chooses_a_recipe_in_either_spelling(experiment, option):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Two(Config):
        base_model: str = "small"

    def of_base(base_model: str = "small"):
        return Two(base_model=base_model, steps=500 if base_model == "large" else 100)

    experiment.Config, experiment.recipe = Two, of_base
    assert made(experiment, option, "large").steps == 500


def test_the_data_of_auto_are_the_recipe_s(experiment):
    assert made(experiment, "--data", "auto").data == "digits"
    assert made(experiment, "--data", "cifar10").data == "cifar10"


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (["--seeds", 0, 1, 2], {"seeds": (0, 1, 2)}),
        (
            ["--seeds", "0,1,2", "--init-from", "a,b"],
            {"seeds": (0, 1, 2), "init_from": pathlib.Path("a,b")},
        ),
        (["--seeds=0,1"], {"seeds": (0, 1)}),
        (["--seeds", "0,", "1"], {"seeds": (0, 1)}),
        (["--mean=-1,2"], {"mean": (-1.0, 2.0)}),
        (["--seeds", 5, "--steps", 7], {"seeds": (5,), "steps": 7}),
        (["--batch_size", 8], {"batch_size": 8}),
        (["--batch-size", 8], {"batch_size": 8}),
        (["--flip", "True"], {"flip": True}),
        (["--devices", 2], {"devices": 2}),
        (["--workdir", "somewhere"], {"workdir": pathlib.Path("somewhere")}),
        (["--init-from", "a file.pth"], {"init_from": pathlib.Path("a file.pth")}),
        (["--mean", 0.1, 0.2, 0.3], {"mean": (0.1, 0.2, 0.3)}),
        (["--stages", 8, 1, 16, 3], {"stages": ((8, 1), (16, 3))}),
    ],
)
def test_fields_are_read_by_their_types(experiment, monkeypatch, tmp_path, arguments, fields):
    monkeypatch.chdir(tmp_path)
    assert made(experiment, *arguments) == Config(**fields)


# --- a run that goes on ------------------------------------------------------------------------

EARLIER = Config(
    data="cifar10",
    model="large",
    steps=7,
    stages=((4, 1), (8, 1), (16, 1)),
    mean=(0.25, 0.5, 0.75),
    init_from=pathlib.Path("weights") / "a.pth",
    flip=False,
    seed=3,
    devices=1,
    log_every=5,
)


@pytest.fixture
def path(tmp_path):
    """A directory in which a run of `EARLIER` lives."""
    workdir.write_config(tmp_path, NAME, EARLIER)
    return tmp_path


def test_a_run_that_goes_on_keeps_every_value(experiment, path):
    again = made(experiment, "--workdir", path)
    assert again == dataclasses.replace(EARLIER, workdir=path)
    assert all(type(stage) is tuple for stage in again.stages)
    assert isinstance(again.init_from, pathlib.Path)


@pytest.mark.parametrize("workdir_first", [True, False])
def test_a_run_that_goes_on_may_change_what_is_asked(experiment, path, workdir_first):
    where, others = ["--workdir", path], ["--log-every", 2, "--seeds", 0, 1]
    arguments = where + others if workdir_first else others + where
    expected = dataclasses.replace(EARLIER, workdir=path, log_every=2, seeds=(0, 1))
    assert made(experiment, *arguments) == expected


def test_the_recipe_does_not_matter_to_a_run_that_goes_on(experiment, path):
    """Asked for again, it is the run's; another one is passed on, for the run to refuse."""
    for argument in ("cifar10", "auto"):
        again = made(experiment, "--workdir", path, "--data", argument)
        assert again == dataclasses.replace(EARLIER, workdir=path)
    assert made(experiment, "--workdir", path, "--model", "small").model == "small"


def test_the_home_directory_is_found(experiment, path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    again = made(experiment, f"--workdir=~/{path.name}")
    assert again == dataclasses.replace(EARLIER, workdir=path)


def test_a_new_directory_begins_a_run(experiment, tmp_path):
    new = tmp_path / "new"
    assert made(experiment, "--workdir", new, "--model", "large").steps == 500
    assert not new.exists()


def test_beside_runs_it_is_to_be_made_first(experiment, path, tmp_path_factory, capsys):
    runs = tmp_path_factory.mktemp("runs")
    shutil.copytree(path, runs / "old")
    new = runs / "new"
    assert cli.command_line(NAME, ["--workdir", str(new)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: workdir={str(new)!r} does not exist; {str(runs)!r} holds")
    assert cli.command_line(NAME, ["--workdir", str(runs)]) == 2
    new.mkdir()
    assert made(experiment, "--workdir", new).workdir == new


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experiment": "experiments.other"}, "belongs to experiments.other, not to " + NAME),
        ({"steps": "many"}, "config.json holds a wrong value: steps='many'"),
        ({"steps": 0}, "config.json holds a wrong value: steps=0 must be above 0"),
        ({"bogus": 1}, "unknown fields: bogus"),
    ],
)
def test_a_directory_that_holds_something_else_is_refused(experiment, path, capsys, change, said):
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert cli.command_line(NAME, ["--workdir", str(path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not experiment.seen
