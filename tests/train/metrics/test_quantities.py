"""Quantities: how each is read, and that one table says so to all."""

import math

import pytest

from train.metrics.quantities import (
    COUNT,
    QUANTITIES,
    SHARE,
    ordered,
    quantity,
    ranking,
    readable,
    show,
)


@pytest.mark.parametrize(
    ("name", "value", "digits", "text"),
    [
        ("loss", 0.123456, 3, "0.123"),
        ("loss", 12345.6, 3, "12346"),
        ("accuracy", 0.98765, 3, "98.8%"),
        ("accuracy", [0.9, 0.92, 0.94], 4, "92.00±2.00%"),
        ("accuracy", [1.0, 1.0], 4, "100.00%"),
        ("f1", 0.98, 4, "98.00%"),
        ("loss", [1.0, 2.0, 3.0], 3, "2±1"),
        ("loss", [1.0, math.nan, 3.0], 3, "2±1.4 (1 of 3 not finite)"),
        ("loss", math.inf, 3, "not finite"),
        ("count", 10000, 4, "10000"),
        ("count", 180, 4, "180"),
        ("count", [180, 180], 4, "180"),
        ("count", [10, 14], 4, "12±2.8"),
        ("loss", [10.0, 14.0], 4, "12±2.8"),
        ("loss", 9999.7, 4, "10000"),
        ("loss", [0.5], 3, "0.5"),
        ("loss", 1e30, 4, "1e+30"),
        ("count", 1234567, 4, "1234567"),
        ("count", 1355.0, 2, "1355"),
        ("mAP", 0.4567, 4, "45.67%"),
        ("AP50", 0.5, 4, "50.00%"),
        ("rmse", 1.23456, 4, "1.235"),
        ("r2", 0.5, 4, "0.5"),
        ("of_ours", 0.5, 4, "0.5"),
        ("loss", (), 4, "not finite"),
    ],
)
def test_numbers_as_people_read_them(name, value, digits, text):
    assert show(name, value, digits=digits) == text


def test_an_unknown_quantity_is_readable():
    assert quantity("grip_of_tyres") == ("grip of tyres", "", 0, 500, "")


@pytest.mark.parametrize(
    ("name", "words", "unit", "better"),
    [
        ("accuracy", "accuracy", SHARE, 1),
        ("top5", "top-5 accuracy", SHARE, 1),
        ("mAP", "mAP", SHARE, 1),
        ("map", "mAP", SHARE, 1),
        ("AP75", "AP75", SHARE, 1),
        ("AR", "AR", SHARE, 1),
        ("IoU", "IoU", SHARE, 1),
        ("MASE", "MASE", "", -1),
        ("MAE", "MAE", "", -1),
        ("R2", "R²", "", 1),
        ("loss", "loss", "", -1),
        ("learning_rate", "learning rate", "", 0),
        ("count", "examples", COUNT, 0),
    ],
)
def test_what_is_known_of_some(name, words, unit, better):
    assert quantity(name)[:3] == (words, unit, better)
    assert readable(name) == words


def test_what_ranks_comes_first_and_counts_last():
    names = ["count", "of_ours", "loss", "examples_per_second", "f1", "accuracy", "b", "rmse"]
    assert ordered(names) == [
        *("accuracy", "rmse", "loss", "f1", "examples_per_second", "of_ours", "b", "count")
    ]
    assert len({row.order for row in QUANTITIES.values()}) == len(QUANTITIES)
    assert all(name == name.lower() for name in QUANTITIES)


@pytest.mark.parametrize(
    ("rank", "name", "better"),
    [
        ("accuracy", "accuracy", 1),
        ("-rmse", "rmse", -1),
        ("-loss", "loss", -1),
        ("r2", "r2", 1),
        ("of_ours", "of_ours", 1),
        ("-of_ours", "of_ours", -1),
    ],
)
def test_the_sign_of_a_rank_says_which_way_is_better(rank, name, better):
    assert ranking(rank) == (name, better)


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        ("", "names no quantity"),
        ("-", "names no quantity"),
        ("loss", "less is better: '-loss'"),
        ("-accuracy", "more is better: 'accuracy'"),
    ],
)
def test_a_rank_that_would_keep_the_worst(rank, message):
    with pytest.raises(ValueError, match=message):
        ranking(rank)
