"""How parameters move by a recipe: against a chain of optax made by hand, and numbers by hand."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train import encoding, optim
from train.data.source import About
from train.refusal import Refused
from train.step import gradient
from train.tasks.task import Aux
from train.trained import FineTuned, Trained, descent

REQUIRED = {"data": "d", "model": "m", "steps": 10, "batch_size": 4, "evaluate_every": 5}
SGD = partial(optim.sgd, momentum=0.9)


def recipe(kind=Trained, **fields):
    return kind(**REQUIRED | {"learning_rate": 0.5} | fields)


def constant(step):
    return jnp.float32(1)


RNG = np.random.default_rng(0)


def drawn():
    """A network of a backbone and a head, each a kernel and a bias."""
    return {
        part: {
            "kernel": jnp.float32(RNG.normal(size=(3, 2))),
            "bias": jnp.float32(RNG.normal(size=2)),
        }
        for part in ("backbone", "head")
    }


PARAMS, GRADIENTS = drawn(), [drawn() for _ in range(10)]


def walk(transform, gradients=GRADIENTS, params=PARAMS):
    """The parameters after each update."""

    @jax.jit
    def move(params, state, grads):
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state, path = transform.init(params), []
    for grads in gradients:
        params, state = move(params, state, grads)
        path.append(params)
    return path


def same(a, b):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a, b)


def optimizer(config, rule=SGD, schedule=constant, **how):
    parts = descent(config, rule, schedule, **how)
    return parts["optimizer"](parts["hyper"])


def test_sgd_is_the_chain_of_optax_made_by_hand():
    config = recipe(warmup_steps=4, weight_decay=0.1, clip_norm=1.0)
    mask = {part: {"kernel": True, "bias": False} for part in PARAMS}

    def rate(k):  # half a cosine over ten steps, times a ramp over four
        return 0.5 * jnp.minimum(1, (k + 1) / 4) * 0.5 * (1 + jnp.cos(jnp.pi * k / 10))

    by_hand = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.add_decayed_weights(0.1, mask=mask),
        optax.sgd(rate, momentum=0.9),
    )
    same(walk(optimizer(config, schedule=optim.cosine(10))), walk(by_hand))


def test_one_update_by_hand():
    config = recipe(weight_decay=0.1, clip_norm=1.0, warmup_steps=2)
    params = {"kernel": jnp.float32([[10.0]]), "bias": jnp.float32([10.0])}
    grads = {"kernel": jnp.float32([[3.0]]), "bias": jnp.float32([4.0])}  # a norm of 5
    (after,) = walk(optimizer(config), [grads], params)
    # A rate of 0.5 * 1/2; the gradient clipped to 3/5 and 4/5; of the kernel, a tenth of it added.
    assert after["kernel"] == pytest.approx(10 - 0.25 * (0.6 + 1.0))
    assert after["bias"] == pytest.approx(10 - 0.25 * 0.8)


def test_without_clipping_a_gradient_is_taken_as_it_is():
    (after,) = walk(optimizer(recipe()), [{"w": jnp.float32([300.0])}], {"w": jnp.float32([0.0])})
    assert after["w"] == pytest.approx(-150)


def test_rate_and_decay_are_those_of_the_state():
    """Runs of several rates share one program: nothing of the recipe's is closed over."""
    parts = descent(recipe(weight_decay=0.1), SGD, constant)
    assert parts["hyper"] == {"learning_rate": 0.5, "weight_decay": 0.1}
    other = parts["optimizer"]({"learning_rate": 0.25, "weight_decay": 0.0})
    same(walk(other), walk(optimizer(recipe(learning_rate=0.25))))


def test_the_rate_that_was_used_is_kept_for_the_log():
    transform = optimizer(recipe(warmup_steps=4))
    state = transform.init(PARAMS)
    _, state = transform.update(GRADIENTS[0], state, PARAMS)
    assert optax.tree.get(state, "learning_rate") == pytest.approx(0.125)


def test_what_scales_by_the_rate_may_be_changed():
    half = optimizer(recipe(), scaled=lambda rate: optax.chain(rate, optax.scale(0.5)))
    same(walk(half), walk(optimizer(recipe(learning_rate=0.25))))


def test_frozen_paths_stay_and_the_others_move_as_if_alone():
    config = recipe(FineTuned, weight_decay=0.1, clip_norm=1.0)
    path = walk(optimizer(dataclasses.replace(config, freeze="backbone")))
    for params in path:
        jax.tree.map(np.testing.assert_array_equal, params["backbone"], PARAMS["backbone"])
    heads = [{"head": grads["head"]} for grads in GRADIENTS]
    alone = walk(optimizer(config), heads, {"head": PARAMS["head"]})
    same([{"head": params["head"]} for params in path], alone)


