"""Mask layout: where a set of images and masks in plain folders has each of its splits."""

import pathlib
from collections.abc import Iterable, Sequence

from train.data.listing import below, composed, holds_pictures, subfolders
from train.data.split_names import role
from train.refusal import Refused

IMAGES = ("images", "imgs", "img", "jpegimages", "image")
MASKS = (
    "masks", "labels", "annotations", "mask", "segmentationclass", "gt",
    "segmentationclasspng", "label", "annotation", "ground_truth", "groundtruth", "annot",
)  # fmt: skip
"""What the two folders are called, in any case."""

Places = dict[str, tuple[pathlib.Path, pathlib.Path]]
"""Split -> its folder of images and its folder of masks."""


def places(root: pathlib.Path) -> Places:
    """Where the splits of the set in `root` lie; see `train.data.mask_folder.splits`.

    Raises:
        Refused: nowhere, there is no training split, or two folders are of one kind.
    """
    images, mask = _called(root, IMAGES), _called(root, MASKS)
    if images and mask:
        of_images, of_masks = _by_split(images), _by_split(mask)
        if "train" in of_images and "train" in of_masks:
            return {
                name: (of_images[name], of_masks[name]) for name in of_images if name in of_masks
            }
        if shared := of_images.keys() & of_masks.keys():
            raise Refused(
                f"folder={str(root)!r} has no training split: neither {images / 'train'} nor "
                f"{mask / 'train'}; it has {', '.join(sorted(shared))}"
            )
        return {"train": (images, mask)}
    found: Places = {}
    for split, path in _by_split(root).items():
        images, mask = _called(path, IMAGES), _called(path, MASKS)
        if images and mask:
            found[split] = (images, mask)
    found = found or _twins(root)
    if "train" not in found:
        raise Refused(f"folder={str(root)!r} {_lacks(root)}")
    return found


def of_masks(names: Sequence[str]) -> bool:
    """Whether two folders are called as one of images and one of their masks."""
    called = [name.casefold() for name in names]
    return len(called) == 2 and all({*called} & {*kind} for kind in (IMAGES, MASKS))


def _twins(root: pathlib.Path) -> Places:
    """Folders of images and of masks that are called by split: `train`, `train_masks`."""
    images: dict[str, pathlib.Path] = {}
    mask: dict[str, pathlib.Path] = {}
    for path in subfolders(root):
        for kind, words in ((mask, MASKS), (images, IMAGES), (images, ("",))):
            if (split := _without(path.name.casefold(), words)) is not None:
                if split in kind:
                    raise Refused(_two(root, split, kind[split], path))
                kind[split] = path
                break
    return {split: (images[split], mask[split]) for split in images if split in mask}


def _without(name: str, words: Iterable[str]) -> str | None:
    """The split that a name means without one of the words, before or behind."""
    tried = [name.removesuffix(word) for word in words if name.endswith(word)]
    tried += [name.removeprefix(word) for word in words if name.startswith(word)]
    return next((split for each in tried if (split := role(each))), None)


def _two(root: pathlib.Path, split: str, one: pathlib.Path, other: pathlib.Path) -> str:
    return f"folder={str(root)!r} has two folders for {split}: {one.name} and {other.name}"


def unused(root: pathlib.Path, places: Places) -> list[str]:
    """A line about folders beside those that are read; hidden ones are not spoken of."""
    read = [path for pair in places.values() for path in pair]
    beside = [root, *(path.parent for path in read if path.parent != root)]
    inner = [path for folder in dict.fromkeys(beside) for path in subfolders(folder)]
    left = [path for path in inner if not any(each.is_relative_to(path) for each in read)]
    if not left:
        return []
    shown = ", ".join(str(path.relative_to(root)) for path in left[:8])
    lists = "; voc: reads its lists" if (root / "ImageSets").is_dir() else ""
    return [f"Not used in {root}: {shown}{', …' if len(left) > 8 else ''}{lists}."]


def _lacks(root: pathlib.Path) -> str:
    """Why there are no images and masks, in words."""
    for inner in subfolders(root):
        if _called(inner, IMAGES) and _called(inner, MASKS) and role(inner.name) is None:
            return f"holds no images/ and masks/; {inner} does: name that"
    has = ", ".join(path.name for path in subfolders(root)[:8]) or "none"
    return (
        f"holds no folders of images and masks: wanted are images/ and masks/ with files of the "
        f"same names, or both in train/ (and val/, test/); its folders: {has}"
    )


def _called(root: pathlib.Path, names: Iterable[str]) -> pathlib.Path | None:
    """The folder in `root` that has one of the names and holds pictures.

    Raises:
        Refused: several do.
    """
    there = [path for path in subfolders(root) if path.name.casefold() in names]
    found = [path for path in there if holds_pictures(path)] if len(there) > 1 else there
    if len(found) > 1:
        raise Refused(
            f"folder={str(root)!r} holds both {found[0].name} and {found[1].name}: which of them "
            "is meant is not clear; move or rename one"
        )
    return next(iter(found or there), None)


def _by_split(root: pathlib.Path) -> dict[str, pathlib.Path]:
    found: dict[str, pathlib.Path] = {}
    for path in subfolders(root):
        split = role(path.name)
        if split is None:
            continue
        if split in found:
            raise Refused(_two(root, split, found[split], path))
        found[split] = path
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def pictures(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Name below `root` -> file, of all pictures below it, those of formats that are not read too.

    Linked folders are entered, each once, see `train.data.listing.below`.

    Raises:
        Refused: a folder can't be listed.
    """
    found = next(below(root.parent, [root.name]))
    return {
        composed(pathlib.PurePath(path).relative_to(root.name).as_posix()): root.parent / path
        for path in (*found.pictures, *found.unread)
    }
