"""Who measures when, and what a number is."""

import os
import sys

import pytest

from experiments.benchmark.turns import Worker, alternate, middle, ratios
from train.refusal import Refused


def test_processes_take_turns_and_ratios_are_within_a_round():
    order = []

    def worker(name, rates):
        rates = iter(rates)
        return lambda: (order.append(name), next(rates))[1]

    rates = alternate(
        {"svertka": worker("svertka", [10.0, 40.0]), "torch": worker("torch", [5.0, 10.0])}, 2
    )
    assert order == ["svertka", "torch"] * 2
    assert ratios(rates, "torch") == [2.0, 4.0]
    assert middle([3.0, 1.0, 2.0], 1) == "2.0  (1.0 .. 3.0)"


def test_a_worker_that_fails_says_why():
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing here')"]
    with pytest.raises(Refused, match="no such thing here"):
        Worker(command, {}, dict(os.environ))
