"""Weights that a run starts from: a file of torchvision's, or the directory of another run.

Images must come to them normalised as they did when they were trained: by ImageNet's statistics,
or by those that the other run used.
"""

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import models
from models.pretrained import torchvision
from models.pretrained.files import read
from models.pretrained.naming import for_boxes, for_pixels, names
from models.pretrained.preprocess import MEAN, STD
from train import workdir
from train.data.batch import IGNORE
from train.data.source import About
from train.finetune import BACKBONE, Weights, check_backbone, layer, shape, under
from train.opened import experiment, opened
from train.prepared import Prepared, starting
from train.refusal import Failed, Refused
from train.seal import flat

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, 0..255."""
IMAGENET: Statistics = (tuple(255 * each for each in MEAN), tuple(255 * each for each in STD))


def weights_of(model: str, path: str) -> Weights:
    """What a run of `model` starts from.

    Args:
        model: a network of `models.names()`.
        path: a file of torchvision's weights, or the work directory of a run: for this network, or
            for another on the same classifier's backbone.

    Raises:
        Refused: it is neither, or of another network.
    """
    return of_run(model, path) if os.path.isdir(path) else of_file(model, path)


def of_file(model: str, path: str) -> Weights:
    """Those in a file of torchvision's weights, with or without a head.

    Raises:
        Refused: torchvision has none of such a network; the file is none, or of another network.
    """
    variant, classifier = models.variant(model), backbone_of(model)
    check_known(model, path)
    try:
        tensors = read(path)
        own = model in names() and (
            model == classifier or for_pixels(tensors) or for_boxes(tensors)
        )
        theirs = model if own else classifier
        found = torchvision.from_torchvision(theirs, tensors, whole=False)
    except (OSError, ValueError, ImportError) as error:
        raise Refused(f"init_from={path!r}: {said(error, path)}") from error
    lines = [f"Starts from the weights in {path}."]
    if "head" not in found["params"]:
        lines = [f"Starts from the weights in {path}, which have no head."]
    used = sum(len(jax.tree.leaves(found.get(name, {}))) for name in ("params", "batch_stats"))
    if over := sum(not key.endswith(torchvision.COUNTER) for key in tensors) - used:
        lines.append(f"Passed over: {over} tensors there that no layer of {theirs} has.")
    if variant.converted is not None:
        found |= {"params": converted(variant, found["params"])}
    return Weights(found, {"file": os.path.abspath(path)}, said=lines)


def converted(variant: Any, params: dict[str, Any]) -> dict[str, Any]:
    """A classifier's parameters as a segmenter's; of one without its head the backbone alone."""
    if "head" not in params:
        return {BACKBONE: params[BACKBONE]}
    return variant.converted(params)


def said(error: Exception, path: str) -> str:
    """What a reader of files says, without the path that it begins with."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.removeprefix(f"{Path(path)}: ")


class Earlier(NamedTuple):
    """A run as another one sees it that starts from it: `Opened` without its weights."""

    experiment: str
    config: Any
    about: About


def of_run(model: str, path: str) -> Weights:
    """Those that the test split of a run was judged by, or its best so far.

    Raises:
        Refused: as `run_at`; or it has no sound checkpoint.
    """
    earlier = run_at(model, path)
    try:
        run = opened(path)
    except (Refused, Failed) as error:
        raise Refused(f"init_from={path!r}: {error}") from error
    variables, variant = run.variables, models.variant(model)
    if variant.converted is not None and run.config.model == variant.classifier:
        variables = variables | {"params": variant.converted(variables["params"])}
    return Weights(
        variables,
        {
            "workdir": os.path.abspath(path),
            "experiment": earlier.experiment,
            "model": run.config.model,
            "data": run.config.data,
            "step": run.step,
        },
        classes=outputs(run.config.model, run.about),
        said=[f"Starts from the weights of step {run.step} of the run in {path}."],
    )


def run_at(model: str, path: str) -> Earlier:
    """The run in a directory, for `model` to start from.

    Raises:
        Refused: there is none, or there are several, or it is of a network of another backbone.
    """
    where = Path(path)
    if workdir.read(where, workdir.CONFIG) is None:
        raise Refused(f"init_from={path!r} {no_run(where)}")
    try:
        module = experiment(where)
        config: Any = workdir.read_config(where, module.__name__, module.Config)
        about = workdir.decoded(where, workdir.ABOUT, About)
    except Refused as error:
        raise Refused(f"init_from={path!r}: {error}") from None
    if config.seeds:
        several = ", ".join(f"seed_{seed}" for seed in config.seeds[:4])
        raise Refused(f"init_from={path!r} holds several runs: take one of them, such as {several}")
    if about is None:
        raise Refused(f"init_from={path!r} {no_run(where)}")
    if not hasattr(config, "statistics") or config.model not in models.names():
        raise Refused(
            f"init_from={path!r} is a run of {module.__name__}, whose network {config.model!r} is "
            "none of models.names()"
        )
    if backbone_of(config.model) != backbone_of(model):
        raise Refused(f"init_from={path!r} is a run of {config.model}, not of {model}'s backbone")
    return Earlier(module.__name__, config, about)


