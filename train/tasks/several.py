"""Several networks as one task, and one network that sees mirror images too: means of predictions.

    task = ensemble([first.task, second.task])
    task.predict({"0": first_variables, "1": second_variables}, task.inputs(batch))

What is made here predicts and is measured as any other task; it isn't trained.
"""

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from train.tasks.task import Measured, Merging, Task


def ensemble(tasks: Sequence[Task]) -> Task:
    """The mean of what several networks predict of the same batch.

    Args:
        tasks: of one kind, with the same classes or targets; each has inputs of its own, such as
            another normalisation. Variables are a dict: "0" are those of the first.

    Raises:
        ValueError: there is none, or predictions of such a task have no mean.
    """
    if not tasks:
        raise ValueError("tasks=() names none")
    merging = merging_of(tasks[0])

    def inputs(batch: dict) -> tuple[Any, ...]:
        return tuple(task.inputs(batch) for task in tasks)

    def predict(variables: dict, x: tuple[Any, ...]) -> Any:
        each = enumerate(zip(tasks, x, strict=True))
        return merging.mean([task.predict(variables[str(i)], own) for i, (task, own) in each])

    return merged(tasks[0], inputs, predict)


def mirrored(task: Task) -> Task:
    """The mean of what a network predicts of images and of their mirror images, left for right.

    Args:
        task: its inputs read the pixels of a batch and no coordinates. Variables are its own.

    Raises:
        ValueError: predictions of such a task have no mean, or of mirror images tell nothing of
            the images.
    """
    merging = merging_of(task)
    if merging.mirrored is None:
        raise ValueError("predictions of mirror images tell nothing of the images")
    back = merging.mirrored

    def inputs(batch: dict) -> tuple[Any, Any]:
        return task.inputs(batch), task.inputs({**batch, "image": batch["image"][:, :, ::-1]})

    def predict(variables: dict, x: tuple[Any, Any]) -> Any:
        own, other = (task.predict(variables, each) for each in x)
        return merging.mean([own, back(other)])

    return merged(task, inputs, predict)


def merging_of(task: Task) -> Merging:
    """How its predictions are merged.

    Raises:
        ValueError: they can't be.
    """
    if task.merging is None:
        raise ValueError("predictions of such a task have no mean")
    return task.merging


def merged(task: Task, inputs: Callable[[dict], Any], predict: Callable[[dict, Any], Any]) -> Task:
    """A task that predicts otherwise, and is measured, scored and merged as `task` is."""
    merging = merging_of(task)

    def loss(*given: Any) -> NoReturn:
        raise ValueError("a mean of predictions isn't trained: train its networks")

    def measure(variables: dict, batch: dict) -> Measured:
        return merging.measured(predict(variables, inputs(batch)), batch)

    return task._replace(inputs=inputs, loss=loss, predict=predict, measure=measure)
