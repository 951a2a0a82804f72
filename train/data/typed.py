"""Typed: a source's example in the types of the batch's table, its values checked one by one."""

import numpy as np

from train.data.batch import KEYS, Key
from train.data.decode import Unreadable
from train.data.source import Example, Source
from train.data.subset import file_of
from train.refusal import Refused

WANTED = {
    "i": ("iu", "integers"),
    "u": ("iu", "integers"),
    "b": ("b", "bools"),
    "f": ("iuf", "numbers"),
}
"""Kind of a key's type -> the kinds that a source may give, and what they are called."""

CLASSES = ("label", "box_label")
"""Keys whose values are indices of `about.classes`."""


def name(source: Source) -> str:
    """What messages call a source."""
    return f"{source.about.name}/{source.about.split}"


def fault(source: Source, i: int, what: str) -> Refused:
    """What to raise where an example cannot be used and another of its set could not either."""
    file = file_of(source, i)
    where = f" ({file})" if file else ""
    return Refused(f"example {i} of {name(source)}{where} {what}")


def typed(source: Source, i: int, given: Example) -> Example:
    """Example `i` as the batch has it, but for padding; other keys than the table's as they are.

    A float is no class, and becomes none: not 1.7, and not 1.0 either, since whether a set can be
    used must not hang on its values. Steps of a `signal` from its own `length` on become 0.

    Raises:
        Refused: the set is at fault: a key of another type or other axes, a class that the set
            does not declare; names the example, its file where it has one, the key and the value.
        Unreadable: this example is at fault: NaN or infinity in it, or a signal without a step.
    """
    example = {key: np.asarray(value) for key, value in given.items()}
    for key in example:
        if key in KEYS:
            try:
                _check(key, KEYS[key], example[key], len(source.about.classes))
            except ValueError as error:
                raise fault(source, i, f"has {error}") from None
            with np.errstate(over="ignore"):  # what becomes infinite is said below
                example[key] = np.asarray(example[key], KEYS[key].dtype)
    wrong = _broken(example)
    if wrong:
        raise Unreadable(file_of(source, i) or name(source), i, wrong)
    if "signal" in example and "length" in example:
        example["signal"] = _silent(example["signal"], int(example["length"]))
    return example


def _check(key: str, row: Key, value: np.ndarray, classes: int) -> None:
    """Whether a value can be what the table says.

    Raises:
        ValueError: it can not; says what it is.
    """
    if row.dtype is not None and value.size:
        wanted = np.dtype(row.dtype)
        kinds, said = WANTED[wanted.kind]
        if value.dtype.kind not in kinds:
            first = value.ravel()[0].item()
            raise ValueError(f"{key} {first!r} of type {value.dtype}, wanted: {said}")
        if key in CLASSES or (wanted.kind in "iu" and not np.can_cast(value.dtype, wanted)):
            # On the host, and before NumPy or JAX would wrap -1 to the last class.
            low, high = (0, classes - 1) if key in CLASSES else _limits(wanted)
            outside = (value < low) | (value > high)
            if outside.any():
                where = f"the {classes} classes" if key in CLASSES else f"{low}..{high}"
                raise ValueError(f"{key}={value[outside][0]}, outside {where}")
    fixed = [(at, n) for at, n in enumerate(row.shape) if isinstance(n, int)]
    if value.ndim != len(row.shape) or any(value.shape[at] != n for at, n in fixed):
        axes = f"({', '.join(map(str, row.shape))}{',' * (len(row.shape) == 1)})"
        raise ValueError(f"{key} {value.shape}, which is not {axes}")


def _limits(dtype: np.dtype) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _broken(example: Example) -> str:
    """What no network could learn from, in words; "" where all is sound."""
    if "signal" in example:
        steps = len(example["signal"])
        real = int(example.get("length", steps))
        if not 0 < real <= steps:
            return f"length={real} of a signal of {steps} steps"
    for key, value in example.items():
        if key not in KEYS or value.dtype.kind != "f":
            continue
        if key == "signal":
            value = value[:real]
        sound = np.isfinite(value)
        if not sound.all():
            at = tuple(int(axis[0]) for axis in np.nonzero(~sound))
            return f"{key}[{', '.join(map(str, at))}]={value[at]}, which is not finite"
    return ""


def _silent(signal: np.ndarray, length: int) -> np.ndarray:
    """The signal with zeros from `length` on."""
    if not np.any(signal[length:]):  # NaN is not 0
        return signal
    return np.concatenate([signal[:length], np.zeros_like(signal[length:])])
