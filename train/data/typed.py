"""Typed: a source's example in the types of the batch's table, its values checked one by one."""

from typing import Any

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
    example: Example = {}
    for key, value in given.items():
        try:
            array = _array(key, value)
            example[key] = _as(key, KEYS[key], array, source) if key in KEYS else array
        except ValueError as error:
            raise fault(source, i, f"has {error}") from None
    wrong = _broken(example)
    if wrong:
        raise Unreadable(file_of(source, i) or name(source), i, wrong)
    if "signal" in example and "length" in example:
        example["signal"] = _silent(example["signal"], int(example["length"]))
    return example


def _array(key: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{key} whose rows differ in length, which is no array") from None


def _as(key: str, row: Key, value: np.ndarray, source: Source) -> np.ndarray:
    """The value as the table says.

    Raises:
        ValueError: it is something else; says what.
    """
    if value.ndim != len(row.shape) or any(
        n != wanted
        for n, wanted in zip(value.shape, row.shape, strict=True)
        if isinstance(wanted, int)
    ):
        axes = f"({', '.join(map(str, row.shape))}{',' * (len(row.shape) == 1)})"
        raise ValueError(f"{key} {value.shape}, which is not {axes}")
    if key in CLASSES:
        # On the host, and before NumPy or JAX would wrap -1 to the last class.
        _check_kind(key, row.dtype, value)
        classes = len(source.about.classes)
        _check_range(key, value, 0, classes - 1, f"the {classes} classes")
    if row.dtype is None or value.dtype == row.dtype:
        return value
    _check_kind(key, row.dtype, value)
    dtype = np.dtype(row.dtype)
    if dtype.kind in "iu":
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        _check_range(key, value, low, high, f"{low}..{high}")
    with np.errstate(over="ignore"):  # what becomes infinite is found beside NaN
        return value.astype(dtype)


def _check_kind(key: str, dtype: Any, value: np.ndarray) -> None:
    kinds, said = WANTED[np.dtype(dtype).kind]
    if value.dtype.kind not in kinds and value.size:  # an empty list has a type by chance
        first = value.ravel()[:1].tolist()[0]  # of an array of objects, as it is
        raise ValueError(f"{key} {first!r} of type {value.dtype}, wanted: {said}")


def _check_range(key: str, value: np.ndarray, low: int, high: int, where: str) -> None:
    if value.ndim == 0 and low <= int(value) <= high:  # as most are
        return
    if value.size and not low <= value.min() <= value.max() <= high:
        outside = value[(value < low) | (value > high)]
        raise ValueError(f"{key}={outside[0]}, outside {where}")


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