def no_run(path: Path) -> str:
    """Of a directory that is no run, what it holds instead, in words."""
    runs: list[str] = []
    with contextlib.suppress(OSError):
        for below in ("*", "*/*"):  # such as runs/classify, or runs
            found = path.glob(f"{below}/{workdir.CONFIG}")
            runs = runs or sorted(str(file.parent.relative_to(path)) for file in found)
    if runs:
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        several = f"{len(runs)} runs" if len(runs) > 1 else "a run"
        return f"is no run, it holds {several}: take one of them, {', '.join(runs[:4])}{more}"
    for above in path.absolute().parents:
        if (above / workdir.CONFIG).is_file() and (above / workdir.ABOUT).is_file():
            return f"holds no run, but lies in one: {str(above)!r}"
    return f"holds no run: it has no {workdir.CONFIG} and {workdir.ABOUT}"


def statistics_of(model: str, path: str) -> Statistics:
    """By which the images were normalised that the weights at `path` were trained on.

    Raises:
        Refused: as `run_at`; or there is neither a file nor a directory, or a file for a network
            that torchvision has none of.
    """
    if not os.path.exists(path):
        raise Refused(f"init_from={path!r}: there is no such file or directory")
    if not os.path.isdir(path):
        check_known(model, path)
        return IMAGENET
    earlier = run_at(model, path)
    mean, std = earlier.config.statistics(earlier.about)
    return tuple(map(float, mean)), tuple(map(float, std))


def check_known(model: str, path: str) -> None:
    """Refuse a file for a network that torchvision has no weights of.

    Raises:
        Refused: it is one.
    """
    if backbone_of(model) not in names():
        raise Refused(f"init_from={path!r}: torchvision has no weights of {model}")


def check_channels(statistics: Statistics, channels: int, path: str) -> None:
    """Refuse images that the weights can't take: theirs are of as many channels, or grey ones.

    Raises:
        Refused: images of other `channels`; grey ones are given thrice to a network of colour.
    """
    wanted = len(statistics[0])
    if channels != wanted and (channels, wanted) != (1, 3):
        raise Refused(
            f"init_from={path!r}: its network takes images of {wanted} channel(s), and these have "
            f"{channels} channels"
        )


def fitted(prepared: Prepared, weights: Weights) -> Weights:
    """The weights, with the layers named that start anew although they would fit: other classes'.

    Raises:
        Refused: they are of another network.
    """
    here = prepared.shapes().variables
    mine = outputs(prepared.config.model, prepared.about)
    whole = any(under(layer(path), BACKBONE) for path in flat(here))
    others = bool(weights.classes) and weights.classes != mine
    heads: set[str] = set()
    if not whole or (others and len(weights.classes) == len(mine)):
        heads = of_classes(prepared)
    check_backbone(here, weights.variables, heads)
    return weights._replace(anew=frozenset(heads if others else ()))


def of_classes(prepared: Prepared) -> set[str]:
    """The layers whose shape hangs on the number of classes; where none does, those of the head."""
    about, masks = prepared.about, prepared.about.mask_classes
    if masks:
        masks = (*masks, "") if len(masks) < IGNORE else masks[1:]
    parts = prepared.module.build(
        prepared.config,
        dataclasses.replace(about, classes=(*about.classes, ""), mask_classes=masks),
        conv=prepared.backend.conv_general_dilated,
        norm=prepared.backend.norm,
    )
    other = flat(jax.eval_shape(starting(parts, prepared.loader), jnp.uint32(0)).variables)
    here = flat(prepared.shapes().variables)
    heads = {layer(path) for path in here if shape(here, path) != shape(other, path)}
    behind = {layer(path) for path in here if not under(layer(path), BACKBONE)}
    return heads or (behind if len(behind) < len({layer(path) for path in here}) else set())


def outputs(model: str, about: About) -> tuple[str, ...]:
    """Names of the classes of a network's logits."""
    return about.mask_classes if model in models.names("segmentation") else about.classes


def backbone_of(model: str) -> str:
    """The classifier whose backbone a network of `models.names()` has; its own name by default."""
    return models.variant(model).classifier or model
