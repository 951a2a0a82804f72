"""The program of a recipe: what changes its digest, and what does not."""

import os
import subprocess
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest
import toy_detector
from toy_detector import Config

from train.augment import brightness
from train.canonical import digest, text
from train.prepared import prepare

ONE = Config(devices=1, backend="xla")
ELSEWHERE = """
import toy_detector
from train.canonical import digest
from train.prepared import prepare
print(digest(prepare(toy_detector, toy_detector.Config())))
"""


def of(config):
    return digest(prepare(toy_detector, config))


@pytest.fixture(scope="module")
def usual():
    """Its digest, on one device."""
    return of(ONE)


def test_how_a_run_goes_is_no_change(usual):
    other = replace(ONE, devices=4, backend="jax", loader="streaming", seed=3, save_every=7)
    assert of(other) == usual
    assert len(usual) == 64


def test_another_process_finds_the_same(usual, tmp_path):
    """With another hash of strings, from another directory, with nothing traced before."""
    made = os.path.dirname(toy_detector.__file__)
    places = os.pathsep.join((made, os.path.dirname(os.path.dirname(made))))
    env = os.environ | {"PYTHONPATH": places, "PYTHONHASHSEED": "7", "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == usual


def test_the_text_names_no_place(usual):
    found = text(prepare(toy_detector, ONE))
    assert "stablehlo.convolution" in found
    assert "mhlo.num_partitions = 1" in found
    for word in ("loc(", ".py", os.sep + "tmp", "sharding"):
        assert word not in found


def a_coarser_grid(monkeypatch):
    monkeypatch.setattr(toy_detector, "ANCHORS", toy_detector.ANCHORS + np.float32(1))


def another_optimiser(monkeypatch):
    adam = toy_detector.optax.scale_by_adam
    monkeypatch.setattr(toy_detector.optax, "scale_by_adam", lambda: adam(b1=0.8))


def another_augmentation(monkeypatch):
    monkeypatch.setattr(toy_detector, "flip", lambda: brightness(0.3))


def another_activation(monkeypatch):
    monkeypatch.setattr(toy_detector.nn, "relu", jax.nn.gelu)


@pytest.mark.parametrize(
    "change", [a_coarser_grid, another_optimiser, another_augmentation, another_activation]
)
def test_code_that_changes_is_a_change(usual, monkeypatch, change):
    """A constant of 256 bytes, a number, a whole part, an operation."""
    change(monkeypatch)
    assert of(ONE) not in (usual, None)


def test_a_recipe_that_changes_is_a_change(usual):
    found = {of(replace(ONE, **change)) for change in ({"ema": 0.8}, {"warmup_steps": 5})}
    assert len({*found, usual}) == 3


@pytest.mark.usefixtures("x64")
def test_another_precision_is_a_change(usual):
    assert of(replace(ONE, dtype="float64")) not in (usual, None)


def test_what_cannot_be_traced_has_none(monkeypatch):
    prepared = prepare(toy_detector, ONE)
    monkeypatch.setattr(toy_detector, "build", lambda *args, **how: 1 / 0)
    assert digest(prepared) is None
