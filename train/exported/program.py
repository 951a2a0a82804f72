"""The program of a run: from the pixels or steps of a batch of any size to predictions."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax import export
from jax.errors import InconclusiveDimensionOperation

from train.opened import Opened
from train.predict import shapes_of
from train.refusal import Refused
from train.seal import flat

PLATFORMS = ("cpu", "cuda", "tpu")


class Program(NamedTuple):
    """What is exported of a run.

    Attributes:
        exported: (weights, batch) -> predictions, for all of `PLATFORMS`; both are dicts.
        weights: path of each array of the variables, such as "params/head/kernel" -> array.
        inputs: key of the batch -> its shape, whose first axis is a symbol, and dtype.
    """

    exported: export.Exported
    weights: dict[str, jax.Array]
    inputs: dict[str, jax.ShapeDtypeStruct]


def program(run: Opened) -> Program:
    """`predict(variables, inputs(batch))` of a run's task, for a batch of any size.

    Args:
        run: opened with the backend "xla": what others compute by is not there elsewhere.

    Raises:
        Refused: it can't be exported; says why.
    """
    task, known = run.parts.task, shapes_of(run)
    (size,) = export.symbolic_shape("b")
    inputs = {
        key: jax.ShapeDtypeStruct((size, *known[key].shape[1:]), known[key].dtype)
        for key in keys_read(task.inputs, known)
    }
    weights, tree = flat(run.variables), jax.tree.structure(run.variables)

    def predict(weights: dict[str, jax.Array], batch: dict[str, jax.Array]) -> Any:
        variables = jax.tree.unflatten(tree, [weights[name] for name in names])
        return task.predict(variables, task.inputs(batch))

    names = [*weights]
    shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()}
    try:
        with without_folders():
            found = export.export(jax.jit(predict), platforms=PLATFORMS)(shapes, inputs)
    except (InconclusiveDimensionOperation, NotImplementedError, ValueError) as error:
        what = f"run={str(run.config.workdir)!r}, a {run.config.model}, can't be exported"
        raise Refused(f"{what}: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    return Program(found, weights, inputs)


@contextlib.contextmanager
def without_folders() -> Iterator[None]:
    """Programs name the files of their sources without the folders that these lie in here."""
    option = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, option)
    jax.config.update(option, "^.*/")
    try:
        yield
    finally:
        jax.config.update(option, before)


def keys_read(inputs: Any, batch: Mapping[str, Any]) -> list[str]:
    """The keys of a batch whose values a function of it uses, in the order of the batch.

    Args:
        inputs: (batch) -> pytree, pure.
        batch: key -> shape and dtype of all that there is.
    """
    jaxpr = jax.make_jaxpr(inputs)(dict(batch)).jaxpr
    used = {id(x) for x in [*jaxpr.outvars, *(x for eqn in jaxpr.eqns for x in eqn.invars)]}
    # A dict's leaves are in the order of its sorted keys.
    read = {key for key, x in zip(sorted(batch), jaxpr.invars, strict=True) if id(x) in used}
    return [key for key in batch if key in read]
