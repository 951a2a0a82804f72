"""Choice: one stage out of several, or a stage or none, decided for each example."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from train.augment.kinds import Geometric, Mixing, Paired, Pixel, Shape, kind
from train.augment.matrices import identities
from train.data.batch import Batch

Stage = TypeVar("Stage", Geometric, Pixel, Paired, Mixing)
Which = Callable[[jax.Array, int], jax.Array]
"""(key, B) -> (B,) int32: each example's stage."""


def one_of(*stages: Stage) -> Stage:
    """One of the stages, all equally likely, for each example.

    Args:
        stages: of one kind, which is that of the result. Geometric ones give images of one shape;
            stages of pixels give the same keys and shapes, of which the wider type is taken (uint8
            and float32: float32); mixing ones have one `num_classes`.

    Raises:
        TypeError: a stage is of no kind.
        ValueError: no stages, or of several kinds or numbers of classes. Once traced: the shapes or
            keys differ.
    """
    kinds = [kind(f"stages[{n}]", stage) for n, stage in enumerate(stages)]
    if not kinds:
        raise ValueError("stages=() has none to choose from")
    for n, other in enumerate(kinds):
        if other is not kinds[0]:
            raise ValueError(f"stages[{n}]={stages[n]!r} is of another kind than stages[0]")

    def die(key: jax.Array, size: int) -> jax.Array:
        return jax.random.randint(key, (size,), 0, len(stages), jnp.int32)

    return _chosen(die, stages)


def maybe(p: float, stage: Stage) -> Stage:
    """The stage with probability `p`, decided for each example; else the example stays as it is.

    With `p` = 0 nothing is computed, and the types stay too; with a `Mixing`, labels become
    distributions whatever `p` is.

    Raises:
        TypeError: `stage` is of no kind.
        ValueError: `p` is not in 0..1. Once traced: the stage changes the image's shape, or keys.
    """
    kind("stage", stage)
    if not 0 <= p <= 1:
        raise ValueError(f"p={p} is not in 0..1")
    nothing = _nothing(stage)
    if p == 0:
        return nothing

    def coin(key: jax.Array, size: int) -> jax.Array:
        return jax.random.bernoulli(key, jnp.float32(p), (size,)).astype(jnp.int32)

    return _chosen(coin, (nothing, stage))


def _nothing(stage: Any) -> Any:
    """The stage of the same kind that leaves all as it is."""
    stays = Geometric(lambda key, batch: identities(_size(batch)))
    match stage:
        case Geometric():
            return stays
        case Paired():
            return Paired(stays, _as_it_is)
        case Mixing():
            return Mixing(_own, stage.num_classes)
    return _as_it_is


def _as_it_is(key: jax.Array, batch: Batch) -> Batch:
    return batch


def _own(key: jax.Array, batch: Batch) -> jax.Array:
    mixed = batch["image"] if "image" in batch else batch["signal"]
    return jnp.ones(mixed.shape[:-1], jnp.float32)


def _chosen(which: Which, stages: Sequence[Any]) -> Any:
    """Stage n, where `which` says n; both halves of a pair see the same key, so the same n."""
    match stages[0]:
        case Geometric():
            return Geometric(_selecting(which, [stage.draw for stage in stages]), _common(stages))
        case Paired():
            return Paired(
                _chosen(which, [stage.geometric for stage in stages]),
                _chosen(which, [stage.pixel for stage in stages]),
            )
        case Mixing():
            classes = sorted({stage.num_classes for stage in stages})
            if len(classes) > 1:
                raise ValueError(f"num_classes={classes} of the stages of one choice differ")
            return Mixing(_selecting(which, [stage.share for stage in stages]), *classes)
    return _selecting(which, stages)


def _selecting(which: Which, functions: Sequence[Callable[[jax.Array, Batch], Any]]) -> Any:
    """(key, batch) -> what function n gives, where `which` says n."""

    def select(key: jax.Array, batch: Batch) -> Any:
        chosen = which(jax.random.fold_in(key, 0), _size(batch))
        result = functions[0](jax.random.fold_in(key, 1), batch)
        for n, function in enumerate(functions[1:], start=1):
            other = function(jax.random.fold_in(key, n + 1), batch)
            result = _where(chosen == n, other, result)
        return result

    return select


def _where(condition: jax.Array, one: Any, other: Any) -> Any:
    """`one` for the examples where the condition holds: batches, or arrays with axis B."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            raise ValueError(f"keys {sorted(one)} and {sorted(other)} of one choice differ")
        return {key: _where(condition, one[key], other[key]) for key in one}
    if one is other:
        return one
    if one.shape != other.shape:
        raise ValueError(f"shapes {one.shape} and {other.shape} of one choice differ")
    both = jnp.promote_types(one.dtype, other.dtype)
    rows = condition.reshape(condition.shape + (1,) * (one.ndim - 1))
    return jnp.where(rows, one.astype(both), other.astype(both))


def _common(stages: Sequence[Geometric]) -> Callable[[Shape], Shape]:
    """The output shape of every stage, which is the same."""

    def shape(current: Shape) -> Shape:
        shapes = sorted({stage.shape(current) for stage in stages})
        if len(shapes) > 1:
            raise ValueError(f"shapes {shapes} of the images of one choice differ")
        return shapes[0]

    return shape


def _size(batch: Batch) -> int:
    return int(jax.tree.leaves(batch)[0].shape[0])
