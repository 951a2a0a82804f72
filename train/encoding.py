"""Encoding: dataclasses to JSON and back, each value checked against its annotation."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

Kind = TypeVar("Kind")


class Wrong(ValueError):
    """A value is not what the annotation of its field says; names the field."""


def plain(value: Any) -> Any:
    """What JSON has a form for: a dataclass becomes an object, a tuple an array, a path a string.

    Raises:
        TypeError: something in it has no such form.
    """
    return msgspec.to_builtins(value, enc_hook=_as_text)


def decoded(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """The dataclass that `plain` was given.

    Arrays become the tuples that the annotations name, nested ones too, and strings become paths.
    A field that is absent takes its default: it was added since the values were written, and its
    default says how things were before.

    Args:
        kind: a dataclass.
        values: an object of JSON.

    Raises:
        Wrong: an unknown field, a missing one that has no default, or a value of another type. An
            integer is taken for a float; true is no integer, and 60.0 neither.
        Exception: what the dataclass itself raises.
    """
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - fields):
        raise Wrong(f"unknown fields: {', '.join(unknown)}")
    try:
        return msgspec.convert(values, kind, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        what, found, where = str(error).rpartition(" - at `$.")
        if not found:
            raise Wrong(f"{where[:1].lower()}{where[1:]}") from None
        name = where.rstrip("`")
        top = name.partition("[")[0].partition(".")[0]
        raise Wrong(f"{name}={values.get(top)!r}: {what[:1].lower()}{what[1:]}") from None


def _as_text(value: Any) -> str:
    if isinstance(value, pathlib.PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _from_text(kind: type, value: Any) -> Any:
    if issubclass(kind, pathlib.PurePath):
        return kind(value)
    raise TypeError(f"{kind.__name__} has no form in JSON")
