"""Noise: its distribution, on images and on signals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from train.augment import channel_noise, gaussian_noise


def grey(size, height, width, channels, value=128):
    return {"image": jnp.full((size, height, width, channels), value, jnp.uint8)}


def test_noise_is_normal_and_of_each_value():
    after = jax.jit(gaussian_noise(5.0))(jax.random.key(0), grey(20, 10, 10, 3))["image"]
    noise = np.asarray(after) - 128
    assert scipy.stats.kstest(noise.ravel(), scipy.stats.norm(0, 5).cdf).pvalue > 1e-3
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_each_example_has_its_own_sigma():
    after = jax.jit(gaussian_noise((0, 10)))(jax.random.key(1), grey(100, 16, 16, 3))["image"]
    deviations = np.std(np.asarray(after), axis=(1, 2, 3))
    assert scipy.stats.kstest(deviations, scipy.stats.uniform(0, 10).cdf).pvalue > 1e-3


def test_an_image_is_clipped_and_a_signal_is_not():
    after = jax.jit(gaussian_noise(50))(jax.random.key(0), grey(2, 20, 20, 1, value=255))["image"]
    assert np.mean(np.asarray(after) == 255) == pytest.approx(0.5, abs=0.1)
    signal = {"signal": jnp.full((2, 500, 2), -3.0, jnp.float32)}
    after = jax.jit(gaussian_noise(0.5))(jax.random.key(0), signal)["signal"]
    assert scipy.stats.kstest(np.ravel(after), scipy.stats.norm(-3, 0.5).cdf).pvalue > 1e-3


def varied(gain, offset, batch):
    return jax.jit(channel_noise(gain, offset))(jax.random.key(0), batch)["image"]


def test_channels_vary_by_themselves():
    batch = {"image": jnp.broadcast_to(jnp.array([50, 100], jnp.uint8), (300, 2, 1, 2))}
    after = np.asarray(varied(0.2, (0, 9), batch))
    np.testing.assert_array_equal(after[:, 0], after[:, 1])
    first, second = after[:, 0, 0].T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2
    assert 40 <= first.min() < 43
    assert 66 < first.max() <= 69
    assert 80 <= second.min() < 84
    assert 125 < second.max() <= 129
    dark = varied((0, 0), (-90, -60), batch)
    assert not dark[..., 0].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian_noise(-1), "sigma=-1"),
        (lambda: gaussian_noise((3, 2)), r"sigma=\(3, 2\)"),
        (lambda: channel_noise(gain=-1), "gain=-1"),
        (lambda: channel_noise(offset=(1, 0)), "offset="),
    ],
)
def test_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_nothing_to_change_is_refused():
    with pytest.raises(ValueError, match=r"only \['label'\]"):
        gaussian_noise(1)(jax.random.key(0), {"label": jnp.zeros(2, jnp.int32)})
