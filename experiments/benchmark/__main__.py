"""How fast, beside others, on this machine.

python -m experiments.benchmark --what step --models resnet20 --against stock
python -m experiments.benchmark --what step --against stock,torch --torch-python PATH
python -m experiments.benchmark --what layers --models resnet18_cifar
python -m experiments.benchmark --what loader --against torch --torch-python PATH
python -m experiments.benchmark --what augment --against torch --torch-python PATH
python -m experiments.benchmark --what scaling --models resnet20 --devices 1,2,4
python -m experiments.benchmark --what loop

Processes take turns, one round each, so that what else the machine does falls on all alike; what
counts is the ratio within a round.
"""

import json
import os
import pathlib
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import tyro
from rich.console import Console

from experiments.benchmark.cases import Case, cases, known, objects
from experiments.benchmark.layer_speed import layers
from experiments.benchmark.loader_speed import HEIGHT, WIDTH, write_pictures
from experiments.benchmark.scaling import scaling
from experiments.benchmark.turns import OURS, Found, compete, middle, ratios
from train import files
from train.experiment import positive
from train.provenance import cpu
from train.refusal import Failed, Refused, choose

HERE = pathlib.Path(__file__).parent
STOCK, TORCH, COMPILED = "stock", "torch", "compile"
BARE = "bare step"
LOOPED, SAVED = "resnet20", "resnet18_cifar"
MOST = 3.0
"""Percent that the loop may add to a step."""
HUGE = "glibc.malloc.hugetlb=1"
KEPT = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.arena_max=1"
SETTINGS = {"equal": HUGE, "kept": KEPT, "own": ""}
"""GLIBC_TUNABLES of every process."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured.

    Attributes:
        what: "step", a whole training step; "layers", each convolution of a network; "loader",
            reading, decoding and cropping of pictures that it makes; "augment", what a chain of
            augmentations adds to a step of ResNet-20; "loop", what the training loop adds to one,
            and how long a checkpoint of a ResNet-18 holds it up; "scaling", a step on several
            devices, and what these exchange.
        models: classifiers of `models.names()`, with commas; for steps the segmenters, detectors
            and 1-D networks of `cases.OTHERS` too.
        against: with commas: "stock" is XLA and the plain norm; "torch" PyTorch eager, channels
            last, "compile" with torch.compile.
        torch_python: an interpreter that has torch and torchvision.
        batch_size: examples a step; 128 for images of 32x32, 32 for 224x224 by default, others
            in `cases.OTHERS`. Of each device for "scaling".
        devices: for "scaling", how many, with commas; a CPU has as many as are asked.
        dtype: of the arithmetic; PyTorch's by autocast.
        backend: ours, see `models.backends`.
        settings: memory of the processes. "equal": huge pages for all; "kept": freed pages stay,
            for all; "own": each as it is by itself, ours as every experiment starts.
        workers: processes that read, on as many cores, of each side.
        pictures: that are read, again and again.
        rounds: of each process.
        seconds: of a round.
        steps: of a round of the loop, and from one of its checkpoints to the next.
        json: a file for the numbers.
    """

    what: Literal["step", "layers", "loader", "augment", "loop", "scaling"] = "step"
    models: str = "resnet20,resnet18_cifar,resnet50"
    against: str = "stock"
    torch_python: pathlib.Path | None = None
    batch_size: int | None = None
    devices: str = "1,2,4"
    dtype: Literal["float32", "bfloat16"] = "float32"
    backend: Literal["auto", "onednn", "jax", "xla"] = "auto"
    settings: Literal["equal", "kept", "own"] = "equal"
    workers: int = 1
    pictures: int = 256
    rounds: int = 5
    seconds: float = 4.0
    steps: int = 100
    json: pathlib.Path | None = None

    def __post_init__(self) -> None:
        for name in self.models.split(","):
            choose("models", name, known(self.what))
        for name in filter(None, self.against.split(",")):
            choose("against", name, (STOCK, TORCH, COMPILED))
        if not all(n.isdecimal() and int(n) for n in self.devices.split(",")):
            raise Refused(f"devices={self.devices!r} are not numbers of devices, such as 1,2,4")
        positive(self, "workers", "pictures", "rounds", "seconds", "steps")
        if self.batch_size is not None:
            positive(self, "batch_size")


