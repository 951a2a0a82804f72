"""Recipes: what is refused, by field and value; and which fields are a run's."""

import dataclasses
import re
from typing import Any

import pytest

from train.data.source import About
from train.experiment import (
    RUNTIME,
    Recipe,
    Runtime,
    batch_for,
    below,
    choice,
    fraction,
    nonnegative,
    positive,
)
from train.refusal import Refused

INF, NAN = float("inf"), float("nan")


@dataclasses.dataclass
class One:
    field: Any


@pytest.mark.parametrize(
    ("check", "said", "good", "bad"),
    [
        (positive, "must be above 0", [1, 1e-30], [0, -1, -0.0, INF, NAN]),
        (nonnegative, "must not be below 0", [0, 1e-30, 7], [-1, -1e-30, INF, NAN]),
        (fraction, "must lie in [0, 1)", [0, 0.5, 1 - 1e-9], [1, -1e-9, 2, INF, NAN]),
    ],
)
def test_a_field_out_of_bounds_is_named_with_its_value(check, said, good, bad):
    for value in good:
        check(One(value), "field")
    for value in bad:
        with pytest.raises(Refused, match=f"^{re.escape(f'field={value} {said}')}$"):
            check(One(value), "field")


def test_a_limit_is_not_reached():
    below(One(2**32 - 1), field=2**32)
    for value in (2**32, 2**33, NAN):
        with pytest.raises(Refused, match=f"^field={value} must be below 4294967296$"):
            below(One(value), field=2**32)


@pytest.mark.parametrize("check", [positive, nonnegative, fraction])
def test_every_field_that_is_named_is_checked(check):
    both = dataclasses.make_dataclass("Both", ["a", "b"])
    with pytest.raises(Refused, match=r"^b=-3 must"):
        check(both(0.5, -3), "a", "b")


def test_a_choice_names_the_nearest():
    choice(One("sgd"), "field", ["sgd", "adamw"])
    with pytest.raises(Refused, match=r"^field='adam' is unknown; nearest: adamw$"):
        choice(One("adam"), "field", ["sgd", "adamw"])


def recipe(**fields):
    required = {"data": "digits", "model": "mlp", "steps": 10, "batch_size": 4, "evaluate_every": 5}
    return Recipe(**required | fields)


REFUSED = [
    ({"steps": 0}, "steps=0 must be above 0"),
    ({"steps": None, "epochs": 0.0}, "epochs=0.0 must be above 0"),
    ({"steps": None, "epochs": INF}, "epochs=inf must be above 0"),
    ({"epochs": 2.0}, "steps=10 and epochs=2.0: give one of them"),
    ({"batch_size": -4}, "batch_size=-4 must be above 0"),
    ({"accumulation": 0}, "accumulation=0 must be above 0"),
    ({"evaluate_every": 0}, "evaluate_every=0 must be above 0"),
    ({"log_every": 0}, "log_every=0 must be above 0"),
    ({"save_every": 0}, "save_every=0 must be above 0"),
    ({"devices": 0}, "devices=0 must be above 0"),
    ({"workers": -1}, "workers=-1 must not be below 0"),
    ({"seed": -1}, "seed=-1 must not be below 0"),
    ({"seed": 2**32}, "seed=4294967296 must be below 4294967296"),
    ({"corrupt_limit": 1.0}, "corrupt_limit=1.0 must lie in [0, 1)"),
    ({"seeds": (0, -1)}, "seeds=(0, -1) must lie in 0 .. 2^32 - 1"),
    ({"seeds": (2**32,)}, "seeds=(4294967296,) must lie in 0 .. 2^32 - 1"),
    ({"seeds": (3, 1, 3)}, "seeds=(3, 1, 3) names a seed twice"),
    (
        {"workers": 2, "loader": "resident"},
        "workers=2 read for loader='streaming' alone",
    ),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_a_recipe_that_can_not_be_run_is_refused_as_it_is_made(fields, said):
    with pytest.raises(Refused, match=f"^{re.escape(said)}$"):
        recipe(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"seed": 2**32 - 1},
        {"seeds": (0, 2**32 - 1)},
        {"seeds": ()},
        {"devices": None},
        {"devices": 1},
        {"workers": 2, "loader": "streaming"},
        {"workers": 2},
        {"corrupt_limit": 0.0},
        {"weights": "last"},
    ],
)
def test_what_lies_just_within_the_bounds_is_taken(fields):
    made = recipe(**fields)
    assert {name: getattr(made, name) for name in fields} == fields


