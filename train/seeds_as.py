"""How several seeds are trained: what is in the way of training them as one program."""

from typing import Any

from train import processes
from train.data.named import Splits
from train.mesh import places
from train.refusal import Refused, choose

HOW = ("loop", "vmap", "devices", "auto")


def in_the_way(how: str, config: Any, data: Splits, devices: int, seeds: int) -> str:
    """Why so many seeds can't be trained so, after the words "can't be had:"; "" where they can.

    Args:
        how: "vmap" or "devices".
        config: the recipe, settled.
        data: the splits.
        devices: of the run.
        seeds: how many.
    """
    if processes.several():
        return "it is for one process"
    if config.fsdp > 1:
        return f"fsdp={config.fsdp} shares out the parameters of one run; --fsdp 1"
    if config.weights == "best" and data.validation is not None:
        return "weights='best' ranks the checkpoints of each run; --weights last judges the last"
    if how == "vmap":
        several = f"it is one program on one device, and there are {devices}; --devices 1"
        return several if devices > 1 else ""
    if devices == 1:
        return "there is 1 device"
    alone = f"{seeds} seeds can't be shared out evenly over {devices} devices"
    return alone if places(seeds, devices) == 1 else ""


def check_seeds_as(config: Any, data: Splits, devices: int) -> None:
    """Refuse what was asked for and can't be had.

    Raises:
        Refused: names the field.
    """
    choose("seeds_as", config.seeds_as, HOW)
    if len(config.seeds) > 1 and config.seeds_as in ("vmap", "devices"):
        why = in_the_way(config.seeds_as, config, data, devices, len(config.seeds))
        if why:
            raise Refused(f"seeds_as={config.seeds_as!r} can't be had: {why}")
