"""Inside a network: its first kernels, feature maps, Grad-CAM and receptive fields, as pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from PIL import Image

from models.inspect.effective import effective_fields
from models.inspect.errors import Lacking
from models.inspect.feature_maps import BACKBONE, feature_maps, program, shape_of, stages
from models.inspect.grad_cam import grad_cam
from models.inspect.kernels import first_kernels
from models.inspect.receptive_field import receptive_field
from train.data.source import About
from train.examples import Examples
from train.report.grad_cam import HEAT, HEAT_OF_SIGNALS, Seen, drawn_pairs, drawn_signals
from train.report.kernels import drawn_kernels, under
from train.report.maps import drawn_maps, drawn_series
from train.report.receptive_field import Field, drawn_fields

COLUMNS = 6
"""Maps whose receptive fields are drawn, the last ones."""
MAPPED = 4
"""Examples whose feature maps are drawn."""


class Inside(NamedTuple):
    """What is looked at.

    Attributes:
        network: any Linen module.
        weights: name -> its variables; the last are those that are looked at, the others are
            compared with them.
        examples: what it is shown.
        about: names of classes, and the rate of signals.
        layer: whose map Grad-CAM weighs; "" for the last one.
    """

    network: nn.Module
    weights: Mapping[str, Any]
    examples: Examples
    about: About
    layer: str = ""

    @property
    def called(self) -> tuple[Any, ...]:
        """Network and variables, and the arguments of the network's call."""
        return (self.network, [*self.weights.values()][-1], *self.examples.inputs)

    @property
    def signals(self) -> list[np.ndarray]:
        """(L, C) each, as the network sees them, without padding."""
        values = np.asarray(self.examples.inputs[0], np.float32)
        length = self.examples.how["length"]
        ends = [values.shape[1]] * len(values) if length is None else np.asarray(length).tolist()
        return [one[:end] for one, end in zip(values, ends, strict=True)]


Pictures = Iterator[tuple[str, Image.Image]]
"""Names of files, without ending, and what goes there; `Lacking` says why there are none."""


def kernels(inside: Inside) -> Pictures:
    """Of the first layer."""
    yield "kernels", drawn_kernels(*first_kernels(*inside.called, **inside.examples.how))


def maps(inside: Inside) -> Pictures:
    """A picture a stage."""
    examples = inside.examples
    names = stages(program(*inside.called, **examples.how))
    if not names:
        raise Lacking(f"{type(inside.network).__name__} has none")
    found = feature_maps(*inside.called, names=[*names.values()], **examples.how)
    for stage, name in names.items():
        each = np.asarray(found[name][:MAPPED], np.float32)
        size = "x".join(map(str, each.shape[1:-1]))
        words = f"{name}: {each.shape[-1]} channels of {size}"
        if examples.pixels is not None:
            yield f"maps_{stage}", drawn_maps(words, each, examples.pixels[:MAPPED])
            continue
        shown, whole = inside.signals[:MAPPED], examples.inputs[0].shape[1]
        ends = [-(-len(one) * each.shape[1] // whole) for one in shown]
        cropped = [one[:end] for one, end in zip(each, ends, strict=True)]
        yield f"maps_{stage}", drawn_series(words, cropped, shown, inside.about.rate)


def cam(inside: Inside) -> Pictures:
    """Where the class of each example shows."""
    examples, about = inside.examples, inside.about
    if not about.classes:
        raise Lacking("what the network yields are no logits of classes")
    found = grad_cam(*inside.called[:3], layer=inside.layer, **examples.how)
    shares = np.asarray(jax.nn.softmax(found.logits))
    said, truth = np.asarray(found.labels), examples.batch.get("label")
    shown: Sequence[np.ndarray] = inside.signals if examples.pixels is None else [*examples.pixels]
    seen = []
    for row, name in enumerate(examples.names):
        words = f"{about.classes[said[row]]} {shares[row, said[row]]:.2f}"
        right = None
        if truth is not None:
            right = bool(truth[row] == said[row])
            words += "" if right else f", is {about.classes[truth[row]]}"
        values = shown[row]
        heat = np.asarray(found.heat[row])[: len(values)]
        seen.append(Seen(values, heat, Path(name).name, words, right))
    title = f"Grad-CAM by {found.layer}, for the class that the network says"
    if examples.pixels is None:
        yield "grad_cam", under([title, HEAT_OF_SIGNALS], drawn_signals(seen, about.rate))
    else:
        yield "grad_cam", under([title, HEAT], drawn_pairs(seen))


def fields(inside: Inside) -> Pictures:
    """Theoretical and effective receptive fields, the latter of all weights."""
    (network, _, *inputs), how = inside.called, inside.examples.how
    whole = program(*inside.called, **how)
    names = dict([*stages(whole).items()][-COLUMNS:])
    if not names:
        raise Lacking(f"{type(network).__name__} has no feature maps")
    given = {name: each for name, each in how.items() if each is not None}
    # The backbone alone, where all of them are in it: what finds boxes is much, and no matter.
    inner = all(name.partition("[")[0].split("/")[0] == BACKBONE for name in names.values())
    part, seen = (network.backbone, inputs[:1]) if inner else (network, inputs)  # type: ignore[attr-defined]
    found = receptive_field(part, *seen, **given).layers
    effective = jax.jit(partial(effective_fields, network, names=tuple(names.values()), **how))
    heat = {said: jax.device_get(effective(v, *inputs)) for said, v in inside.weights.items()}
    drawn = {}
    for stage, name in names.items():
        path, _, place = name.rstrip("]").partition("[")
        path = path.removeprefix(BACKBONE).removeprefix("/") if inner else path
        field, shape = found[path][int(place or 0)], shape_of(whole.maps[name])[1:-1]
        ends = tuple(span.at(n // 2) for span, n in zip(field.spans, shape, strict=True))
        drawn[stage] = Field(field.size, ends, {said: each[name] for said, each in heat.items()})
    yield "receptive_field", drawn_fields(drawn)


DRAWN: dict[str, Callable[[Inside], Pictures]] = {
    "first kernels": kernels,
    "feature maps": maps,
    "Grad-CAM": cam,
    "receptive fields": fields,
}
"""What is drawn -> how."""