def contestants(config: Config, model: str, case: Case) -> Found:
    """Name -> command and what it is to measure; ours first."""
    spec = case._asdict() | {
        "model": model,
        "dtype": config.dtype,
        "seconds": config.seconds,
        "objects": objects(case) if case.task == "detection" else [],
    }
    jax_step, torch_step = str(HERE / "jax_step.py"), str(HERE / "torch_step.py")
    own = config.settings == "own"
    found = {OURS: ([sys.executable, jax_step], {**spec, "backend": config.backend, "keep": own})}
    against = config.against.split(",")
    if STOCK in against:
        found[STOCK] = [sys.executable, jax_step], {**spec, "backend": "xla", "keep": False}
    for name in (TORCH, COMPILED):
        if name in against:
            if config.torch_python is None:
                raise Refused(f"against {name}: torch_python names the interpreter that has it")
            command = [str(config.torch_python), torch_step]
            found[name] = command, {**spec, "compile": name == COMPILED}
    return found


def measured(found: Found, title: str, config: Config, console: Console) -> dict[str, Any]:
    """What all of them yield, in turns, as the request says; see `turns.compete`."""
    tunables = SETTINGS[config.settings]
    return compete(found, title, rounds=config.rounds, tunables=tunables, console=console)


def step(config: Config, console: Console) -> list[dict[str, Any]]:
    """Examples a second of a whole training step."""
    numbers = []
    for model in config.models.split(","):
        for case in cases(model, config.batch_size):
            title = (
                f"{model}, batches of {case.batch_size} at {case.shape}, "
                f"{config.dtype}, memory: {config.settings}"
            )
            found = measured(contestants(config, model, case), title, config, console)
            numbers.append({"model": model, "size": case.size} | found)
    return numbers


def loader(config: Config, console: Console) -> list[dict[str, Any]]:
    """Images a second and core of 224x224 random crops of JPEGs of ImageNet's usual size."""
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = available[: config.workers]
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = write_pictures(pathlib.Path(folder), config.pictures)
        spec = {
            "folder": folder,
            "size": 224,
            "batch_size": config.batch_size or 32,
            "workers": config.workers,
            "cores": cores,
            "seconds": config.seconds,
        }
        found = {OURS: ([sys.executable, str(HERE / "loader_speed.py")], spec)}
        if TORCH in config.against.split(","):
            if config.torch_python is None:
                raise Refused(f"against {TORCH}: torch_python names the interpreter that has it")
            command = [str(config.torch_python), str(HERE / "torch_loader.py")]
            found[TORCH] = command, spec
        title = (
            f"random crops of {config.pictures} JPEGs of {WIDTH}x{HEIGHT}, {kilobytes:.0f} kB, "
            f"{config.workers} workers on {len(cores) or 'all'} cores"
        )
        read = measured(found, title, config, console)
    for name, rates in read["rates"].items():
        console.print(f"{name}: {middle([r / config.workers for r in rates], 1)} images/s a core")
    return [{"kilobytes": kilobytes, **spec, "folder": None, **read}]


def augment(config: Config, console: Console) -> list[dict[str, Any]]:
    """What the chain adds to a training step, and images a second of the chain alone."""
    spec: dict[str, Any] = {
        "batch_size": config.batch_size or 256,
        "backend": config.backend,
        "seconds": config.seconds,
    }
    command = [sys.executable, str(HERE / "augment_speed.py")]
    sides = {OURS: "augmented", "without": "plain"}
    found = {name: (command, {**spec, "side": side}) for name, side in sides.items()}
    title = "{}, batches of " + str(spec["batch_size"])
    step = measured(found, title.format("ResNet-20 with and without the chain"), config, console)
    cost = [1 / ratio - 1 for ratio in ratios(step["rates"], "without")]
    console.print(f"The chain adds {middle([100 * c for c in cost], 1)} % to a step.")
    found = {OURS: (command, {**spec, "side": "alone"})}
    if TORCH in config.against.split(","):
        if config.torch_python is None:
            raise Refused(f"against {TORCH}: torch_python names the interpreter that has it")
        found[TORCH] = [str(config.torch_python), str(HERE / "torch_augment.py")], spec
    alone = measured(found, title.format("the chain alone"), config, console)
    return [{"added": cost, **step}, alone]


