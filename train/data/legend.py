"""Legend: the classes of a set's masks or boxes, and how the files of its masks show each of them.

A list of classes is a file beside the images, or what a user types, with commas: `background,road`.
An entry is a name, or a name and how masks show it where that is not its place in the list:
`road=255`, a value, or `road=#804080`, a colour. A line `road:128,64,128::` is CVAT's labelmap.
"""

import codecs
import dataclasses
import pathlib
import re
from collections.abc import Iterable, Sequence

from train.data.batch import IGNORE
from train.refusal import Refused

Colours = tuple[tuple[int, int, int], ...]

FILES = (
    "classes.txt",
    "labelmap.txt",
    "class_names.txt",
    "codes.txt",
    "label_colors.txt",
    "class_dict.csv",
)
"""Where a set's classes are listed; of several the first counts, and colours are any one's."""

COLOURED = FILES[-2:]
"""Those with a colour a line, as CamVid's copies have them."""

VOID = (224, 224, 192)
"""The colour that VOC's masks have where they are 255."""

IGNORED = ("ignored", "__ignore__")
"""Entries that Datumaro and labelme write for what is no class: 255."""

BACKGROUND = ("background", "_background_", "__background__")
"""Names for what is no object; no box has it."""

_VALUE = re.compile(r"(.*\S)\s*=\s*(\d{1,5})")
_HEX = re.compile(r"(.*\S)\s*=\s*#([0-9a-fA-F]{6})")
_LABELMAP = re.compile(r"([^:]*):(?:(\d+),\s*(\d+),\s*(\d+))?:[^:]*:[^:]*")
_RGB_LAST = re.compile(r"(.*\S)\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})")
_RGB_FIRST = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\S.*)")


@dataclasses.dataclass(frozen=True)
class Legend:
    """Classes, and what stands for them in a mask's file.

    Attributes:
        names: of the classes, in the order of the network's outputs.
        values: of each in a mask of one channel; 255 is ignored where no class has it.
        colours: of each.
        said: whether values were given, not assumed to be places in the list.
        painted: whether the colours are the set's own; else they are VOC's, for masks in colour.
        ignored: further colours that count as 255.
        origin: the file that names them; "" if none does.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    colours: Colours
    said: bool = False
    painted: bool = False
    ignored: Colours = ()
    origin: str = ""

    @property
    def usual(self) -> bool:
        """Whether masks hold places in the list, in one channel or in VOC's colours."""
        return not self.painted and self.values == tuple(range(len(self.names)))


def plain(names: Sequence[str]) -> Legend:
    """Masks hold places in the list."""
    places = tuple(range(len(names)))
    return Legend(tuple(names), places, colours(len(names)), ignored=(VOID,))


def colours(count: int) -> Colours:
    """Pascal VOC's colour table: a class's bits, from the lowest, are the high bits of red, green
    and blue in turn, so that 0 is black and each class differs from all others.
    """
    return tuple((_channel(c, 0), _channel(c, 1), _channel(c, 2)) for c in range(count))


def _channel(value: int, first: int) -> int:
    return sum((value >> (3 * bit + first) & 1) << (7 - bit) for bit in range(8))


def entries(text: str) -> tuple[str, ...]:
    """What a user types, cut at its commas; () for "".

    Raises:
        Refused: an entry is empty, or it is the name of a file.
    """
    if not text.strip():
        return ()
    found = tuple(each.strip() for each in text.split(","))
    if len(found) == 1 and found[0].lower().endswith(".txt"):
        raise Refused(
            f"classes={text!r} are names with commas between; a list in a file is found where it "
            f"lies beside the images, as {FILES[0]}"
        )
    if "" in found:
        raise Refused(f"classes={text!r}: name {found.index('') + 1} is empty")
    return found


def legend_of(given: Iterable[str], where: str) -> Legend:
    """The legend that a list of entries is.

    Args:
        given: entries, or lines of a labelmap.
        where: of the list, for the refusal: "classes='a,b'".

    Raises:
        Refused: a name or a value twice, an empty name, a colour for some classes and none for
            others; names it.
    """
    names: list[str] = []
    values: list[int] = []
    shown: list[tuple[int, int, int] | None] = []
    ignored: list[tuple[int, int, int]] = []
    said = False
    for entry in given:
        name, value, colour = _parsed(entry)
        if not name:
            raise Refused(f"{where}: name {len(names) + 1} is empty")
        if name.casefold() in IGNORED:
            ignored += [colour] if colour else []
            continue
        said |= value is not None
        values.append(len(names) if value is None else value)
        names.append(name)
        shown.append(colour)
    _refuse_twice(where, "the class", names)
    _refuse_twice(where, "the value", values)
    painted = any(shown)
    if not painted:
        return Legend(tuple(names), tuple(values), colours(len(names)), said, ignored=(VOID,))
    if None in shown:
        raise Refused(f"{where}: {names[shown.index(None)]!r} has no colour, and others have one")
    found = tuple(each for each in shown if each is not None)
    _refuse_twice(where, "the colour", found)
    return Legend(tuple(names), tuple(values), found, said, True, tuple(ignored))


