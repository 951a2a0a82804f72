"""Images and masks in folders side by side, which their names bring together."""

import functools
import hashlib
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from train.data import masks
from train.data.decode import picture
from train.data.legend import Legend
from train.data.listing import composed, holds_pictures
from train.data.mask_layout import pictures, places, unused
from train.data.sampled import FORM, sampled
from train.data.source import About, Example
from train.refusal import Refused

SEPARATORS = "_-. "
"""With one of them begins what all masks may have behind the names of their images: `a_mask`."""

SHOWN = 3
"""Names in a line that counts what is left out."""


class Pairs(NamedTuple):
    """The images of a split, the mask of each, and what was left out, in lines."""

    images: list[pathlib.Path]
    masks: list[pathlib.Path]
    notes: tuple[str, ...]


def splits(root: pathlib.Path) -> dict[str, Pairs]:
    """The pairs of each split: "train" alone where the folders are not divided.

    `root/images` and `root/masks`, both divided alike or not at all (`root/images/train`), or
    within folders of the splits (`root/train/images`), or beside each other (`root/train` and
    `root/train_masks`); called as `train.data.mask_layout` and `train.data.split_names` say.
    A mask has the name of its image, or all have the same behind it: `a_mask.png` of `a.jpg`.
    Endings don't count, nor does case where it does not tell two names apart.

    Raises:
        Refused: there are no such folders, or two of a kind; two pictures of a name, or no image
            has a mask.
    """
    lie = places(root)
    found: dict[str, Pairs] = {}
    notes: list[str] = []
    for split, (images, mask) in lie.items():
        if split != "train" and not holds_pictures(mask):
            notes.append(f"{images} is not used: its images have no masks.")
            continue
        found[split] = _paired(images, mask)
        notes += found[split].notes
    notes += unused(root, lie)
    found["train"] = found["train"]._replace(notes=tuple(notes))
    return found


def mask_folder(
    root: pathlib.Path,
    split: str,
    pairs: Pairs,
    legend: Legend,
    notes: Sequence[str] = (),
    mirror: bool | None = None,
) -> "MaskFolder":
    """A split of a folder of images and masks.

    Args:
        root: the set's folder.
        split: its name.
        pairs: of `splits(root)`.
        legend: of its masks.
        notes: see `train.data.source.Source`.
        mirror: whether a mirror image keeps its classes; None: nobody has judged it.
    """
    about = About(
        name=composed(root.resolve().name),
        split=split,
        classes=(),
        mirror=mirror,
        mask_classes=legend.names,
        colours=legend.colours,
    )
    return MaskFolder(root, pairs, legend, about, tuple(notes))


class MaskFolder:
    """Images and masks; what is wrong with one is `Unreadable` when its example is read."""

    def __init__(
        self,
        root: pathlib.Path,
        pairs: Pairs,
        legend: Legend,
        about: About,
        notes: tuple[str, ...] = (),
    ):
        self.about = about
        self.legend, self.notes = legend, notes
        self._root = root
        self._images, self._masks = ([str(path) for path in each] for each in pairs[:2])

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> Example:
        image = picture(pathlib.Path(self._images[self._inside(i)]), i)
        return {
            "image": image,
            "mask": masks.mask_of(self.mask_file(i), i, image.shape, self.legend),
        }

    def truth(self, i: int) -> dict[str, Any]:
        """The mask of example i; of its image the header is read."""
        image = pathlib.Path(self._images[self._inside(i)])
        return masks.truth_of(image, self.mask_file(i), i, self.legend)

    def name(self, i: int) -> str:
        """The image file of example i."""
        return self._images[self._inside(i)]

    def mask_file(self, i: int) -> pathlib.Path:
        """Of example i."""
        return pathlib.Path(self._masks[self._inside(i)])

    @functools.cached_property
    def fingerprint(self) -> str:
        """`FORM` and a SHA-256: of the classes and what stands for them, and of every file its
        name, size and sampled bytes (`train.data.sampled`).
        """
        legend = self.legend
        facts = (legend.names, legend.values, legend.colours, legend.painted, legend.ignored)
        digest = hashlib.sha256(repr(facts).encode(errors="surrogateescape"))
        files = [path for pair in zip(self._images, self._masks, strict=True) for path in pair]
        for path, (size, content) in zip(files, sampled(files), strict=True):
            name = composed(pathlib.Path(path).relative_to(self._root).as_posix())
            digest.update(b"\0%b\0%d\0%b" % (name.encode(errors="surrogateescape"), size, content))
        return FORM + digest.hexdigest()

    def _inside(self, i: int) -> int:
        if not 0 <= i < len(self._images):
            raise IndexError(f"index {i} is outside 0..{len(self._images) - 1}")
        return i


def _paired(images: pathlib.Path, mask: pathlib.Path) -> Pairs:
    """Every image that has a mask, by name."""
    ours, theirs = _named(images), _named(mask)
    if not ours or not theirs:
        raise Refused(f"folder={str(images if not ours else mask)!r} holds no picture")
    if all(len({name.casefold() for name in each}) == len(each) for each in (ours, theirs)):
        ours, theirs = ({n.casefold(): p for n, p in each.items()} for each in (ours, theirs))
    behind = _behind(ours, theirs)
    mask_of = {stem[: len(stem) - len(behind)]: path for stem, path in theirs.items()}
    both = [stem for stem in ours if stem in mask_of]
    if not both:
        raise Refused(
            f"no image in {images} has a mask in {mask}: their names differ, such as "
            f"{next(iter(ours.values())).relative_to(images)} and "
            f"{next(iter(theirs.values())).relative_to(mask)}"
        )
    alone = [path for stem, path in ours.items() if stem not in mask_of]
    without = [path for stem, path in mask_of.items() if stem not in ours]
    notes = [
        *_left_out(alone, "images", "image", f"no mask in {mask}"),
        *_left_out(without, "masks", "mask", f"no image in {images}"),
    ]
    return Pairs([ours[stem] for stem in both], [mask_of[stem] for stem in both], tuple(notes))


def _behind(images: Mapping[str, Any], masks: Mapping[str, Any]) -> str:
    """What all masks have behind their images' names; "" where names are equal."""
    letters = zip(*(reversed(stem) for stem in masks), strict=False)
    equal = itertools.takewhile(lambda each: len(set(each)) == 1, letters)
    common = "".join(letter for letter, *_ in equal)[::-1]
    ends = [common[i:] for i in reversed(range(len(common))) if common[i] in SEPARATORS]
    tried = ["", *ends]
    counts = [sum(stem[: len(stem) - len(end)] in images for stem in masks) for end in tried]
    return tried[counts.index(max(counts))]


def _left_out(paths: Sequence[pathlib.Path], many: str, one: str, why: str) -> list[str]:
    if not paths:
        return []
    shown = ", ".join(path.name for path in paths[:SHOWN]) + (", …" if len(paths) > SHOWN else "")
    has = f"{many} have" if len(paths) > 1 else f"{one} has"
    return [f"Left out: {len(paths):,} {has} {why}: {shown}."]


def _named(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Name below `root`, without its ending -> the picture, in order.

    Raises:
        Refused: two pictures have one name.
    """
    found: dict[str, pathlib.Path] = {}
    for name, path in sorted(pictures(root).items()):
        stem = name[: len(name) - len(path.suffix)]
        if stem in found:
            raise Refused(f"{found[stem]} and {path} have one name: which is meant is not clear")
        found[stem] = path
    return found
