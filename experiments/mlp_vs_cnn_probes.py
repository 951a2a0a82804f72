"""How `mlp_vs_cnn.py` measures a trained network: on images moved, permuted, or of another size."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments import mlp_vs_cnn_findings as findings
from experiments.mlp_vs_cnn_findings import Accuracy, Findings
from experiments.mlp_vs_cnn_networks import TRAININGS, Training, adaptive, counts
from train.augment import Geometric, chain
from train.checkpoints import Damaged
from train.data.order import once
from train.data.resident import Resident
from train.data.source import About, Source
from train.evaluate import evaluate
from train.mesh import make_mesh, replicated
from train.opened import opened
from train.prepared import first_devices
from train.refusal import Refused
from train.stop import Stop, Stopped
from train.tasks import adapt
from train.tasks.classification import classification
from train.tasks.task import Task

Fitted = tuple[nn.Module, dict[str, Any]]
"""A network and its variables."""
Probe = Callable[[Fitted, adapt.Adapt], Callable[[np.ndarray], float]]
"""Network, adapt -> (map (3, 3) -> accuracy on all test images, moved, then adapted)."""


def permutation(pixels: int, seed: int) -> np.ndarray:
    """(pixels,): where each is taken from; the same in every version of NumPy."""
    return np.argsort(np.random.Philox(key=seed).random_raw(pixels), kind="stable")


def permuted(seed: int) -> adapt.Adapt:
    """The positions of every image in one and the same other order; channels stay together."""

    def shuffle(images: jax.Array) -> jax.Array:
        count, height, width, channels = images.shape
        rows = images.reshape(count, height * width, channels)
        return rows[:, permutation(height * width, seed)].reshape(images.shape)

    return shuffle


def task_of(network: nn.Module, about: About, brought: adapt.Adapt) -> Task:
    """Classification by a network, of images that `brought` has changed."""
    assert about.mean, "channel statistics have not been measured"
    assert about.std
    classes = len(about.classes)
    return classification(
        network, num_classes=classes, mean=about.mean, std=about.std, adapt=brought
    )


def shift(x: float, y: float) -> np.ndarray:
    """To the right and down, in pixels."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def rotation(degrees: float, side: int) -> np.ndarray:
    """About the centre of a square image, clockwise, since y runs down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return shift(side / 2, side / 2) @ turn @ shift(-side / 2, -side / 2)


def probe(about: About, test: Source, mesh: Mesh, batch_size: int, stop: Stop) -> Probe:
    """A network is compiled once for all maps; a signal is heard between two of them."""
    loader = Resident(test, mesh=mesh, batch_size=batch_size, order=once)

    def of(trained: Fitted, brought: adapt.Adapt) -> Callable[[np.ndarray], float]:
        network, variables = trained
        task = task_of(network, about, brought)._replace(score=None)

        @jax.jit
        def moved(variables: dict, data: Any, payload: Any, matrix: jax.Array):
            key = jax.random.key(0)
            batch = loader.device(data, payload, 0, key)
            move = Geometric(lambda key, batch: jnp.broadcast_to(matrix, (batch_size, 3, 3)))
            batch = chain(move, fill=0)(key, batch)
            return task.measure(variables, batch), batch["index"], batch["valid"]

        def accuracy(matrix: np.ndarray) -> float:
            if stop.signal is not None:
                raise Stopped(stop.signal)
            measure = partial(moved, matrix=jnp.asarray(matrix, jnp.float32)[None])
            (summary,) = evaluate(measure, task, loader, test, variables)
            return summary.scalars["accuracy"]

        return accuracy

    return of


def takes(trained: Fitted, image: tuple[int, int, int]) -> bool:
    """Whether the weights are for images of this shape too."""
    network, variables = trained
    x = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    try:
        jax.eval_shape(partial(network.apply, train=False), variables, x)
    except ValueError:
        return False
    return True


def changes(config: Any, side: int) -> Iterator[tuple[str, int, list[np.ndarray]]]:
    """Change, its amount, and the maps of the image plane whose mean counts.

    Args:
        config: the study's, with `shifts` and `angles`.
        side: of the images, in pixels.
    """
    yield findings.CLEAN, 0, [np.eye(3)]
    for n in config.shifts:
        yield findings.SHIFT, n, [shift(n, 0), shift(-n, 0), shift(0, n), shift(0, -n)]
    for n in config.angles:
        yield findings.ROTATION, n, [rotation(n, side), rotation(-n, side)]
    yield findings.MIRROR, 0, [np.array([[-1, 0, side], [0, 1, 0], [0, 0, 1]])]
    yield findings.UPSIDE_DOWN, 0, [np.array([[1, 0, 0], [0, -1, side], [0, 0, 1]])]


def accuracies(
    config: Any, about: About, trained: Mapping[Training, Fitted], of: Probe
) -> Iterator[Accuracy]:
    """Of the networks after every change, under the permutation, and at every size.

    Args:
        config: the study's.
        about: of the data.
        trained: the networks.
        of: what measures them.
    """
    assert about.shape
    side, _, channels = about.shape
    sized = {one.name: fitted for one, fitted in trained.items() if not one.permuted}
    for name, fitted in sized.items():
        accuracy = of(fitted, adapt.as_it_is)
        for change, amount, maps in changes(config, side):
            yield Accuracy(name, change, amount, statistics.fmean(map(accuracy, maps)))
    for one, fitted in trained.items():
        if one.permuted:
            accuracy = of(fitted, permuted(config.permutation))
            yield Accuracy(one.name, findings.PERMUTED, 0, accuracy(np.eye(3)))
    sized["adaptive"] = adaptive(sized["flatten"], side)
    for name, fitted in sized.items():
        for size in config.sizes:
            found = None
            if takes(fitted, (size, size, channels)):
                found = of(fitted, adapt.resized(size, size))(np.eye(3))
            yield Accuracy(name, findings.SIZE, size, found)


def measure(config: Any, test: Source, path: Path) -> Findings:
    """All that is found of the networks trained in a directory.

    Args:
        config: the study's.
        test: the test split.
        path: of the study: a run in it for each of `TRAININGS`.

    Raises:
        Refused: the weights of one are damaged.
    """
    mesh = make_mesh(first_devices(config.devices))
    trained: dict[Training, Fitted] = {}
    for name, training in TRAININGS.items():
        try:
            one = opened(path / name, backend=config.backend)
        except Damaged as error:
            raise Refused(
                f"{path / name}: {error}; without this directory it is trained again"
            ) from None
        trained[training] = one.parts.network, jax.device_put(one.variables, replicated(mesh))
    about = one.about
    assert about.shape
    with Stop() as stop:
        of = probe(about, test, mesh, config.batch_size, stop)
        return Findings(
            config.data,
            about.shape[0],
            len(test),
            list(counts(config.channels, about)),
            list(accuracies(config, about, trained, of)),
        )
