"""Remeasure: the weights of a run measured on another split, or on another set."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from train.assess import assess
from train.data.gaps import Gaps
from train.data.joined import Joined
from train.data.matched import matched
from train.data.named import Splits, leads
from train.data.source import Source, is_signals
from train.data.steps import Longer
from train.experiment import Parts
from train.mesh import make_mesh, replicated
from train.opened import Opened
from train.predict import channels_of, host_of
from train.prepared import derived, first_devices, loaders
from train.refusal import Refused
from train.tasks.task import Summary


class Remeasured(NamedTuple):
    """What is measured, and by what.

    Attributes:
        run: whose weights.
        recipe: of the run, with the data that are asked for.
        data: their splits, with the classes and the channels of the run.
        parts: of the run, with what brings the images of these data to the shape of its own.
        split: one of the splits that is there.
        own: whether the data are those that the run names.
    """

    run: Opened
    recipe: Any
    data: Splits
    parts: Parts
    split: str
    own: bool

    @property
    def source(self) -> Source:
        """Of the split."""
        return getattr(self.data, self.split)


def remeasured(
    run: Opened, data: str = "", split: str = "test", *, outside: bool = False
) -> Remeasured:
    """A split of a set, as the run's own is measured; nothing is measured yet.

    Args:
        run: any whose inputs are images; of others the set must be like the run's own.
        data: name of a set as the run's experiment takes it; "" is the run's own.
        split: "test", "validation" or "train". Where the set has no validation split, it is the
            run's own cut. Of another set than the run's own nothing is cut off for "test" and
            "train"; one without splits is measured whole.
        outside: whether names in the set's files may lead out of it; as the run has it by default.

    Raises:
        Refused: there is no such set or split, or its classes are others than the run's; or
            `outside` is asked of a set whose files name no others.
    """
    recipe, parts = run.config, run.parts
    own = data in ("", recipe.data)
    if not own:
        changes: dict[str, Any] = {"data": data, "loader": "auto"}
        if split != "validation" and hasattr(recipe, "validation"):
            changes["validation"] = 0.0
        if hasattr(recipe, "classes"):
            changes["classes"] = ""  # the other set's own count, and are matched by name
        recipe = dataclasses.replace(recipe, **changes)
    if outside:
        if not (leads(recipe.data) and hasattr(recipe, "outside")):
            raise Refused(f"outside=True: data={recipe.data!r} names no files")
        recipe = dataclasses.replace(recipe, outside=True)
    try:
        found = run.module.splits(recipe)
    except Refused as error:
        moved = "; if the data have moved, --data says where they are" if own else ""
        raise Refused(f"{error}{moved}") from None
    if getattr(found, split) is None:
        raise Refused(f"split={split!r}: data={recipe.data!r} has none")
    if not own and split == "test" and getattr(found.test, "cut_off", False):
        found = found._replace(test=Joined((found.train, found.test), "whole"))
    pictures = not is_signals(run.about)
    if not pictures:
        found = found._replace(**{split: as_long(getattr(found, split), run)})
    channels = channels_of(run) if pictures and not own else None
    found = Splits(*(one and matched(one, run.about, channels) for one in found))
    found = derived(found, parts)
    if parts.host is not None:
        # As it is tested: what trains may be cropped at random, and could not stay on the device.
        parts = parts if own else parts._replace(host=(parts.host[1],) * 2)
    elif pictures and getattr(found, split).about.shape != run.about.shape:
        parts = parts._replace(host=(host_of(run),) * 2)
    return Remeasured(run, recipe, found, parts, split, own)


def as_long(source: Source, run: Opened) -> Source:
    """Signals as a run takes them: padded to its own where these are of several lengths.

    Raises:
        Refused: they have another rate, other channels, or another length, where all of the run's
            have the same or its network takes none that is longer; names both.
    """
    about, known = source.about, run.about
    assert about.shape is not None
    assert known.shape is not None
    (steps, channels), (own, own_channels) = about.shape, known.shape
    for what, one, other in (
        ("channels", channels, own_channels),
        ("steps a second", about.rate, known.rate),
        ("steps", steps, steps if known.ragged else own),
    ):
        if one is not None and other is not None and one != other:
            raise Refused(
                f"data={about.name!r} has signals of {one} {what}; the run's have {other}"
            )
    if not known.ragged:
        if about.ragged:
            raise Refused(
                f"data={about.name!r} has signals of several lengths; all of the run's have {own}"
            )
        return source
    if steps <= own:
        return Longer(source, own)
    batch = {
        "signal": jax.ShapeDtypeStruct((1, steps, channels), np.float32),
        "length": jax.ShapeDtypeStruct((1,), np.int32),
    }
    try:
        jax.eval_shape(
            lambda x: run.parts.task.predict(run.variables, run.parts.task.inputs(x)), batch
        )
    except ValueError as error:
        raise Refused(f"data={about.name!r} has signals of up to {steps} steps: {error}") from None
    return Longer(source, steps)


def measure(
    what: Remeasured,
    *,
    devices: int | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Summary:
    """The summary of the split: of the run's own data and as many devices, what it found itself.

    Args:
        what: see `remeasured`.
        devices: how many to use; as many as the run by default.
        stopping: asked once a batch whether to give up.

    Raises:
        Refused: there are not so many devices, or an example can't be used.
        Interrupted: `stopping()` said so.
    """
    recipe = what.recipe
    mesh = make_mesh(first_devices(devices or recipe.devices))
    skip = recipe.on_corrupt == "skip"
    gaps = {name: Gaps(limit=recipe.corrupt_limit) if skip else None for name in Splits._fields}
    load = loaders(recipe, mesh, what.data, what.parts, gaps)
    # What trained is measured as what tests is: in its order, by the host stage of tests.
    role = "validation" if what.split == "validation" else "test"
    of = assess(what.parts, load, mesh, role, what.source)
    return of(jax.device_put(what.run.variables, replicated(mesh)), stopping)
