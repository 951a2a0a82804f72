"""Regression: numbers of an image or a signal, of which some may lie in its future (a forecast)."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train.metrics.regression import Residuals, mae, mase, mse, r2, residuals, rmse
from train.tasks.adapt import Adapt, as_it_is
from train.tasks.classification import mean_of, over_valid
from train.tasks.inputs import Inputs, applied, normalised
from train.tasks.residual_losses import ResidualLoss, squared
from train.tasks.task import (
    Aux,
    Measured,
    Merging,
    Predictions,
    Ratio,
    Summary,
    Sums,
    Task,
    means,
)

Numbers = Sequence[float] | float
"""One a target, or one for all."""


def regression(
    network: nn.Module,
    *,
    targets: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    adapt: Adapt = as_it_is,
    residual_loss: ResidualLoss = squared,
    target_mean: Numbers = 0.0,
    target_std: Numbers = 1.0,
    scale: Numbers | None = None,
) -> Task:
    """A task for images, or signals, with K numbers each.

    Args:
        network: as of `train.tasks.classification.classification`, its (B, K) outputs being the
            standardised targets: any with global average pooling and a linear head.
        targets: their K names.
        mean, std, adapt: of what the network reads, see `classification`.
        residual_loss: of standardised residuals, see `train.tasks.residual_losses`.
        target_mean, target_std: of the training targets, by which they are standardised.
        scale: the error that MASE counts in, in the unit of the targets: of a forecast
            `train.metrics.regression.seasonal_error` of the series that trains. None: no MASE.

    Raises:
        ValueError: there is no target; a standard deviation or the scale is not positive and
            finite; or they are not as many as the targets.

    `loss` reports `loss`, and `mae` in the unit of the targets. `predict` yields
    {"target": (B, K)} in that unit. Every figure but the loss is in it too.
    """
    if not targets:
        raise ValueError("targets=() names none")
    names = tuple(targets)
    centre = _row("target_mean", target_mean, names)
    width = _row("target_std", target_std, names, positive=True)
    unit = None if scale is None else _row("scale", scale, names, positive=True)
    to_unit = width.astype(np.float32)[None], centre.astype(np.float32)[None]

    def inputs(batch: dict) -> Inputs:
        return normalised(batch, mean, std, adapt)

    def checked(out: jax.Array) -> jax.Array:
        import chex

        chex.assert_shape(out, (None, len(names)))
        return out

    def standard(target: jax.Array) -> jax.Array:
        import chex

        chex.assert_shape(target, (None, len(names)))
        return (target - to_unit[1]) / to_unit[0]

    def off(out: jax.Array, batch: dict) -> jax.Array:
        """(B, K): standardised residuals; 0 of rows that are not valid, whatever stands there."""
        return jnp.where(batch["valid"][:, None], out - standard(batch["target"]), 0)

    def loss(variables: dict, batch: dict, key: jax.Array) -> tuple[jax.Array, Aux]:
        collections = [name for name in variables if name != "params"]
        how = {"train": True, "mutable": collections, "rngs": {"dropout": key}}
        out, updated = applied(network, variables, inputs(batch), **how)
        residual, valid = off(checked(out), batch), batch["valid"]
        total, weight = over_valid(residual_loss(residual).mean(-1), valid)
        distance = jnp.abs(residual * to_unit[0]).mean(-1)
        sums: Sums = {
            "loss": Ratio(total, weight),
            "mae": Ratio(*over_valid(distance, valid)),
        }
        return total / jnp.maximum(weight, 1), Aux(dict(updated), sums)

    def out_of(variables: dict, x: Inputs) -> jax.Array:
        return checked(applied(network, variables, x, train=False))

    def in_unit(out: jax.Array) -> jax.Array:
        return out * to_unit[0] + to_unit[1]

    def predict(variables: dict, x: Inputs) -> dict[str, jax.Array]:
        return {"target": in_unit(out_of(variables, x))}

    def measure(variables: dict, batch: dict) -> Measured:
        return measured(out_of(variables, inputs(batch)), batch)

    def measured(out: jax.Array, batch: dict) -> Measured:
        valid = batch["valid"]
        losses = residual_loss(off(out, batch)).mean(-1)
        sums: Sums = {
            "loss": Ratio(*over_valid(losses, valid)),
            "count": jnp.sum(valid, dtype=jnp.int32),
        }
        return Measured(sums, {"index": batch["index"], "predicted": in_unit(out)})

    def score(record: dict, truth: dict) -> tuple[Sums, dict[str, Any]]:
        guess, target = np.asarray(record["predicted"]), np.asarray(truth["target"])
        sums: Sums = {"residuals": residuals(guess[None], target[None], centre)}
        kept = {"index": int(record["index"]), "target": target, "predicted": guess}
        return sums, kept

    def summary(sums: Sums, kept: list[dict[str, Any]]) -> Summary:
        # Where no example could be read there are no residuals.
        nothing = {"residuals": Residuals(*np.zeros((len(Residuals._fields), len(names))))}
        return summarise(nothing | sums, kept, names, unit)

    merging = Merging(
        mean=lambda several: {"target": mean_of([one["target"] for one in several])},
        measured=lambda found, batch: measured(standard(found["target"]), batch),
    )
    return Task(inputs, loss, predict, measure, score, summary, merging)


def summarise(
    sums: Sums,
    kept: list[dict[str, Any]],
    targets: Sequence[str],
    scale: np.ndarray | None = None,
) -> Summary:
    """Scalars: loss, mae, mse, rmse, r2, count, and mase where there is a scale.

    Each is the mean over the targets. Tables: `targets`, a row of these figures each; `worst`,
    every example, those that are off the most first: {"index", "target", "predicted", "off"}, the
    last the mean absolute error of its targets, each as a share of that target's RMSE;
    `predictions`: of each target the truth and the prediction.
    """
    found = sums["residuals"]
    columns = {"mae": mae(found), "mse": mse(found), "rmse": rmse(found), "r2": r2(found)}
    if scale is not None:
        columns["mase"] = mase(found, scale)
    scalars = means(sums) | {name: float(np.mean(values)) for name, values in columns.items()}
    scalars["count"] = int(sums["count"])
    rows = [
        {"name": target, **{name: float(values[k]) for name, values in columns.items()}}
        for k, target in enumerate(targets)
    ]
    spread = np.where(columns["rmse"] > 0, columns["rmse"], 1)
    worst = [
        one | {"off": float(np.mean(np.abs(one["predicted"] - one["target"]) / spread))}
        for one in kept
    ]
    worst.sort(key=lambda one: -one["off"])
    of_columns: dict[str, list[float]] = {}
    for k, target in enumerate(targets):
        for what, key in (("truth", "target"), ("prediction", "predicted")):
            name = what if len(targets) == 1 else f"{what} {target}"
            of_columns[name] = [float(one[key][k]) for one in kept]
    predictions = Predictions([one["index"] for one in kept], of_columns)
    return Summary(scalars, {"targets": rows, "worst": worst, "predictions": predictions})


def _row(
    name: str, value: Numbers, targets: Sequence[str], *, positive: bool = False
) -> np.ndarray:
    """(K,) float64."""
    given = np.asarray(value, np.float64)
    if given.ndim > 1 or given.size not in (1, len(targets)):
        raise ValueError(f"{name}={value} is not one number, or one of {len(targets)} targets")
    if not np.isfinite(given).all() or (positive and (given <= 0).any()):
        raise ValueError(f"{name}={value} must be {'positive and ' * positive}finite")
    return np.broadcast_to(given.ravel(), (len(targets),)).copy()