def test_a_changed_recipe_is_checked_again():
    with pytest.raises(Refused, match="steps=-1"):
        dataclasses.replace(recipe(), steps=-1)


def test_what_a_resumed_run_may_change_are_the_fields_of_runtime_and_no_other():
    where = {"workdir", "seeds", "seeds_as", "devices", "loader", "backend", "workers"}
    several = {"fsdp", "coordinator", "processes", "process_id"}
    assert where | several | {"log_every", "save_every", "tracker", "profile"} == RUNTIME
    Runtime()  # each has a default
    computed = {field.name for field in dataclasses.fields(Recipe)} - RUNTIME
    assert {"seed", "steps", "batch_size", "accumulation", "weights", "on_corrupt"} <= computed


def test_a_run_is_judged_by_its_best_weights_unless_asked():
    assert (recipe().weights, recipe().seeds, recipe().seed) == ("best", (), 0)


ABOUT = About("toy", "train", ("a", "b"), mirror=None)
OPEN = {"steps": None, "batch_size": None, "evaluate_every": None}


def test_nothing_is_settled_that_was_given():
    made = recipe()
    assert made.settled(ABOUT, 1000, 1) == {}
    assert made.undecided == {"epochs"}


@pytest.mark.parametrize(
    ("epochs", "length", "steps"),
    [(1, 100, 25), (1, 101, 26), (2.5, 100, 63), (3, 1262, 947), (0.001, 100, 1), (0.1, 120, 3)],
)
def test_epochs_are_as_many_steps_as_see_every_example(epochs, length, steps):
    made = recipe(steps=None, epochs=epochs)  # batches of 4
    assert made.settled(ABOUT, length, 1) == {"steps": steps, "epochs": None}


@pytest.mark.parametrize(
    ("epochs", "every"),
    [(3, 25), (20, 25), (40, 50), (100, 125)],  # 25 steps an epoch: each, or twenty in all
)
def test_a_run_of_open_rhythm_validates_after_each_epoch_but_not_more_than_20_times(epochs, every):
    made = recipe(steps=None, epochs=epochs, evaluate_every=None)
    assert made.settled(ABOUT, 100, 1)["evaluate_every"] == every


@pytest.mark.parametrize(
    ("length", "slices", "batch"),
    [
        (3, 1, 1), (8, 1, 2), (15, 1, 2), (16, 1, 4), (127, 1, 16), (128, 1, 32), (10**6, 1, 32),
        (128, 4, 32), (128, 3, 30), (16, 8, 8), (2, 4, 4),
    ],
)  # fmt: skip
def test_an_open_batch_is_at_most_a_quarter_of_the_examples(length, slices, batch):
    assert batch_for(length, 32, slices) == batch
    made = recipe(batch_size=None)
    assert made.settled(ABOUT, length, slices) == {"batch_size": batch}


def test_all_that_is_open_follows_from_the_length():
    made = recipe(**OPEN, epochs=6.0)
    assert made.undecided == {"steps", "epochs", "batch_size", "evaluate_every"}
    found = made.settled(ABOUT, 90, 1)  # batches of 16: 5.6 an epoch
    assert found == {"batch_size": 16, "steps": 34, "epochs": None, "evaluate_every": 6}
    assert dataclasses.replace(made, **found).settled(ABOUT, 90, 1) == {}


def test_a_run_of_no_length_is_refused():
    with pytest.raises(Refused, match=r"^steps=None and epochs=None: give one of them$"):
        recipe(steps=None).settled(ABOUT, 90, 1)
