"""Batch normalisation with addition and ReLU as one operation, differentiated by hand.

Left to itself, automatic differentiation passes over the activations more often than it must. Here
are three functions, (forward, tangent, cotangent), of which a backend computes the first and the
last as it can (`NormEngine`); the derivatives of these three are those of their plain forms, so
that every mixture of `jvp`, `grad` and `vmap` works.

x, y and add are (rows, C) in float32 or bfloat16; scale, bias, mean and var (C,) in float32. The
primitives' operands and the engines' have a leading axis S of independent normalisations, 1 but
under `vmap`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from models.backends.convolution import at_front, mapped, merged
from models.layers import norm


class Form(NamedTuple):
    """What is computed: relu(normalised x + add), with or without either."""

    epsilon: float
    relu: bool
    adds: bool


def forward(x, scale, bias, *add, form: Form):
    """act(normalised x [+ add]) in x's dtype, and the mean and variance of x."""
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, 0)
    var = jnp.mean(jnp.square(wide - mean[None]), 0)
    factor = lax.rsqrt(var + form.epsilon) * scale
    y = (wide - mean[None]) * factor[None] + bias[None]
    if form.adds:
        y = y + add[0].astype(jnp.float32)
    return (nn.relu(y) if form.relu else y).astype(x.dtype), mean, var


def tangent(x, y, scale, bias, mean, var, dx, dscale, dbias, *dadd, form: Form):
    """Of (y, mean, var), linear in the tangents of x, scale, bias [and add]."""
    rstd = lax.rsqrt(var + form.epsilon)
    centred, dx = x.astype(jnp.float32) - mean[None], dx.astype(jnp.float32)
    dmean, dvar = jnp.mean(dx, 0), 2 * jnp.mean(centred * dx, 0)
    dfactor = rstd * dscale - 0.5 * dvar * rstd**3 * scale
    dy = (dx - dmean[None]) * (rstd * scale)[None] + centred * dfactor[None] + dbias[None]
    if form.adds:
        dy = dy + dadd[0].astype(jnp.float32)
    return (jnp.where(y > 0, dy, 0) if form.relu else dy).astype(x.dtype), dmean, dvar


def cotangent(dy, x, y, scale, bias, mean, var, *, form: Form):
    """Of (x, scale, bias[, add]), linear in that of y: Ioffe & Szegedy 2015, section 3."""
    rstd = lax.rsqrt(var + form.epsilon)
    centred, g = x.astype(jnp.float32) - mean[None], dy.astype(jnp.float32)
    if form.relu:
        g = jnp.where(y > 0, g, 0)
    dbias, along = jnp.sum(g, 0), jnp.sum(g * centred, 0)
    of_centred = centred * (along * rstd**2 / x.shape[0])[None]
    dx = (g - (dbias / x.shape[0])[None] - of_centred) * (rstd * scale)[None]
    return dx.astype(x.dtype), along * rstd, dbias, *([g.astype(x.dtype)] if form.adds else [])


def over(plain: Callable[..., Any]) -> Callable[..., Any]:
    """A plain function of one normalisation, over S."""
    return lambda *operands, form: mapped(partial(plain, form=form), *operands)


class NormEngine(NamedTuple):
    """A backend: the first and the last function, with the signatures of the plain ones and S."""

    forward: Callable[..., Any] = over(forward)
    cotangent: Callable[..., Any] = over(cotangent)


def primitive(name: str, compute: Callable[..., Any], like: Callable[..., Any]) -> Primitive:
    """A function of several results, staged, mapped and compiled.

    Args:
        name: of the primitive.
        compute: (*operands, form, engine) -> results.
        like: the same, -> operands whose shapes and dtypes the results have.
    """

    def abstract(*operands: Any, **static: Any) -> Any:
        return [jax.core.ShapedArray(one.shape, one.dtype) for one in like(*operands, **static)]

    def batched(operands: Any, axes: Any, **static: Any) -> Any:
        size = next(x.shape[i] for x, i in zip(operands, axes, strict=True) if i is not None)
        joined = [merged(at_front(x, axis, size)) for x, axis in zip(operands, axes, strict=True)]
        results = new.bind(*joined, **static)
        return [y.reshape(size, -1, *y.shape[1:]) for y in results], [0] * len(results)

    new = Primitive(f"batch_norm_{name}")
    new.multiple_results = True
    new.def_impl(jax.jit(compute, static_argnames=("form", "engine")))
    new.def_abstract_eval(abstract)
    mlir.register_lowering(new, mlir.lower_fun(compute, multiple_results=True))
    batching.primitive_batchers[new] = batched
    return new


