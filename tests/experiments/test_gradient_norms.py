"""Gradient norms at initialisation: against a gradient by hand, and what is written of them."""

import csv
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import ablation_nets, gradient_norms
from experiments.gradient_norms import Config, Norms
from train.data.source import About
from train.refusal import Refused

ABOUT = About(
    "drawn", "train", ("a", "b", "c"), mirror=None, shape=(8, 8, 1), mean=(100.0,), std=(50.0,)
)
SMALL = {"model": "resnet20", "stages": (1, 1, 1), "channels": (16, 4, 4)}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (4, 8, 8, 1)), jnp.uint8),
        "label": jnp.asarray([0, 1, 2, 1], jnp.int32),
        "valid": jnp.ones(4, bool),
    }


def test_the_heads_is_that_of_a_softmax_and_layers_come_in_their_order(batch):
    config = dataclasses.replace(ablation_nets.recipe("digits"), **SMALL, shortcut="none")
    parts = ablation_nets.build(config, ABOUT)
    found = gradient_norms.gradient_norms(parts, batch, seed=3)
    blocks = [f"stage{n}_block1/conv{i}" for n in (1, 2, 3) for i in (1, 2)]
    assert [*found] == [f"backbone/{one}" for one in ("stem/conv", *blocks)] + ["head"]
    assert min(found.values()) > 0

    x = parts.task.inputs(batch)
    variables = parts.network.init(jax.random.key(3), x, train=False)
    inner = {name: one["backbone"] for name, one in variables.items()}
    maps, _ = parts.network.backbone.apply(inner, x, train=True, mutable=["batch_stats"])
    hidden = np.asarray(maps[-1]).mean((1, 2))
    head = jax.device_get(variables["params"]["head"])
    odds = np.exp(hidden @ head["kernel"] + head["bias"])
    wrong = odds / odds.sum(1, keepdims=True)
    wrong[np.arange(4), batch["label"]] -= 1
    expected = np.linalg.norm(hidden.T @ wrong / 4)
    assert found["head"] == pytest.approx(expected, rel=1e-4)


NORMS = [
    Norms(network, depth, ("a", "b", "c"), np.array([[1.0, 2, 4], [4, 2, 1]]) * (number + 1))
    for depth in (20, 110)
    for number, network in enumerate(gradient_norms.NETWORKS)
]


def test_the_mean_over_seeds_is_geometric():
    np.testing.assert_allclose(NORMS[0].middle, [2, 2, 2])
    skewed = Norms("plain", 20, ("a", "b", "c"), np.array([[1.0, 100, 7]]))
    assert skewed.ratio == pytest.approx(0.01)


def test_what_is_written():
    lines = list(csv.DictReader(gradient_norms.as_csv(NORMS).splitlines()))
    assert len(lines) == 2 * 4 * 2 * 3
    assert lines[4] == {
        "depth": "20",
        "network": "plain",
        "layer": "2",
        "path": "b",
        "seed": "1",
        "norm": "2",
    }
    table = gradient_norms.as_markdown(NORMS).splitlines()
    assert table[2] == "| 20 | plain | 2 | 2 | 2 | 2 | 1 | 1 |"
    assert len(table) == 2 + 8


@pytest.mark.parametrize("depths", [(20,), (20, 110)])
def test_a_panel_a_depth_and_a_line_a_network(depths):
    drawn = gradient_norms.draw([one for one in NORMS if one.depth in depths])
    assert [axes.get_title() for axes in drawn.axes] == [f"{depth} layers" for depth in depths]
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [*gradient_norms.NETWORKS]
    assert {axes.get_yscale() for axes in drawn.axes} == {"log"}


def test_other_depths_are_refused(tmp_path):
    with pytest.raises(Refused, match=r"depths=\(20, 21\): .* of 20, 32, 44, 56, 110 layers"):
        Config(workdir=tmp_path, depths=(20, 21))
