"""Noise: an error in each value, or in each channel as a whole."""

import jax
import jax.numpy as jnp

from train.augment.amounts import Span, clipped, factors, image_of, real, rows, span
from train.augment.kinds import Pixel
from train.augment.ranges import Range, drawn, limits
from train.augment.signals import silent
from train.data.batch import Batch


def gaussian_noise(sigma: Span) -> Pixel:
    """Plus normal noise, a value of its own for each value of an image, else of a `signal`.

    An image is clipped to 0..255, a signal is not; its padding stays 0.

    Args:
        sigma: standard deviation, or (low, high) from which an example's is drawn: in pixels
            0..255, or in the unit of the signal.

    Raises:
        ValueError: `sigma` is no number and no range from 0 on; once traced, there is neither an
            image nor a signal.
    """
    low, high = span("sigma", sigma, 0)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        name = "signal" if "signal" in batch and "image" not in batch else "image"
        x = batch["signal"] if name == "signal" else real(image_of(batch))
        for_sigma, for_values = jax.random.split(key)
        (deviation,) = drawn(for_sigma, x.shape[0], (low, high))
        noise = jax.random.normal(for_values, x.shape, jnp.float32).astype(x.dtype)
        noisy = x + rows(deviation, x) * noise
        return {**batch, name: clipped(noisy) if name == "image" else silent(noisy, batch)}

    return apply


def channel_noise(gain: Span = 0.1, offset: Range = 0.0) -> Pixel:
    """Each channel times a gain and plus an offset of its own: another lamp, another sensor.

    Krizhevsky et al. 2012, section 4.1, add such an offset to the channels together, along the
    principal components of one set's colours; here the channels vary by themselves, whatever the
    set and however many they are. Clipped to 0..255.

    Args:
        gain: (low, high), or a number for 1 - number..1 + number.
        offset: (low, high) in pixels 0..255, or a number for -number..number.

    Raises:
        ValueError: `gain` is no range from 0 on, or `offset` none.
    """
    gains, offsets = factors("gain", gain), limits("offset", offset)

    def apply(key: jax.Array, batch: Batch) -> Batch:
        x = real(image_of(batch))
        size, _, _, channels = x.shape
        times, plus = (
            amount.reshape(size, 1, 1, channels).astype(x.dtype)
            for amount in drawn(key, size * channels, gains, offsets)
        )
        return {**batch, "image": clipped(x * times + plus)}

    return apply
