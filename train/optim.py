"""Optimisation: schedules as shapes, optimisers that decay kernels alone, averages of variables."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from train.step import Average

Shape = Callable[[jax.Array], jax.Array]
"""() int32 updates made so far -> () factor of the peak learning rate."""


def steps(total: int, drops: Sequence[float], factor: float = 0.1) -> Shape:
    """1, times `factor` from each fraction `drops` of `total` steps on (He et al. 2015, 4.2)."""
    return optax.piecewise_constant_schedule(1.0, {round(total * at): factor for at in drops})


def cosine(total: int) -> Shape:
    """Half a cosine from 1 at step 0 to 0 at step `total` (Loshchilov and Hutter 2016, eq. 5)."""
    return optax.cosine_decay_schedule(1.0, total)


def warmed(shape: Shape, steps: int) -> Shape:
    """`shape`, times a ramp: (k + 1) / steps at step k of the first `steps` (Goyal et al. 2017)."""

    def ramped(step: jax.Array) -> jax.Array:
        done = (step + 1).astype(jnp.float32) / max(steps, 1)
        return shape(step) * jnp.minimum(1.0, done)

    return ramped


class RateState(NamedTuple):
    """What `scale_by_rate` keeps: the step logs `learning_rate` from here."""

    step: jax.Array
    learning_rate: jax.Array


def scale_by_rate(shape: Shape, peak: jax.Array) -> optax.GradientTransformation:
    """Multiply updates by -peak * shape(step), and keep the rate used, for the log."""

    def init(params: Any) -> RateState:
        del params
        return RateState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

    def update(updates: Any, state: RateState, params: Any = None):
        del params
        rate = jnp.asarray(peak * shape(state.step), jnp.float32)
        updates = jax.tree.map(lambda u: (-rate).astype(u.dtype) * u, updates)
        return updates, RateState(state.step + 1, rate)

    return optax.GradientTransformation(init, update)


class GentleState(NamedTuple):
    """What `gentle_until_learning` keeps."""

    error: jax.Array
    learns: jax.Array
    rate: RateState


def gentle_until_learning(
    rate: optax.GradientTransformation, factor: float, below: float = 0.8, memory: float = 0.95
) -> optax.GradientTransformationExtraArgs:
    """`rate`, scaled by `factor` until the training error is under `below`.

    He et al. 2015, section 4.2: ResNet-110 starts at 0.01 "until the training error is below 80%
    (about 400 iterations)", then goes on with 0.1. The error of one batch is noise, so an
    exponential average with `memory` is compared, beginning at 1. It reads the `accuracy` that the
    loss reports.

    Args:
        rate: `scale_by_rate(...)`.
        factor: of the learning rate, at first.
        below: error, 0..1, from which on the network learns.
        memory: of the average, 0..1.
    """

    def init(params: Any) -> GentleState:
        return GentleState(jnp.ones((), jnp.float32), jnp.zeros((), bool), rate.init(params))

    def update(updates: Any, state: GentleState, params: Any = None, *, sums: dict, **extra: Any):
        del extra
        total, weight = sums["accuracy"]
        now = 1 - total / jnp.maximum(weight, 1)
        error = jnp.asarray(memory * state.error + (1 - memory) * now, jnp.float32)
        learns = state.learns | (error < below)
        scale = jnp.where(learns, 1.0, factor).astype(jnp.float32)
        updates, inner = rate.update(updates, state.rate, params)
        updates = jax.tree.map(lambda u: scale.astype(u.dtype) * u, updates)
        inner = inner._replace(learning_rate=scale * inner.learning_rate)
        return updates, GentleState(error, learns, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def sgd(
    rate: optax.GradientTransformation,
    *,
    weight_decay: jax.Array | float,
    momentum: float,
    nesterov: bool = False,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Stochastic gradient descent as classifiers are trained by it.

    Args:
        rate: what scales the updates by minus the learning rate: `scale_by_rate(...)`.
        weight_decay: of `kernels`, added to the gradient (an L2 penalty, as in PyTorch's SGD).
        momentum: 0..1.
        nesterov: whether it looks ahead (Sutskever et al. 2013).
        clip_norm: largest global norm of the gradient; 0 leaves it as it is.
    """
    return optax.chain(
        _clipped(clip_norm),
        optax.add_decayed_weights(weight_decay, kernels),
        optax.trace(momentum, nesterov),
        rate,
    )


