"""Local response normalisation (Krizhevsky et al. 2012, section 3.3)."""

import jax
import jax.numpy as jnp

from models.layers.pooling import is_float, summing_dtype


def local_response_normalise(
    x: jax.Array, *, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """x / (k + alpha * sum of x^2 over the n channels around its own) ^ beta, at each position.

    The sum has fewer terms at the first and the last channels. The paper multiplies the *sum* by
    alpha; PyTorch's `LocalResponseNorm` multiplies the sum divided by n, so its alpha is n times
    this one.

    Args:
        x: (…, C) of floats; bfloat16 is computed in float32.
        k: above 0, or a position of zeros would divide by 0.
        n: channels in the sum, odd, so that as many stand on each side.
        alpha, beta: the defaults of all four are the paper's.

    Returns:
        x's shape and dtype.

    Raises:
        ValueError: `x` is not floating, `k` is not above 0, `n` is not odd or below 1.
    """
    if not is_float(x):
        raise ValueError(f"x of dtype {x.dtype}: expected floats")
    if k <= 0:
        raise ValueError(f"k={k} must be above 0")
    if n < 1 or n % 2 == 0:
        raise ValueError(f"n={n} must be odd and at least 1")
    wide, channels = x.astype(summing_dtype(x)), x.shape[-1]
    squares = jnp.pad(jnp.square(wide), [(0, 0)] * (x.ndim - 1) + [(n // 2, n // 2)])
    total = sum(squares[..., shift : shift + channels] for shift in range(n))
    return (wide * (k + alpha * total) ** -beta).astype(x.dtype)
