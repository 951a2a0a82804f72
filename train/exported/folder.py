"""The folder of an exported run: its program, its weights, what it takes and gives, a loader."""

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from train import results, workdir
from train.data.source import extent_said, is_signals
from train.exported.program import Program, program
from train.files import write
from train.opened import Opened
from train.predict import channels_of, host_of
from train.refusal import Refused

FORMAT = 1
PROGRAM, TEXT, WEIGHTS, FACTS, LOADER = FILES = (
    "model.stablehlo",
    "model.mlir",
    "weights.safetensors",
    "export.json",
    "load.py",
)

LAYOUT = {
    "name": "collection and path, joined by '/', such as params/head/kernel; where `mean_of` lists "
    "several runs, with the number of the run before them: 0/params/head/kernel",
    "kernel of a convolution": "(height, width, channels in / groups, channels out); in 1-D "
    "(steps, channels in / groups, channels out)",
    "kernel of a dense layer": "(inputs, outputs)",
    "batch_stats": "running mean and var of a BatchNorm, whose scale and bias are in params",
}
"""Of the arrays in `WEIGHTS`."""

MEANINGS = {
    "image": "pixels 0..255, (height, width, channels), red first",
    "signal": "steps, as the run's data have them; zeros from `length` on, if it is taken",
    "length": "how many steps of each signal are no padding",
    "matrix": "(x, y, 1) of the picture -> (x, y, 1) of `image`: where it was resized or moved to; "
    "the identity where it was not",
    "size": "height and width of the picture, before it was resized",
    "proposals": "regions x0 y0 x1 y1 in pixels of `image`, computed beforehand",
    "proposal_valid": "which rows of `proposals` are a region",
    "probabilities": "of each class",
    "mask": "the likeliest class of each pixel, an index",
    "target": "the numbers, in their unit",
    "boxes": "x0 y0 x1 y1 in pixels of `image`",
    "scores": "of each box, descending",
    "labels": "class of each box, an index",
    "valid": "which rows are a detection",
}
"""Keys of batches and predictions, in words."""


def write_folder(run: Opened, out: Path) -> Program:
    """Export a run.

    Args:
        run: opened with the backend "xla".
        out: a folder, made where it is missing. Files of the names `FILES` are written over.

    Raises:
        Refused: the run can't be exported, or the folder can't be made or is that of a run.
        train.files.WriteFailed: a file can't be written.
    """
    if (out / workdir.CONFIG).exists():
        raise Refused(f"out={str(out)!r} holds a run; name another folder")
    found = program(run)
    results.folder(out, "out")
    # First gone and last written: no program ever stands beside weights of another run.
    (out / PROGRAM).unlink(missing_ok=True)
    write(out / TEXT, found.exported.mlir_module())
    write(out / WEIGHTS, save({name: np.asarray(x) for name, x in found.weights.items()}))
    workdir.write(out / FACTS, facts(run, found))
    write(out / LOADER, (Path(__file__).with_name(LOADER)).read_bytes())
    write(out / PROGRAM, bytes(found.exported.serialize()))
    return found


def facts(run: Opened, found: Program) -> dict[str, Any]:
    """What `export.json` says."""
    about, exported = run.about, found.exported
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    named = outputs if isinstance(outputs, dict) else {"probabilities": outputs}
    return {
        "format": FORMAT,
        **of_all(run),
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
        "platforms": [*exported.platforms],
        "inputs": {key: described(key, x) for key, x in found.inputs.items()},
        "outputs": {key: described(key, x) for key, x in named.items()},
        "outputs_are": "a dict" if isinstance(outputs, dict) else "one array",
        "classes": [*(about.mask_classes if "mask" in named else about.classes)],
        "targets": [*about.targets],
        "beforehand": beforehand(run),
        "weights": LAYOUT,
    }


def of_all(run: Opened) -> dict[str, Any]:
    """What a program is of: of a mean each run, and beside them what they share."""
    if not run.each:
        return origin(run)
    each = [*map(origin, run.each)]
    shared = {key: x for key, x in each[0].items() if all(one[key] == x for one in each)}
    return {**shared, "mean_of": each}


def origin(run: Opened) -> dict[str, Any]:
    """What a run is."""
    return {
        "experiment": run.module.__name__,
        "model": run.config.model,
        "data": run.about.name,
        "run": Path(run.config.workdir).name,
        "seed": run.config.seed,
        "step": run.step,
    }


def described(key: str, x: Any) -> dict[str, Any]:
    """An array of a batch or of predictions; a symbol of its shape is a text."""
    shape = [n if isinstance(n, int) else str(n) for n in x.shape]
    return {"shape": shape, "dtype": str(x.dtype), "meaning": MEANINGS.get(key, key)}


def beforehand(run: Opened) -> str:
    """What is done to an example before the program, in words; the rest is in the program."""
    about = run.about
    if is_signals(about):
        end = "; shorter ones with zeros behind them" if about.ragged else ""
        return f"Nothing: {extent_said(about)}{end}."
    stage, (height, width) = host_of(run).stage, host_of(run).shapes[0]
    assert dataclasses.is_dataclass(stage)
    how = (inspect.getdoc(stage) or "").splitlines()[0]
    colour = {1: "grey", 3: "red, green and blue"}.get(channels_of(run), f"{channels_of(run)}")
    return (
        f"Decode to uint8 pixels, {colour}, and bring them to {height} x {width} as the run's "
        f"evaluation does, by {stage}: {how}"
    )