def several(config: Config, console: Console) -> list[dict[str, Any]]:
    """See `scaling.scaling`."""
    return scaling(
        config.models.split(","),
        [*map(int, config.devices.split(","))],
        console,
        batch_size=config.batch_size,
        dtype=config.dtype,
        backend=config.backend,
        rounds=config.rounds,
        seconds=config.seconds,
        tunables=SETTINGS[config.settings],
    )


def loop(config: Config, console: Console) -> list[dict[str, Any]]:
    """What the loop adds to a step of ResNet-20, and how long a save holds it up."""
    command = [sys.executable, str(HERE / "loop_speed.py")]
    spec: dict[str, Any] = {
        "model": LOOPED,
        "size": 32,
        "batch_size": config.batch_size or 128,
        "backend": config.backend,
        "steps": config.steps,
    }
    title = f"{LOOPED}, batches of {spec['batch_size']}, a checkpoint every {config.steps} steps"
    with tempfile.TemporaryDirectory() as folder:
        sides = {OURS: "loop", BARE: "bare"}
        found = {k: (command, {**spec, "side": v, "folder": folder}) for k, v in sides.items()}
        trained = measured(found, title, config, console)
    added = [1 / ratio - 1 for ratio in ratios(trained["rates"], BARE)]
    own, bare = ([one["cpu"] for one in trained["said"][name]] for name in sides)
    worked = [ours / other - 1 for ours, other in zip(own, bare, strict=True)]
    console.print(
        f"The loop adds {middle([100 * one for one in added], 1)} % to a step; in CPU time of all "
        f"threads {middle([100 * one for one in worked], 1)} %. At most {MOST:g} % is the aim."
    )
    told(trained["said"][OURS], 2, "ms a step", console)
    saved = saving(command, spec, config, console)
    return [{"added": added, "cpu": worked, **trained}, saved]


def saving(
    command: list[str], spec: dict[str, Any], config: Config, console: Console
) -> dict[str, Any]:
    """How long a save of a ResNet-18 with momentum and averaged weights blocks."""
    with tempfile.TemporaryDirectory() as folder:
        own = spec | {"side": "save", "model": SAVED, "folder": folder}
        title = f"saves of {SAVED} a second"
        saved = measured({OURS: (command, own)}, title, config, console)
    told(saved["said"][OURS], 0, "ms", console)
    parts = [one["parts"] for one in saved["said"][OURS]]
    times = middle([one["save"] / one["copy"] for one in parts], 1)
    console.print(f"A save blocks for {times} times as long as a copy to the host.")
    return saved


def told(said: list[dict[str, Any]], digits: int, unit: str, console: Console) -> None:
    """What each part took, by the clock and of CPU time of the loop's own thread."""
    for part in said[0]["parts"]:
        clock, own = ([one[how][part] for one in said] for how in ("parts", "own"))
        console.print(
            f"  {part}: {middle(clock, digits)} {unit}, of them {middle(own, digits)} of CPU time"
        )


WHAT: dict[str, Callable[[Config, Console], list[dict[str, Any]]]] = {
    "step": step,
    "loader": loader,
    "augment": augment,
    "scaling": several,
    "loop": loop,
    "layers": lambda config, console: layers(config.models.split(","), config.batch_size, console),
}


def main(config: Config) -> None:
    """Measure and print."""
    console = Console()
    machine = cpu()
    console.print(f"{machine['model']}, {machine['class']}, {machine['cores']} cores")
    numbers = WHAT[config.what](config, console)
    if config.json is not None:
        files.write(config.json, json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main(
            tyro.cli(
                Config,
                prog="python -m experiments.benchmark",
                description=(__doc__ or "").partition("\n\n")[0],
            )
        )
    except (Refused, Failed) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Refused) else 1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
