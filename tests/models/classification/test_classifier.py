"""The head's arithmetic: float32 over whatever precision the backbone has."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from models.classification.classifier import Classifier

RNG = np.random.default_rng(0)
MAP = jnp.asarray(RNG.uniform(1, 2, (2, 3, 5, 7)), jnp.bfloat16)
HEAD = {
    "kernel": RNG.uniform(1, 2, (7, 4)).astype(np.float32),
    "bias": RNG.uniform(1, 2, 4).astype(np.float32),
}


class Fixed(nn.Module):
    """A backbone whose last map is always the same."""

    @nn.compact
    def __call__(self, x, *, train):
        return (jnp.zeros((1, 1, 1, 1)), MAP)


def logits(x):
    return Classifier(Fixed(), num_classes=4).apply({"params": {"head": HEAD}}, x, train=False)


def test_a_bfloat16_map_has_exact_float32_logits():
    mean = np.float64(MAP).mean((1, 2))
    assert (mean != np.float64(mean.astype(jnp.bfloat16))).any(1).all()
    y = jax.jit(logits)(jnp.zeros(()))
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, mean @ np.float64(HEAD["kernel"]) + HEAD["bias"], rtol=1e-6)


def test_the_product_is_never_rounded_to_less_than_float32():
    """On a CPU it never is; on an accelerator the program has to ask for it."""
    with jax.default_matmul_precision("bfloat16"):
        text = jax.jit(logits).lower(jnp.zeros(())).as_text()
    assert "precision = [HIGHEST, HIGHEST]" in text
    assert "precision = [DEFAULT, DEFAULT]" not in text
