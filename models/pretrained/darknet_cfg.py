"""Darknet's `.cfg`: the sections of a network, in one form whatever is spelled out in the file."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NEUTRAL = {
    "antialiasing": "0",
    "assisted_excitation": "0",
    "binary": "0",
    "deform": "0",
    "dilation": "1",
    "group_id": "0",
    "groups": "1",
    "new_coords": "0",
    "reverse": "0",
    "scale": "1",
    "scale_x_y": "1",
    "share_index": "-1000000000",
    "stride_x": "",
    "stride_y": "",
    "weights_type": "none",
    "xnor": "0",
}
"""Options that change what a layer computes, and their values that change nothing."""


class Section(NamedTuple):
    """A layer as a cfg has it."""

    kind: str
    """"convolutional"."""
    options: dict[str, Any]
    """What it computes, by option: layers by their number from 0, padding in pixels, and of [yolo]
    the anchors of its mask."""


def read_sections(path: pathlib.Path) -> list[Section]:
    """The layers of a cfg, in order, without [net].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no cfg, or the image has other than 3 channels; an option is no number, or
            in `NEUTRAL` with another value: the section is named.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such cfg")
    (kind, net), *layers = raw_sections(path)
    if kind not in ("net", "network"):
        raise ValueError(f"{path}: a cfg begins with [net], not with [{kind}]")
    if number(net, "channels", 3) != 3:
        raise ValueError(f"{path}: [net]: channels={net['channels']}, expected 3")
    sections = []
    for at, (kind, options) in enumerate(layers):
        where = f"{path}: section {at} [{kind}]"
        for name, neutral in NEUTRAL.items():
            if name in options and not equal(options[name], neutral):
                raise ValueError(f"{where}: {name}={options[name]} is not supported")
        try:
            sections.append(Section(kind, normal(kind, options, at)))
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"{where}: {error}") from error
    return sections


def raw_sections(path: pathlib.Path) -> list[tuple[str, dict[str, str]]]:
    """Names and options as they are written."""
    found: list[tuple[str, dict[str, str]]] = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for count, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].split(";")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            found.append((line[1:-1].strip(), {}))
        elif line:
            name, equals, value = line.partition("=")
            if not equals or not found:
                raise ValueError(f"{path}: line {count} is none of a cfg: {line[:40]!r}")
            found[-1][1][name.strip()] = value.strip()
    if not found:
        raise ValueError(f"{path}: there are no sections")
    return found


def normal(kind: str, options: Mapping[str, str], at: int) -> dict[str, Any]:
    """What a section computes; {} of a kind that no network here has."""
    if kind == "convolutional":
        size = number(options, "size", 1)
        return {
            "filters": number(options, "filters", 1),
            "size": size,
            "stride": number(options, "stride", 1),
            "padding": size // 2 if number(options, "pad", 0) else number(options, "padding", 0),
            "batch_normalize": number(options, "batch_normalize", 0),
            "activation": options.get("activation", "logistic"),
        }
    if kind == "maxpool":
        stride = number(options, "stride", 1)
        size = number(options, "size", stride)
        padding = number(options, "padding", size - 1)
        rest = {} if padding == size - 1 else {"padding": padding}
        return {"size": size, "stride": stride} | rest
    if kind == "upsample":
        return {"stride": number(options, "stride", 2)}
    if kind in ("route", "shortcut"):
        option = "layers" if kind == "route" else "from"
        if option not in options:
            raise ValueError(f"there is no {option}")
        sources = tuple(int(one) + (at if int(one) < 0 else 0) for one in listed(options[option]))
        rest = {} if kind == "route" else {"activation": options.get("activation", "linear")}
        return {"layers": sources} | rest
    if kind == "yolo":
        values = [float(one) for one in listed(options.get("anchors", ""))]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        mask = [int(one) for one in listed(options.get("mask", ""))] or range(len(pairs))
        if not pairs or not 0 <= min(mask) <= max(mask) < len(pairs):
            raise ValueError(f"mask={list(mask)} of {len(pairs)} anchors")
        if number(options, "num", len(pairs)) != len(pairs):
            raise ValueError(f"num={options['num']}, but {len(pairs)} anchors")
        return {
            "anchors": tuple(pairs[one] for one in mask),
            "classes": number(options, "classes", 20),
        }
    return {}


def same(path: pathlib.Path, found: Sequence[Section], ours: Sequence[Section]) -> None:
    """Refuses a cfg whose layers are not ours.

    Raises:
        ValueError: the first section that is another one, and the option.
    """
    for at, (theirs, wanted) in enumerate(zip(found, ours, strict=False)):
        where = f"{path}: section {at} [{theirs.kind}]"
        if theirs.kind != wanted.kind:
            raise ValueError(f"{where}: expected [{wanted.kind}]")
        for name in sorted(theirs.options.keys() | wanted.options.keys()):
            value, expected = theirs.options.get(name), wanted.options.get(name)
            if value != expected:
                name = "from" if (theirs.kind, name) == ("shortcut", "layers") else name
                raise ValueError(f"{where}: {name}={value}, expected {expected}")
    if len(found) != len(ours):
        raise ValueError(f"{path}: {len(found)} sections, expected {len(ours)}")


def number(options: Mapping[str, str], name: str, default: int) -> int:
    """An option as a whole number."""
    try:
        return int(options.get(name, default))
    except ValueError:
        raise ValueError(f"{name}={options[name]} is no whole number") from None


def listed(value: str) -> list[str]:
    """The parts between commas that are not empty."""
    return [one.strip() for one in value.split(",") if one.strip()]


def equal(value: str, neutral: str) -> bool:
    """Whether two options are the same, as numbers if they are."""
    try:
        return float(value) == float(neutral)
    except ValueError:
        return value == neutral
