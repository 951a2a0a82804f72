"""Ablation: rows, how a change is typed, and what is refused before anything runs."""

from dataclasses import replace

import pytest
import toy_detector

from experiments import classify, resnet_cifar
from train.ablation import Ablation, grid, options, rows, trials, typed, words
from train.refusal import Refused

DIGITS = Ablation(
    experiment="classify", base={"data": "digits", "steps": 20}, changes=[{"optimizer": "adamw"}]
)


def test_a_grid_is_a_product_whose_first_is_the_baseline():
    first, others = grid({"a": ["1", "2"], "b": ["x", "y", "z"]})
    assert first == {"a": "1", "b": "x"}
    assert others == [
        {"a": "1", "b": "y"}, {"a": "1", "b": "z"}, {"a": "2", "b": "x"}, {"a": "2", "b": "y"},
        {"a": "2", "b": "z"},
    ]  # fmt: skip


def test_rows_are_a_baseline_and_the_changes_within_each():
    table = replace(DIGITS, within=({"model": "mlp"}, {"model": "lenet5"}))
    found = [*rows(table)]
    assert [(row.group, row.change, row.baseline) for row in found] == [
        ("model=mlp", "baseline", True),
        ("model=mlp", "optimizer=adamw", False),
        ("model=lenet5", "baseline", True),
        ("model=lenet5", "optimizer=adamw", False),
    ]
    assert [row.name for row in found[:2]] == ["model=mlp", "model=mlp optimizer=adamw"]
    assert next(rows(replace(table, baseline="sgd"))).name == "model=mlp sgd"
    assert found[1].options == ["--data=digits", "--steps=20", "--model=mlp", "--optimizer=adamw"]
    assert [row.name for row in rows(DIGITS)] == ["baseline", "optimizer=adamw"]


def test_a_row_is_what_its_command_line_gives():
    baseline, adamw = trials(classify, DIGITS)
    assert (baseline.config.steps, baseline.config.seeds) == (20, (0, 1, 2, 3, 4))
    assert (baseline.config.optimizer, adamw.config.optimizer) == ("sgd", "adamw")
    assert adamw.config.learning_rate == 1e-3  # that optimiser's own, as on the command line
    assert adamw.follows == {"learning_rate": 1e-3, "weight_decay": 0.05}
    assert baseline.follows == {}
    assert (baseline.folder, adamw.folder) == ("baseline", "optimizer-adamw")
    _, deep = trials(
        resnet_cifar,
        Ablation(experiment="resnet_cifar", changes=[{"model": "resnet110"}], seeds=(3,)),
    )
    assert (deep.config.gentle_start, deep.config.seeds) == (0.1, (3,))
    assert deep.follows == {"gentle_start": 0.1}


def test_values_are_typed_by_their_annotation():
    table = replace(
        DIGITS,
        changes=[
            {"learning_rate": 0.5, "frozen_norm": False, "pad": 4},
            {"learning_rate": "0.5"},
            {"epochs": 2, "steps": None},
            {"mirror": "yes"},
        ],
    )
    _, one, other, epochs, mirrored = (trial.config for trial in trials(classify, table))
    assert one.learning_rate == other.learning_rate == 0.5
    assert (one.frozen_norm, one.pad) == (False, 4)
    assert (epochs.epochs, epochs.steps) == (2, None)
    assert mirrored.mirror == "yes"


def test_a_change_is_written_as_it_is_typed():
    change = {"learning_rate": 0.1, "channels": (8, 16), "data": "folder:my pictures"}
    assert words(change) == "learning_rate=0.1 channels=8,16 'data=folder:my pictures'"
    assert options(change) == [
        "--learning-rate=0.1", "--channels", "8", "16", "--data=folder:my pictures",
    ]  # fmt: skip
    assert typed(words(change))["data"] == "folder:my pictures"
    assert typed("learning-rate=0.1 --model=a=b") == {"learning_rate": "0.1", "model": "a=b"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps", "'steps' is no field=value"),
        ("=3", "'=3' is no field=value"),
        ("a=1 a=2", "names a twice"),
        ("  ", "changes nothing"),
        ("a='b", "no closing quotation"),
    ],
)
def test_what_is_no_change_is_refused(text, said):
    with pytest.raises(Refused, match=said):
        typed(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lr": 0.1}, "'lr=0.1': there is no option --lr: try --learning-rate"),
        ({"steps": "many"}, "'steps=many': steps='many' is no whole number"),
        ({"crop": "centre"}, "'crop=centre': crop='centre' is none of auto, pad, resized"),
        ({"learning_rate": -1}, "'learning_rate=-1': learning_rate=-1.0 must be above 0"),
        ({"model": "resnet19"}, "'model=resnet19': model='resnet19' is unknown; nearest"),
        ({"optimizer": "sgd"}, "'optimizer=sgd' is the same recipe as 'baseline'"),
        ({"seed": 1}, "'seed=1': seed is the ablation's own"),
        ({"frozen_norm": "perhaps"}, "'frozen_norm=perhaps': frozen_norm='perhaps' is not what"),
    ],
)
def test_a_row_that_cannot_be_is_refused_before_anything_runs(change, said, capsys):
    table = replace(DIGITS, changes=[{"momentum": 0.5}, change])
    with pytest.raises(Refused) as refused:
        trials(classify, table)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"changes": []}, "there is nothing to compare"),
        ({"seeds": ()}, "seeds=()"),
        ({"seeds": (1, 1)}, "names a seed twice"),
        ({"within": ({"momentum": 0.5},), "changes": [{"momentum": 0.1}]}, "changes 'momentum'"),
    ],
)
def test_a_table_that_cannot_be_is_refused(changes, said):
    with pytest.raises(Refused) as refused:
        trials(classify, replace(DIGITS, **changes))
    assert said in str(refused.value)


def test_any_module_with_a_recipe_is_an_experiment():
    table = Ablation(experiment="toy_detector", changes=[{"ema": 0.0}], base={"steps": 5})
    assert [t.config.ema for t in trials(toy_detector, table)] == [0.9, 0.0]
