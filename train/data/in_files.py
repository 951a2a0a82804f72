"""Data sets in files: the splits of each kind of them."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Sequence

from train.data import coco, folder, layout, mask_folder, mask_layout, series, voc, wav_folder
from train.data.decode import Unreadable
from train.data.legend import FILES as CLASS_LISTS
from train.data.legend import as_before, legend_in, plain, without_background
from train.data.mask_values import derived, settled
from train.data.source import Source
from train.data.split_names import role
from train.data.splits import TAKES, Splits, by_role, refuse_want
from train.refusal import Refused

IN_FILES: dict[str, tuple[str, ...]] = {
    "label": ("folder", "wav", "series"),
    "target": ("series",),
    "boxes": ("coco", "voc"),
    "mask": ("folder", "voc"),
}
"""What is wanted -> the kinds of sets in files that have it."""


def _folder(
    path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]
) -> Splits:
    if want == "mask":
        return _masks(path, classes, earlier)
    refuse_want(path, want, "label")
    train = folder.folder(path)
    if len(names := train.about.classes) == 1:
        raise Refused(
            f"data='folder:{path}' has one class, {names[0]!r}: nothing to tell apart"
            f"{layout.instead(path)}"
        )
    if mask_layout.of_masks(names):
        raise Refused(
            f"data='folder:{path}' holds pictures and their masks, in {' and '.join(names)}, and "
            f"no classes: {TAKES['mask']} takes it"
        )

    def source(split: str) -> Source:
        return train if split == "train" else folder.folder(path, split)

    return by_role(str(path), layout.layout(path).splits, source)


def _coco(
    path: pathlib.Path,
    want: str,
    classes: Sequence[str],
    earlier: Sequence[str],
    outside: bool = False,
) -> Splits:
    del classes, earlier  # its files name their own
    refuse_want(path, want, "boxes")
    found = coco.splits(path)
    name = path.resolve().name
    root = "/" if outside else path
    return by_role(str(path), found, lambda split: coco.coco(*found[split], split, name, root=root))


def _voc(
    path: pathlib.Path,
    want: str,
    classes: Sequence[str],
    earlier: Sequence[str],
    outside: bool = False,
) -> Splits:
    refuse_want(path, want, *voc.LISTS)
    root = voc.root_of(path)
    has = _lists(voc.lists(root, want))
    read = functools.partial(voc.voc, root, outside=outside)
    if want == "boxes":
        given = legend_in(classes, path, root)
        names = voc.CLASSES if given is None else without_background(given.names)
        return by_role(str(path), has, lambda split: read(has[split], want, names))
    own = plain(voc.MASK_CLASSES)
    given = legend_in(classes, path, root)
    if given is not None and given.names == voc.CLASSES:
        given = own  # a list of its objects
    if given is None and not voc.own(root) and not earlier:
        raise Refused(
            f"data='voc:{path}' is not VOC itself, and nothing says what the classes of its masks "
            f"are: --classes background,NAME,… does, or {root / CLASS_LISTS[0]} with a name a line"
        )
    assumed = as_before(earlier) if earlier and not voc.own(root) else own
    legend, note = assumed if given is None else given, ""
    if "train" in has and given is not None:
        train = read(has["train"], want, legend=legend)
        assert isinstance(train, voc.Masks)
        legend, note = settled(legend, _mask_files(train))
    notes = (note,) if note else ()
    return by_role(
        str(path),
        has,
        lambda split: read(has[split], want, legend=legend, notes=notes),
    )


def _mask_files(source: voc.Masks) -> list[pathlib.Path]:
    """Of every example but those whose file can't be told, which is their own fault."""
    found = []
    for i in range(len(source)):
        with contextlib.suppress(Unreadable):
            found.append(source.mask_file(i))
    return found


def _lists(found: Sequence[str]) -> dict[str, str]:
    """Split -> the list of it; the only other one, such as "trainval", is it that trains."""
    has = {role(each) or each: each for each in reversed(found)}
    has |= {role(each) or each: each for each in ("test", "val", "train") if each in found}
    others = [each for each in found if role(each) is None]
    if not {"train", "validation"} & set(has) and len(others) == 1:
        has["train"] = others[0]
    return has


def _masks(path: pathlib.Path, classes: Sequence[str], earlier: Sequence[str]) -> Splits:
    found = mask_folder.splits(path)
    files, given = found["train"].masks, legend_in(classes, path)
    if given is None and earlier:
        given = as_before(earlier)
    if given is None:
        legend, note = derived(f"data='folder:{path}'", files)
    else:
        legend, note = settled(given, files)
    notes = (*found["train"].notes, *([note] if note else []))
    return by_role(
        str(path),
        found,
        lambda split: mask_folder.mask_folder(path, split, found[split], legend, notes),
    )


def _wav(path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]) -> Splits:
    del classes, earlier  # of masks
    refuse_want(path, want, "label", of="signal")
    found = wav_folder.wav_folder(path)
    return by_role(str(path), found, found.__getitem__)


def _series(
    path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]
) -> Splits:
    del classes, earlier  # of masks
    refuse_want(path, want, "label", "target", of="signal")
    found = series.series(path, want)
    return by_role(str(path), found, found.__getitem__)


FILES: dict[str, Callable[..., Splits]] = {
    "folder": _folder,
    "coco": _coco,
    "voc": _voc,
    "wav": _wav,
    "series": _series,
}
LEADING = ("coco", "voc")
"""Kinds of sets whose own files name others."""
LISTED = {"folder": ("mask",), "voc": ("mask", "boxes")}
"""Kind of set -> the annotations whose classes may be said."""
