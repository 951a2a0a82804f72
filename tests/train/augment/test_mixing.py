"""Mixing: whose share each place and each label is."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import Mixing, chain, cutmix, mixup
from train.augment.mixing import UNMIXABLE, mixed, patched
from train.tasks.classification import classification

SIZE, CLASSES = 6, 4


def batch_of(size=SIZE, shape=(5, 7, 3), dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (size, *shape)), dtype),
        "label": jnp.asarray(rng.integers(0, CLASSES, size), jnp.int32),
        "index": jnp.arange(size, dtype=jnp.int32) + 40,
    }


def given(share, num_classes=CLASSES):
    return Mixing(lambda key, batch: jnp.asarray(share, jnp.float32), num_classes)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_places_and_labels_are_blended_with_the_example_before(dtype):
    batch = batch_of(dtype=dtype)
    share = np.random.default_rng(1).uniform(size=(SIZE, 5, 7))
    after = jax.jit(lambda batch: mixed(given(share), jax.random.key(0), batch))(batch)
    assert after["image"].dtype == after["label"].dtype == jnp.float32
    for i in range(SIZE):
        own, other = (np.float64(batch["image"][n]) for n in (i, i - 1))
        expected = share[i][..., None] * own + (1 - share[i][..., None]) * other
        np.testing.assert_allclose(after["image"][i], expected, rtol=1e-5)
        weight, label = share[i].mean(), np.zeros(CLASSES)
        label[batch["label"][i]] += weight
        label[batch["label"][i - 1]] += 1 - weight
        np.testing.assert_allclose(after["label"][i], label, atol=1e-6)
    np.testing.assert_array_equal(after["index"], batch["index"])


def test_cutmix_weighs_the_patch_that_is_inside():
    """32x32, side 22 about (0, 0): 11x11 are inside."""
    corner, side = jnp.zeros((2, 2), jnp.int32), jnp.full((2, 2), 22, jnp.int32)
    share = jax.jit(lambda *at: patched((32, 32), *at))(corner, side)
    batch = batch_of(2, (32, 32, 1))
    batch["label"] = jnp.array([1, 3], jnp.int32)
    after = jax.jit(lambda batch: mixed(given(share), jax.random.key(0), batch))(batch)
    own = 1 - 121 / 1024
    assert after["label"].tolist() == [[0, own, 0, 1 - own], [0, 1 - own, 0, own]]
    expected = np.float32(batch["image"])
    expected[:, :11, :11] = expected[::-1, :11, :11].copy()
    np.testing.assert_array_equal(after["image"], expected)


def test_cutmix_shares_are_of_the_images_shape():
    size = 2000
    batch = {"image": jax.ShapeDtypeStruct((size, 20, 40, 3), jnp.uint8)}
    share = np.asarray(jax.jit(lambda key: cutmix(1.0, 9).share(key, batch))(jax.random.key(0)))
    assert share.shape == (size, 20, 40)
    assert set(np.unique(share)) == {0, 1}
    hidden = share == 0
    height, width = hidden.any(2).sum(1), hidden.any(1).sum(1)
    np.testing.assert_array_equal(hidden.sum((1, 2)), height * width)
    # Those that the border has not cut: 2 h <= w <= 2 h + 1, and h / 20 is the root of a uniform.
    centred = hidden[:, 0].any(1) | hidden[:, -1].any(1) | hidden[:, :, 0].any(1)
    whole = ~(centred | hidden[:, :, -1].any(1)) & (height > 0)
    assert whole.sum() > 100
    np.testing.assert_array_equal(width[whole] // 2, height[whole])
    # The own share of the labels, by its definition over centres and areas, in NumPy.
    rng = np.random.default_rng(0)
    side = np.sqrt(1 - rng.beta(1, 1, size))
    weights = []
    for ratio, y, x in zip(side, rng.integers(0, 20, size), rng.integers(0, 40, size), strict=True):
        h, w = int(20 * ratio), int(40 * ratio)
        top, left = y - h // 2, x - w // 2
        tall = min(top + h, 20) - max(top, 0)
        weights.append(1 - tall * (min(left + w, 40) - max(left, 0)) / 800)
    assert scipy.stats.ks_2samp(share.mean((1, 2)), weights).pvalue > 1e-3


@pytest.mark.parametrize("alpha", [0.3, 1.0, 20.0])
def test_mixup_shares_are_beta(alpha):
    batch = {"image": jax.ShapeDtypeStruct((3000, 2, 1, 1), jnp.uint8)}
    share = np.asarray(jax.jit(lambda key: mixup(alpha, 9).share(key, batch))(jax.random.key(1)))
    assert share.shape == (3000, 2, 1)
    np.testing.assert_array_equal(share[:, 0], share[:, 1])
    share = share[:, 0, 0]
    # By halves: float32 tells shares apart near 0 that it does not near 1.
    beta = scipy.stats.beta(alpha, alpha)
    below, above = share[share < 0.5], share[share > 0.5]
    assert scipy.stats.binomtest(len(below), len(below) + len(above)).pvalue > 1e-3
    assert scipy.stats.kstest(below, lambda x: 2 * beta.cdf(x)).pvalue > 1e-3
    assert scipy.stats.kstest((1 - above).clip(1e-6), lambda x: 2 * beta.cdf(x)).pvalue > 1e-3


@pytest.mark.parametrize("stage", [mixup(0.4, CLASSES), cutmix(1.0, CLASSES)], ids=["up", "cut"])
@pytest.mark.parametrize("size", [1, 5])
def test_labels_are_distributions(stage, size):
    batch = batch_of(size)
    after = jax.jit(chain(stage))(jax.random.key(0), batch)
    np.testing.assert_allclose(after["label"].sum(1), 1, atol=1e-6)
    if size == 1:
        np.testing.assert_allclose(after["image"], batch["image"], rtol=1e-6)
        np.testing.assert_allclose(after["label"], np.eye(CLASSES)[batch["label"]], rtol=1e-6)


def test_signals_are_mixed():
    signal = np.random.default_rng(0).normal(size=(4, 30, 2)).astype(np.float32)
    batch = {"signal": jnp.asarray(signal), "label": jnp.arange(4, dtype=jnp.int32)}
    after = jax.jit(chain(cutmix(1.0, 4)))(jax.random.key(0), batch)
    own = (np.asarray(after["signal"]) == signal).all(2)
    before = np.roll(signal, 1, axis=0)
    np.testing.assert_array_equal(np.asarray(after["signal"])[~own], before[~own])
    np.testing.assert_allclose(np.diag(after["label"]), own.mean(1), atol=1e-6)
    assert 0 < own.mean() < 1


def test_mixtures_are_mixed_again():
    """Labels that are distributions already stay such; both ways of writing a label agree."""
    batch, key = batch_of(), jax.random.key(0)
    written = {**batch, "label": jax.nn.one_hot(batch["label"], CLASSES, dtype=jnp.float32)}
    stage = given(np.full((SIZE, 5, 7), 0.75))
    mix = jax.jit(lambda batch: mixed(stage, key, batch))
    once, same = mix(batch), mix(written)
    np.testing.assert_array_equal(once["label"], same["label"])
    twice = mix(once)["label"]
    labels = np.eye(CLASSES)[batch["label"]]
    expected = sum(w * np.roll(labels, n, 0) for n, w in enumerate((9 / 16, 6 / 16, 1 / 16)))
    np.testing.assert_allclose(twice, expected, atol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_labels(label_smoothing):
    """Cross-entropy with a mixture is the mixture of cross-entropies (smoothing is linear too)."""

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return nn.Dense(CLASSES)(x.reshape(len(x), -1))

    task = classification(
        Linear(), num_classes=CLASSES, mean=(0,), std=(255,), label_smoothing=label_smoothing
    )
    batch = {**batch_of(2, (2, 2, 1)), "valid": jnp.array([True, True])}
    batch["label"] = jnp.array([1, 3], jnp.int32)
    variables = Linear().init(jax.random.key(0), jnp.zeros((2, 2, 2, 1)), train=False)

    def loss(labels):
        labels = jnp.asarray(labels)
        return task.loss(variables, {**batch, "label": labels}, jax.random.key(0))

    own, other = (loss(jnp.array(pair, jnp.int32))[0] for pair in ([1, 3], [3, 1]))
    label = mixed(given(np.full((2, 2, 2), 0.7)), jax.random.key(0), batch)["label"]
    value, aux = loss(label)
    np.testing.assert_allclose(value, 0.7 * own + 0.3 * other, rtol=1e-5)
    assert aux.sums["accuracy"].total == loss(batch["label"])[1].sums["accuracy"].total


@pytest.mark.parametrize("name", UNMIXABLE)
def test_what_is_where_is_refused(name):
    batch = {**batch_of(), name: jnp.zeros((SIZE, 1, 4), jnp.float32)}
    with pytest.raises(ValueError, match=f"'{name}' in the batch"):
        jax.eval_shape(chain(mixup(1.0, CLASSES)), jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": None}, "no 'label'"),
        ({"label": jnp.zeros((SIZE, 3))}, r"label is float32\(6, 3\)"),
        ({"label": jnp.zeros(SIZE)}, r"label is float32\(6,\)"),
        ({"signal": jnp.zeros((SIZE, 3, 1))}, "'image' and 'signal'"),
        ({"image": jnp.zeros((SIZE, 3, 3))}, r"image has shape \(6, 3, 3\)"),
        ({"image": None}, "neither 'image' nor 'signal'"),
    ],
)
def test_refused_where_the_batch_is_seen(change, message):
    batch = {key: value for key, value in (batch_of() | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(chain(mixup(1.0, CLASSES)), jax.random.key(0), batch)


def test_a_share_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"share has shape \(6, 5, 1\)"):
        mixed(given(np.ones((6, 5, 1))), jax.random.key(0), batch_of())


@pytest.mark.parametrize(
    ("alpha", "num_classes", "message"),
    [
        (0, 3, "alpha=0"),
        (-1, 3, "alpha=-1"),
        (float("inf"), 3, "alpha=inf"),
        (1, 0, "num_classes=0"),
    ],
)
@pytest.mark.parametrize("stage", [mixup, cutmix])
def test_refused_at_construction(stage, alpha, num_classes, message):
    with pytest.raises(ValueError, match=message):
        stage(alpha, num_classes)
