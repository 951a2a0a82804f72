"""The classification task on fixed logits: every number worked out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from models.classification.auxiliary import WithAuxiliary
from models.layers.input_transform import InputTransform
from train.checkpoints import Checkpoints
from train.optim import moving_average, scale_by_rate
from train.state import initial
from train.step import training_step
from train.tasks.classification import classification, summarise
from train.tasks.task import Predictions, Ratio


class Fixed(nn.Module):
    """Logits that stand in the image: (B, 1, C, 1) -> (B, C)."""

    @nn.compact
    def __call__(self, x, *, train):
        seen = self.variable("batch_stats", "seen", lambda: jnp.zeros((), jnp.int32))
        if train:
            seen.value += 1
        return x[:, 0, :, 0] * self.param("scale", nn.initializers.ones, ())


def task(classes=3, **kwargs):
    return classification(Fixed(), num_classes=classes, mean=(0.0,), std=(1.0,), **kwargs)


VARIABLES = {"params": {"scale": jnp.ones(())}, "batch_stats": {"seen": jnp.int32(0)}}
LOG2 = np.log(2)


def batch(logits, labels, valid=None):
    logits = jnp.asarray(logits, jnp.float32)
    count = len(logits)
    return {
        "image": logits[:, None, :, None],
        "label": jnp.asarray(labels),
        "valid": jnp.ones(count, bool) if valid is None else jnp.asarray(valid),
        "index": jnp.arange(count, dtype=jnp.int32),
    }


# Probabilities (1/2, 1/4, 1/4), (1/4, 1/2, 1/4), (1/4, 1/4, 1/2): losses log 2 or log 4.
LOGITS = np.log([[2.0, 1, 1], [1, 2, 1], [1, 1, 2]])


def test_loss_and_accuracy_by_hand():
    loss, aux = task().loss(VARIABLES, batch(LOGITS, [0, 1, 0]), jax.random.key(0))
    assert loss == pytest.approx((LOG2 + LOG2 + 2 * LOG2) / 3)
    np.testing.assert_allclose(aux.sums["loss"], (4 * LOG2, 3), rtol=1e-6)
    assert aux.sums["accuracy"] == Ratio(2, 3)
    assert aux.collections["batch_stats"]["seen"] == 1


def test_label_smoothing_spreads_the_target():
    # Target (0.9 + 0.1 / 3) on the label and 0.1 / 3 on each other class, Szegedy et al., eq. 8.
    loss, _ = task(label_smoothing=0.1).loss(VARIABLES, batch(LOGITS[:1], [0]), jax.random.key(0))
    assert loss == pytest.approx((0.9 + 0.1 / 3) * LOG2 + 2 * (0.1 / 3) * 2 * LOG2, rel=1e-6)


def test_a_distribution_is_a_label():
    mixed = batch(LOGITS[:1], np.array([[0.75, 0.25, 0]], np.float32))
    loss, aux = task().loss(VARIABLES, mixed, jax.random.key(0))
    assert loss == pytest.approx(0.75 * LOG2 + 0.25 * 2 * LOG2)
    assert aux.sums["accuracy"] == Ratio(1, 1)


@pytest.mark.parametrize("junk", [0.0, np.nan, np.inf])
def test_an_invalid_example_weighs_nothing(junk):
    padded = np.concatenate([LOGITS, np.full((1, 3), junk)])
    part = batch(padded, [0, 1, 0, 2], [True, True, True, False])

    def of_scale(scale):
        variables = {**VARIABLES, "params": {"scale": scale}}
        return task().loss(variables, part, jax.random.key(0))[0]

    loss, grad = jax.value_and_grad(of_scale)(jnp.float32(1))
    assert loss == pytest.approx(4 * LOG2 / 3)
    if junk == 0:
        assert np.isfinite(grad)
    sums, _ = task().measure(VARIABLES, part)
    assert sums["confusion"].sum() == 3
    np.testing.assert_allclose(sums["loss"], (4 * LOG2, 3), rtol=1e-6)


def test_an_empty_batch_has_loss_0_and_gradient_0():
    empty = batch(LOGITS, [0, 1, 2], [False] * 3)

    def of_scale(scale):
        variables = {**VARIABLES, "params": {"scale": scale}}
        return task().loss(variables, empty, jax.random.key(0))[0]

    assert jax.value_and_grad(of_scale)(jnp.float32(1)) == (0, 0)


def test_measure_counts_and_records():
    (sums, records) = task().measure(VARIABLES, batch(LOGITS, [0, 1, 0]))
    assert sums["confusion"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert "top5" not in sums
    assert records["predicted"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(records["confidence"], 0.5, rtol=1e-6)


def test_top5_where_there_are_more_than_10_classes():
    logits = np.arange(11.0)[None].repeat(3, 0)  # class 5 is the sixth of eleven
    (sums, _) = task(11).measure(VARIABLES, batch(logits, [5, 6, 10]))
    assert sums["top5"] == Ratio(2, 3)


def test_inputs_are_normalised_by_channel():
    net = classification(Fixed(), num_classes=2, mean=(10.0, 20.0), std=(2.0, 4.0))
    image = jnp.full((1, 2, 2, 2), 30, jnp.uint8)
    out = net.inputs({"image": image})
    assert out.dtype == np.float32
    assert out[0, 0, 0].tolist() == [10.0, 2.5]


def test_summary_and_its_tables():
    sums = {"loss": Ratio(6.0, 3.0), "confusion": np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]])}
    kept = [
        {"index": 0, "label": 0, "predicted": 0, "confidence": 0.9},
        {"index": 1, "label": 0, "predicted": 2, "confidence": 0.6},
        {"index": 2, "label": 1, "predicted": 0, "confidence": 0.8},
    ]
    scalars, tables = summarise(sums, kept)
    assert scalars["loss"] == 2
    assert scalars["count"] == 3
    assert scalars["accuracy"] == pytest.approx(2 / 3)
    assert [one["index"] for one in tables["mistakes"]] == [2, 1]
    assert tables["predictions"] == Predictions(
        indices=[0, 1, 2],
        columns={"truth": [0, 0, 1], "prediction": [0, 2, 0], "score": [0.9, 0.6, 0.8]},
        classes=("truth", "prediction"),
    )


def test_a_class_that_the_split_lacks_is_in_no_macro_average():
    """All is right, and of the third class there is nothing to be right about."""
    sums = {"loss": Ratio(0.0, 5.0), "confusion": np.diag([2, 3, 0])}
    scalars, _ = summarise(sums, [])
    for name in ("accuracy", "balanced_accuracy", "precision", "recall", "f1"):
        assert scalars[name] == 1, name


@pytest.mark.usefixtures("strict_dtypes")
def test_measuring_promotes_nothing():
    task(11).measure(VARIABLES, batch(np.zeros((2, 11)), np.array([0, 1], np.int32)))


@pytest.mark.parametrize("function", ["loss", "measure"])
def test_a_network_of_other_classes_is_refused(function):
    arguments = (jax.random.key(0),) if function == "loss" else ()
    with pytest.raises(AssertionError, match="4"):
        getattr(task(4), function)(VARIABLES, batch(LOGITS, [0, 1, 2]), *arguments)


# --- auxiliary heads --------------------------------------------------------------------------


class WithHeads(Fixed):
    """In training, two heads beside the main one: twice its logits, and 0."""

    @nn.compact
    def __call__(self, x, *, train):
        logits = Fixed.__call__(self, x, train=train)
        return WithAuxiliary(logits, (2 * logits, 0 * logits)) if train else logits


def with_heads(**kwargs):
    return classification(WithHeads(), num_classes=3, mean=(0.0,), std=(1.0,), **kwargs)


# Of 2 log (2, 1, 1): probabilities (4, 1, 1) / 6, and the label is the first class.
HEADS = np.log(6 / 4) + np.log(3)


@pytest.mark.parametrize(("kwargs", "weight"), [({}, 0.3), ({"auxiliary_weight": 0.4}, 0.4)])
def test_auxiliary_heads_weigh_in_training_alone(kwargs, weight):
    heads = with_heads(**kwargs)
    part = batch(np.concatenate([LOGITS[:1], LOGITS[:1]]), [0, 0], [True, False])
    loss, aux = heads.loss(VARIABLES, part, jax.random.key(0))
    assert loss == pytest.approx(LOG2 + weight * HEADS, rel=1e-6)
    np.testing.assert_allclose(aux.sums["loss"], (LOG2 + weight * HEADS, 1), rtol=1e-6)
    np.testing.assert_allclose(aux.sums["auxiliary_loss"], (HEADS, 1), rtol=1e-6)
    assert aux.sums["accuracy"] == Ratio(1, 1)
    sums, _ = heads.measure(VARIABLES, part)
    np.testing.assert_allclose(sums["loss"], (LOG2, 1), rtol=1e-6)


def test_auxiliary_targets_are_smoothed_too():
    part = batch(LOGITS[:1], [0])
    loss, aux = with_heads(label_smoothing=0.1).loss(VARIABLES, part, jax.random.key(0))
    others = np.log(6 / 4) + 0.1 * 2 / 3 * np.log(4) + np.log(3)
    assert aux.sums["auxiliary_loss"].total == pytest.approx(others, rel=1e-6)
    assert loss == pytest.approx(LOG2 + 0.1 * 2 / 3 * LOG2 + 0.3 * others, rel=1e-6)


def test_without_auxiliary_heads_nothing_is_said_of_them():
    _, aux = task(auxiliary_weight=0.4).loss(VARIABLES, batch(LOGITS, [0, 1, 0]), jax.random.key(0))
    assert aux.sums.keys() == {"loss", "accuracy"}


@pytest.mark.parametrize("weight", [-0.1, np.inf, np.nan])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match=f"auxiliary_weight={weight}"):
        task(auxiliary_weight=weight)


# --- constants among the variables ------------------------------------------------------------


class Transformed(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(3)(InputTransform(name="input")(x).mean((1, 2)))


class Repeated:
    """A loader that gives one batch again and again."""

    batch_size, length, data = 4, 4, {}

    def device(self, data, payload, seed, key):
        image = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2, 3)), jnp.float32)
        valid = jnp.ones(4, bool)
        return {"image": image, "label": jnp.arange(4, dtype=jnp.int32) % 3, "valid": valid}


def test_an_input_transform_goes_through_training_averaging_and_saving_unharmed(tmp_path):
    network = Transformed()
    fit = classification(network, num_classes=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    constants = {"scale": jnp.float32([0.458, 0.448, 1 / 3]), "shift": jnp.float32([-0.03, 0.1, 7])}

    def init(key):
        made = network.init(key, jnp.zeros((1, 2, 2, 3)), train=False)
        return {**made, "input_transform": {"input": constants}}

    def optimizer(hyper):
        decay = optax.add_decayed_weights(0.1)
        return optax.chain(decay, optax.trace(0.9), scale_by_rate(lambda step: 1.0, hyper["rate"]))

    state = initial(init, optimizer, {"rate": 0.1}, 0, averaged=True)
    first = state.params
    step = jax.jit(training_step(fit, optimizer, Repeated(), average=moving_average(0.97)))
    for _ in range(20):
        state, sums = step(state, {}, {})
    assert sums["nonfinite"] == 0
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(20, state, state.evaluated)
    with Checkpoints(tmp_path) as checkpoints:
        variables = checkpoints.restore_variables(state.evaluated)
        restored = checkpoints.restore(state).state
    for found in (state.collections, state.ema, variables, restored.collections, restored.ema):
        for name, value in constants.items():
            np.testing.assert_array_equal(found["input_transform"]["input"][name], value)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), first, state.ema["params"])
    assert all(jax.tree.leaves(moved))
