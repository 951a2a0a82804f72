"""Weights that a run starts from: a file, see `train.weight_files`, or the directory of a run.

Images must come to them normalised as they did when they were trained: by ImageNet's statistics, by
Darknet's, or by those that the other run used. What else they ask of the network becomes a field of
the new run's recipe.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from train.data.batch import IGNORE
from train.finetune import BACKBONE, Weights, check_backbone, layer, shape, under
from train.prepared import Prepared, starting
from train.refusal import Refused
from train.seal import flat
from train.weight_files import Statistics, asked_by_file, check_known, of_file, statistics_of_file
from train.weight_runs import asked_by_run, of_run, outputs, run_at


def weights_of(model: str, path: str, classes: Sequence[str] = ()) -> Weights:
    """What a run of `model` starts from.

    Args:
        model: a network of `models.names()`.
        path: a file of torchvision's or Darknet's weights, or the work directory of a run: for this
            network, or for another on the same classifier's backbone.
        classes: see `train.weight_files.of_file`.

    Raises:
        Refused: it is neither, or of another network.
    """
    return of_run(model, path) if os.path.isdir(path) else of_file(model, path, classes)


def statistics_of(model: str, path: str) -> Statistics:
    """By which the images were normalised that the weights at `path` were trained on.

    Raises:
        Refused: as `run_at`; or there is neither a file nor a directory, or a file for a network
            that there are no such weights of.
    """
    if not os.path.exists(path):
        raise Refused(f"init_from={path!r}: there is no such file or directory")
    if not os.path.isdir(path):
        check_known(model, path)
        return statistics_of_file(path)
    earlier = run_at(model, path)
    mean, std = earlier.config.statistics(earlier.about)
    return tuple(map(float, mean)), tuple(map(float, std))


def asked_by(model: str, path: str) -> dict[str, Any]:
    """What the weights at `path` ask of the network: fields of a detector's `Config`.

    Raises:
        Refused: as `run_at`.
    """
    if os.path.isdir(path):
        return asked_by_run(model, run_at(model, path))
    return asked_by_file(model, path)


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