def adamw(
    rate: optax.GradientTransformation,
    *,
    weight_decay: jax.Array | float,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, algorithm 2).

    Args:
        rate: what scales the updates by minus the learning rate: `scale_by_rate(...)`.
        weight_decay: of `kernels`, times the learning rate.
        clip_norm: largest global norm of the gradient; 0 leaves it as it is.
    """
    return optax.chain(
        _clipped(clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay, kernels),
        rate,
    )


def muon(
    rate: optax.GradientTransformation,
    *,
    weight_decay: jax.Array | float,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Muon for `kernels`, NAdam for the others (Jordan et al. 2024; Liu et al. 2025).

    The average of a kernel's gradients is read as a matrix, all axes but the last by the last, and
    replaced by nearly its nearest orthogonal one: no direction of a layer waits for another whose
    gradients are larger. It is scaled to Adam's size (0.2 a weight, arXiv:2502.16982, section 2.2),
    so that both go by one rate. The products of matrices do not depend on the batch: in a small
    network, a step on few examples is noticeably slower than `adamw`'s.

    Args:
        rate: what scales the updates by minus the learning rate: `scale_by_rate(...)`.
        weight_decay: of `kernels`, times the learning rate.
        clip_norm: largest global norm of the gradient; 0 leaves it as it is.
    """
    return optax.chain(
        _clipped(clip_norm),
        optax.contrib.muon(
            learning_rate=-1.0,  # optax's ends with minus its rate; ours comes last
            ns_steps=0,  # `orthogonal` makes them, and keeps the scale
            consistent_rms=0.2,
            muon_weight_dimension_numbers=_matrices,
        ),
        optax.stateless_with_tree_map(lambda u, _: orthogonal(u) if u.ndim > 1 else u),
        optax.add_decayed_weights(weight_decay, kernels),
        rate,
    )


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of s, s^3 and s^5, s a singular value (Jordan et al. 2024): five times, they bring 0.01 .. 1 to
0.7 .. 1.2."""


def orthogonal(x: jax.Array) -> jax.Array:
    """Nearly the nearest matrix whose columns (or rows) are orthogonal, times the norm of `x`.

    Muon's five Newton-Schulz iterations X <- (a + b XX' + c (XX')^2) X, from x / |x| on. What
    becomes of XX' depends on XX' alone (of X'X, where that is smaller), so that nearly all products
    are of matrices as wide as x is narrow; x, in a kernel many times as long, is read twice, in
    optax's form ten times. For the kernels of `experiments/segment.py`'s U-Net, Muon takes 20 ms so
    on two CPU cores, 80 ms with optax's.

    Args:
        x: (..., n) floating, read as a matrix of n columns.

    Returns:
        As x; zeros of zeros.
    """
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.float32
    matrix = x.reshape(-1, x.shape[-1]).astype(dtype)
    long = len(matrix) > matrix.shape[1]
    product = partial(jnp.matmul, precision="highest")
    gram = product(matrix.T, matrix) if long else product(matrix, matrix.T)
    square = jnp.trace(gram)
    gram = gram / jnp.where(square == 0, 1, square)
    a, b, c = NEWTON_SCHULZ
    one = jnp.eye(len(gram), dtype=dtype)
    total = one
    for _ in range(5):
        factor = a * one + b * gram + c * product(gram, gram)
        total = product(factor, total)
        gram = product(product(factor, gram), factor)
    found = product(matrix, total) if long else product(total, matrix)
    return found.reshape(x.shape).astype(x.dtype)


def _clipped(norm: float) -> optax.GradientTransformation:
    """Gradients of at most this global norm; 0 leaves them as they are."""
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


def _matrices(params: Any) -> Any:
    """How Muon reads each array; None where it does not."""

    def one(p: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        inputs, output = tuple(range(p.ndim - 1)), (p.ndim - 1,)
        return optax.contrib.MuonDimensionNumbers(inputs, output) if p.ndim > 1 else None

    return jax.tree.map(one, params)


def kernels(params: Any) -> Any:
    """Mask that is True for what weight decay shrinks: arrays of two axes or more.

    Biases and the scale and shift of a normalisation are left alone.
    """
    return jax.tree.map(lambda p: p.ndim > 1, params)


def moving_average(decay: float) -> Average:
    """Exponential moving average of parameters and floating collections; others are copied.

    The decay begins at (1 + t) / (10 + t) and grows to `decay`, so that the average does not hang
    on to the initial values.
    """

    def average(averages: dict, variables: dict, step: jax.Array) -> dict:
        t = step.astype(jnp.float32)
        rate = 1 - jnp.minimum(decay, (1 + t) / (10 + t))

        def one(a: jax.Array, v: jax.Array) -> jax.Array:
            if not jnp.issubdtype(a.dtype, jnp.floating):
                return v
            return a + rate.astype(a.dtype) * (v - a)

        return jax.tree.map(one, averages, variables)

    return average


OPTIMIZERS = {"adamw": adamw, "muon": muon}
"""By their names in recipes; `sgd` is none of them, since it takes a momentum too."""


def by_name(
    name: str, *, momentum: float, nesterov: bool = False
) -> Callable[..., optax.GradientTransformation]:
    """The optimiser, but for its rate: "sgd", or of `OPTIMIZERS`, which need no momentum."""
    if name == "sgd":
        return partial(sgd, momentum=momentum, nesterov=nesterov)
    return OPTIMIZERS[name]
