"""Fine-tuning: what moves, what stays, and what a run starts from."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.finetune import Weights, begun, bias_rate, check_backbone, frozen, rates, scaled
from train.optim import kernels
from train.refusal import Refused
from train.state import initial

PARAMS = {
    "backbone": {
        "stem": {"kernel": jnp.full((2, 3), 2.0)},
        "stage1_block1": {"kernel": jnp.full((3, 3), 3.0), "bias": jnp.ones(3)},
        "stage1_block10": {"kernel": jnp.full((3, 3), 3.0)},
    },
    "head": {"kernel": jnp.full((3, 4), 1.0), "bias": jnp.zeros(4)},
}


def updates(optimizer, grads=None):
    """Of a first step; by default with gradients of 1."""
    grads = jax.tree.map(jnp.ones_like, PARAMS) if grads is None else grads
    return jax.jit(optimizer.update)(grads, optimizer.init(PARAMS), PARAMS)[0]


def leaves(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.unique(leaf).item()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_what_is_frozen_neither_moves_nor_decays_nor_counts_in_the_norm():
    inner = optax.chain(
        optax.clip_by_global_norm(1.0), optax.add_decayed_weights(0.5, kernels), optax.sgd(1.0)
    )
    found = leaves(updates(frozen(inner, ["backbone/stem", "backbone/stage1_block1"])))
    moved = 1 / np.sqrt(9 + 12 + 4)  # of 25 gradients that are left
    expected = {
        "backbone/stem/kernel": 0,
        "backbone/stage1_block1/kernel": 0,
        "backbone/stage1_block1/bias": 0,
        "backbone/stage1_block10/kernel": -(moved + 0.5 * 3),
        "head/kernel": -(moved + 0.5),
        "head/bias": -moved,
    }
    assert found == pytest.approx(expected)


def test_all_may_be_frozen():
    found = leaves(updates(frozen(optax.chain(optax.sgd(1.0)), ["all"])))
    assert set(found.values()) == {0}


def test_nothing_frozen_is_the_optimiser_itself():
    inner = optax.sgd(1.0)
    assert frozen(inner, []) is inner


def test_the_longest_prefix_gives_the_rate():
    found = leaves(updates(rates({"backbone": 0.5, "backbone/stem": 0.25})))
    assert found["backbone/stem/kernel"] == 0.25
    assert found["backbone/stage1_block1/bias"] == 0.5
    assert found["head/kernel"] == 1


def test_biases_have_a_rate_of_their_own():
    """Of layers with a kernel: the shift of a normalisation is no bias in this sense."""
    params = {
        "stem": {"conv": {"kernel": jnp.ones((2, 2))}, "norm": {"scale": jnp.ones(2)}},
        "head": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2, jnp.bfloat16)},
    }
    params["stem"]["norm"]["bias"] = jnp.ones(2)
    optimizer = bias_rate(2.0)
    found = optimizer.update(params, optimizer.init(params), params)[0]
    assert leaves(found) == {
        "stem/conv/kernel": 1,
        "stem/norm/scale": 1,
        "stem/norm/bias": 1,
        "head/kernel": 1,
        "head/bias": 2,
    }
    assert found["head"]["bias"].dtype == jnp.bfloat16


def test_factors_of_one_change_nothing():
    rate = optax.scale(-1.0)
    assert scaled(rate, {"backbone": 1.0}) is rate
    found = leaves(updates(scaled(rate, {"backbone": 0.5}, 2.0)))
    assert found["backbone/stem/kernel"] == -0.5
    assert found["backbone/stage1_block1/bias"] == -1  # both factors
    assert found["head/bias"] == -2
    assert found["head/kernel"] == -1


@pytest.mark.parametrize("make", [lambda p: frozen(optax.sgd(1.0), [p]), lambda p: rates({p: 1})])
@pytest.mark.parametrize("prefix", ["backbone/stage1", "stem", "head/kernels"])
def test_a_prefix_of_nothing_is_refused(make, prefix):
    words = f"no parameter is under '{prefix}'; there are .*backbone/stem, head/bias"
    with pytest.raises(Refused, match=words):
        make(prefix).init(PARAMS)


def test_frozen_parameters_have_no_momentum():
    state = frozen(optax.sgd(1.0, momentum=0.9), ["backbone"]).init(PARAMS)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 16


# --- starting from weights ---------------------------------------------------------------------


def variables(classes=4, value=0.0, **parts):
    dense = {"kernel": np.full((3, classes), value, np.float64), "bias": np.full(classes, value)}
    return {
        "params": {"backbone": {"kernel": np.full((2, 3), value)}, "head": dense, **parts},
        "batch_stats": {"backbone": {"mean": np.full(3, value)}},
    }


def first(averaged=False, **parts):
    def init(key):
        del key
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables(**parts))

    return initial(init, lambda hyper: optax.sgd(1.0), {}, 0, averaged=averaged)


def test_weights_replace_the_random_ones_and_their_average():
    weights = Weights(variables(value=7.0), said=["from a file"])
    state, said = begun(first(averaged=True), weights)
    assert said == ["from a file"]
    for tree in (state.variables, state.ema):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(tree)} == {"float32"}
        jax.tree.map(np.testing.assert_array_equal, tree, variables(value=7.0))
    shared = {id(leaf) for leaf in jax.tree.leaves(state.variables)}
    assert not shared & {id(leaf) for leaf in jax.tree.leaves(state.ema)}


def test_another_number_of_classes_starts_the_head_anew_as_a_whole():
    # Of a bias that fits by chance nothing is taken either.
    weights = variables(classes=9, value=7.0)
    weights["params"]["head"]["bias"] = np.full(4, 7.0)
    state, said = begun(first(), Weights(weights))
    assert said == ["Starts anew, being of another shape or absent: head."]
    assert leaves(state.params) == {"backbone/kernel": 7, "head/kernel": 0, "head/bias": 0}
    assert leaves(state.collections) == {"batch_stats/backbone/mean": 7}


def test_auxiliary_heads_may_be_absent_on_either_side():
    extra = {"kernel": np.zeros((3, 4))}
    state, said = begun(first(aux1=extra), Weights(variables(value=7.0)))
    assert said == ["Starts anew, being of another shape or absent: aux1."]
    assert leaves(state.params)["head/kernel"] == 7
    state, said = begun(first(), Weights(variables(value=7.0, aux1=extra)))
    assert said == []
    assert "aux1" not in state.params


def test_of_an_auxiliary_head_only_the_layer_that_differs_starts_anew():
    weights = variables(
        value=7.0, aux1={"conv": {"kernel": np.full((2, 2), 7.0)}, "fc": {"bias": np.zeros(9)}}
    )
    mine = {"conv": {"kernel": np.zeros((2, 2))}, "fc": {"bias": np.zeros(4)}}
    state, said = begun(first(aux1=mine), Weights(weights))
    assert said == ["Starts anew, being of another shape or absent: aux1/fc."]
    assert leaves(state.params["aux1"]) == {"conv/kernel": 7, "fc/bias": 0}


def test_a_part_that_starts_anew_as_a_whole_is_named_once():
    one = {"kernel": np.zeros((2, 2))}
    mine = {"neck": {"a": one, "b": {"c": one, "d": one}}, "roi": {"hidden": one, "last": one}}
    theirs = {"roi": {"hidden": one}, "neck": {"a": one}}
    _, said = begun(first(**mine), Weights(variables(value=7.0)))
    assert said == ["Starts anew, being of another shape or absent: neck, roi."]
    _, said = begun(first(**mine), Weights(variables(value=7.0, **theirs)))
    assert said == ["Starts anew, being of another shape or absent: neck/b, roi/last."]


def test_a_layer_that_is_named_starts_anew_although_it_fits():
    state, said = begun(first(), Weights(variables(value=7.0), anew=frozenset(["head"])))
    assert said == ["Starts anew, being of other classes: head."]
    assert leaves(state.params) == {"backbone/kernel": 7, "head/kernel": 0, "head/bias": 0}


def test_another_backbone_is_refused_with_what_differs():
    weights = variables()
    weights["params"]["backbone"] = {"kernel": np.zeros((2, 5)), "deeper": np.zeros(6)}
    del weights["batch_stats"]["backbone"]["mean"]
    words = (
        "batch_stats/backbone/mean: absent in the weights, (3,) in the network; "
        "params/backbone/deeper: (6,) in the weights, absent in the network; "
        "params/backbone/kernel: (2, 5) in the weights, (2, 3) in the network"
    )
    with pytest.raises(Refused) as caught:
        check_backbone(variables(), weights)
    head, _, listed = str(caught.value).partition(" differ: ")
    assert head == "init_from: the weights are of another network: of 3 arrays 3"
    assert listed == words


def test_of_very_different_backbones_a_few_arrays_are_shown():
    weights = variables()
    weights["params"]["backbone"] = {f"layer{i}": {"kernel": np.zeros(1)} for i in range(300)}
    with pytest.raises(Refused, match=r"of 302 arrays 301 differ: .*; and 296 more$") as caught:
        check_backbone(variables(), weights)
    assert len(str(caught.value)) < 600


def test_a_network_without_a_backbone_is_the_same_but_for_its_heads():
    mine = {"params": {"down": {"kernel": np.zeros((2, 3))}, "head": {"bias": np.zeros(4)}}}
    other = {"params": {"down": {"kernel": np.zeros((2, 3))}, "head": {"bias": np.zeros(5)}}}
    extra = {"params": {**other["params"], "aux2": {"bias": np.zeros(5)}}}
    for weights in (other, extra):
        check_backbone(mine, weights, {"head"})
    deeper = {"params": {**other["params"], "down2": {"bias": np.zeros(5)}}}
    with pytest.raises(Refused, match=r"of 2 arrays 1 differ: params/down2/bias: \(5,\)"):
        check_backbone(mine, deeper, {"head"})


def test_of_many_names_the_nearest_are_listed():
    blocks = {f"stage{i}_block{j}": jnp.zeros(1) for i in range(1, 5) for j in range(1, 20)}
    with pytest.raises(Refused, match=r"there are .*backbone/stage3_block1, .*\.\.\.") as caught:
        frozen(optax.sgd(1.0), ["backbone/stage3_blok1"]).init({"backbone": blocks})
    assert len(str(caught.value)) < 400