FORWARD = primitive(
    "forward",
    lambda *operands, form, engine: engine.forward(*operands, form=form),
    lambda x, scale, bias, *add, **_: (x, scale, scale),
)
TANGENT = primitive(
    "tangent",
    lambda *operands, form, engine: over(tangent)(*operands, form=form),
    lambda x, y, scale, *others, **_: (x, scale, scale),
)
COTANGENT = primitive(
    "cotangent",
    lambda *operands, form, engine: engine.cotangent(*operands, form=form),
    lambda dy, x, y, scale, *others, form, engine: (x, scale, scale, x)[: 3 + form.adds],
)


def instantiated(tangents: Any) -> list[jax.Array]:
    """Zeros as arrays."""
    return [ad.instantiate_zeros(one) for one in tangents]


def forward_jvp(primals: Any, tangents: Any, **static: Any) -> Any:
    """The residuals are x, y and what has a value a channel."""
    x, scale, bias, *_ = primals
    y, mean, var = FORWARD.bind(*primals, **static)
    operands = x, y, scale, bias, mean, var, *instantiated(tangents)
    return (y, mean, var), TANGENT.bind(*operands, **static)


def tangent_transpose(cotangents: Any, *operands: Any, form: Form, engine: NormEngine) -> Any:
    """By hand for what comes back through y; mean and variance add theirs."""
    x, y, scale, bias, mean, var, *linear = operands
    dy, dmean, dvar = (None if type(one) is ad.Zero else one for one in cotangents)
    dy = jnp.zeros_like(x) if dy is None else dy
    dx, *others = COTANGENT.bind(dy, x, y, scale, bias, mean, var, form=form, engine=engine)
    for value, of_x in ((dmean, 1), (dvar, 2 * (x.astype(jnp.float32) - mean[:, None]))):
        if value is not None:
            dx = dx + (value[:, None] * of_x / x.shape[1]).astype(x.dtype)
    grads = zip(linear, (dx, *others), strict=True)
    return [None] * 6 + [grad if ad.is_undefined_primal(one) else None for one, grad in grads]


def plain_jvp(plain: Callable[..., Any], primals: Any, tangents: Any, **static: Any) -> Any:
    """Derivatives of derivatives are the plain form's."""
    function = partial(over(plain), form=static["form"])
    return jax.jvp(function, tuple(primals), tuple(instantiated(tangents)))


ad.primitive_jvps[FORWARD] = forward_jvp
ad.primitive_jvps[TANGENT] = partial(plain_jvp, tangent)
ad.primitive_jvps[COTANGENT] = partial(plain_jvp, cotangent)
ad.primitive_transposes[TANGENT] = tangent_transpose


def batch_normalise(x, scale, bias, *, epsilon, act, add, dtype, engine: NormEngine, valid=None):
    """`models.layers.norm.batch_normalise` by an engine; itself where the engine does not reach."""
    known = (
        valid is None
        and x.dtype in (jnp.float32, jnp.bfloat16)
        and dtype == x.dtype
        and x.size > 0
        and scale.dtype == bias.dtype == jnp.float32
        and scale.shape == bias.shape == x.shape[-1:]
        and act in (None, nn.relu)
        and (add is None or (add.dtype, add.shape) == (x.dtype, x.shape))
    )
    if not known:
        how = {"epsilon": epsilon, "act": act, "add": add, "dtype": dtype}
        return norm.batch_normalise(x, scale, bias, valid=valid, **how)
    rows = partial(jnp.reshape, shape=(1, -1, x.shape[-1]))
    others = [] if add is None else [rows(add)]
    form = Form(epsilon, relu=act is not None, adds=add is not None)
    operands = rows(x), scale[None], bias[None], *others
    y, mean, var = FORWARD.bind(*operands, form=form, engine=engine)
    return y.reshape(x.shape), mean[0], var[0]