def listed(*folders: pathlib.Path) -> list[Legend]:
    """The lists in `FILES` that lie in the folders, in that order; names in any case.

    Raises:
        Refused: one can't be read, or is none.
    """
    found = []
    for folder in dict.fromkeys(folders):
        try:
            there = {path.name.casefold(): path for path in sorted(folder.iterdir(), reverse=True)}
        except OSError as error:
            raise Refused(f"{str(folder)!r} can't be listed: {error.strerror}") from None
        found += [there[name] for name in FILES if name in there and there[name].is_file()]
    found.sort(key=lambda path: FILES.index(path.name.casefold()))
    return [_in_file(path) for path in found]


def legend_in(given: Sequence[str], *folders: pathlib.Path) -> Legend | None:
    """The legend of a set: by what was typed, else by the lists in its folders; None without one.

    Where the list that counts says no colours, and another one there has some for all its names,
    these are taken.

    Args:
        given: what was typed, cut at commas; may be empty.
        folders: where lists may lie.

    Raises:
        Refused: as `legend_of` and `listed`.
    """
    found = listed(*folders)
    typed = [legend_of(given, f"classes={','.join(given)!r}")] if given else []
    if not typed and not found:
        return None
    chosen = [*typed, *found][0]
    for other in found:
        table = dict(zip(other.names, other.colours, strict=True))
        if not chosen.painted and other.painted and set(chosen.names) <= set(table):
            return dataclasses.replace(
                chosen,
                colours=tuple(table[name] for name in chosen.names),
                painted=True,
                ignored=other.ignored,
            )
    return chosen


def as_before(names: Sequence[str]) -> Legend:
    """Of a run that goes on where nothing says its classes any more: names that are numbers were
    the masks' values (`train.data.mask_values.derived`).
    """
    if all(name.isdecimal() for name in names):
        return legend_of([f"{name}={name}" for name in names], "the run's classes")
    return plain(names)


def without_background(names: Sequence[str]) -> tuple[str, ...]:
    """The classes that boxes may have: a leading background is none."""
    return tuple(names[1:] if names and names[0].casefold() in BACKGROUND else names)


def _in_file(path: pathlib.Path) -> Legend:
    try:
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{str(path)!r} can't be read: {error}") from None
    lines = [line.strip() for line in text.strip().splitlines()]
    lines = [line for line in lines if not line.startswith("#")]
    if not lines:
        raise Refused(f"{str(path)!r} lists no class")
    if (name := path.name.casefold()) in COLOURED:
        lines = [_as_labelmap(line) for line in lines[name.endswith(".csv") :]]  # without its head
    return dataclasses.replace(legend_of(lines, repr(str(path))), origin=str(path))


def _as_labelmap(line: str) -> str:
    """A line `R G B NAME` or `NAME,R,G,B` as a labelmap has it."""
    if found := _RGB_FIRST.fullmatch(line):
        return f"{found[4]}:{found[1]},{found[2]},{found[3]}::"
    found = _RGB_LAST.fullmatch(line)
    return line if found is None else f"{found[1]}:{found[2]},{found[3]},{found[4]}::"


def _parsed(entry: str) -> tuple[str, int | None, tuple[int, int, int] | None]:
    """Name, value and colour of an entry; None for what it does not say."""
    entry = entry.strip()
    if found := _LABELMAP.fullmatch(entry):
        name = found[1].strip()
        if found[2] is None:
            return name, None, None
        red, green, blue = (int(found[i]) for i in (2, 3, 4))
        if max(red, green, blue) > 255:
            raise Refused(f"the colour of {name!r}, {red},{green},{blue}, is beyond 255")
        return name, None, (red, green, blue)
    if found := _HEX.fullmatch(entry):
        red, green, blue = bytes.fromhex(found[2])
        return found[1], None, (red, green, blue)
    if found := _VALUE.fullmatch(entry):
        return found[1], int(found[2]), None
    return entry, None, None


def _refuse_twice(where: str, what: str, given: Sequence[object]) -> None:
    for i, each in enumerate(given):
        if each in given[:i]:
            raise Refused(f"{where} has {what} {each!r} twice")


def ignores(legend: Legend) -> bool:
    """Whether the value 255 is ignored: no class has it."""
    return IGNORE not in legend.values