def test_a_frozen_path_of_no_parameter_is_refused():
    with pytest.raises(Refused, match="no parameter is under 'backbone/steam'"):
        optimizer(recipe(FineTuned, freeze="backbone/steam")).init(PARAMS)


def test_averages_are_absent_without_a_decay():
    assert descent(recipe(), SGD, constant)["average"] is None
    average = descent(recipe(ema=0.5), SGD, constant)["average"]
    # Late in a run the decay is the recipe's.
    assert average({"w": jnp.float32(0)}, {"w": jnp.float32(8)}, jnp.int32(1000))["w"] == 4


def test_slices_of_a_batch_are_taken_where_the_recipe_accumulates():
    assert descent(recipe(), SGD, constant)["gradient"] is gradient

    def total(variables, batch, key):
        return (variables["params"]["w"] * batch["x"]).sum(), Aux({}, {})

    of_loss = descent(recipe(accumulation=2), SGD, constant)["gradient"](total)
    _, grads = of_loss({"w": jnp.float32(1)}, {}, {"x": jnp.arange(4.0)}, jax.random.key(0))
    assert grads["w"] == ((0 + 2) + (1 + 3)) / 2  # the mean of two slices' sums, not 6


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
        ({"warmup_steps": -1}, "warmup_steps=-1 must not be below 0"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 must not be below 0"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0 must not be below 0"),
        ({"ema": 1.0}, "ema=1.0 must lie in"),
        ({"validation": 1.0}, "validation=1.0 must lie in"),
        ({"steps": 0}, "steps=0 must be above 0"),
    ],
)
def test_a_recipe_out_of_bounds_is_refused(fields, said):
    for kind in (Trained, FineTuned):
        with pytest.raises(Refused, match=f"^{said}"):
            recipe(kind, **fields)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", []),
        ("backbone", ["backbone"]),
        ("backbone/stem, head,", ["backbone/stem", "head"]),
        (" , ", []),
    ],
)
def test_what_is_frozen_is_read_between_commas(text, paths):
    assert recipe(FineTuned, freeze=text).frozen == paths


ABOUT = About("toy", "train", ("a", "b"), mirror=None)


@pytest.mark.parametrize(
    ("steps", "warmup"), [(4, 0), (10, 2), (100, 20), (250, 50), (1000, 50), (4000, 200)]
)
def test_an_open_warm_up_is_a_share_of_the_steps(steps, warmup):
    config = recipe(steps=steps, warmup_steps=None)
    assert config.undecided == {"epochs", "warmup_steps"}
    found = config.settled(ABOUT, 40, 1)
    assert found == {"warmup_steps": warmup}
    dataclasses.replace(config, **found).check_new()


def test_a_warm_up_that_does_not_end_is_refused():
    recipe(warmup_steps=9).check_new()
    for warmup in (10, 500):
        said = rf"^warmup_steps={warmup} is not shorter than steps=10: .*; --warmup-steps 0"
        with pytest.raises(Refused, match=said):
            recipe(warmup_steps=warmup).check_new()


@pytest.mark.parametrize(
    ("mirror", "judged", "settled"),
    [
        ("auto", True, "yes"), ("auto", None, "yes"), ("auto", False, "no"),
        ("yes", False, "yes"), ("no", True, "no"), (True, None, True), (False, True, False),
    ],
)  # fmt: skip
def test_what_is_mirrored_is_settled_by_what_somebody_has_judged(mirror, judged, settled):
    about = dataclasses.replace(ABOUT, mirror=judged)
    config = recipe(FineTuned, mirror=mirror)
    found = dataclasses.replace(config, **config.settled(about, 40, 1))
    assert found.mirror == settled
    assert found.mirrors(about) == config.mirrors(about) == (settled == "yes")


@pytest.mark.parametrize("mirror", [True, False, "yes", "no", "auto"])
def test_a_run_of_before_has_its_mirror_back(mirror):
    """True then meant: where somebody has judged that it may."""
    values = encoding.plain(recipe(FineTuned, mirror=mirror))
    again = encoding.decoded(FineTuned, values)
    assert again.mirror is mirror if isinstance(mirror, bool) else again.mirror == mirror
    assert again.mirrors(dataclasses.replace(ABOUT, mirror=True)) == (mirror not in (False, "no"))
    assert again.mirrors(ABOUT) == (mirror in ("yes", "auto"))
