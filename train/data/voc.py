"""Pascal VOC: an XML file of boxes an image, or a mask in a palette's indices (Everingham 2010)."""

import codecs
import functools
import hashlib
import os
import pathlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np

from train.data import decode, masks
from train.data.boxes import boxes, leaving, solid
from train.data.decode import Unreadable
from train.data.endings import ENDINGS, UNREAD
from train.data.inside import refuse_outside
from train.data.legend import Legend, plain
from train.data.lookup import Lookup
from train.data.sampled import FORM, sampled
from train.data.source import About, Example
from train.refusal import Refused, choose

# fmt: off
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)
# fmt: on
"""VOC's own; a mask has "background" before them."""
MASK_CLASSES = ("background", *CLASSES)

LISTS = {"boxes": "Main", "mask": "Segmentation"}
"""What is wanted -> the folder of ImageSets that says which images have it."""


def root_of(path: pathlib.Path) -> pathlib.Path:
    """The folder that holds ImageSets: `path`, or the one VOC... below it or its VOCdevkit.

    Raises:
        Refused: there is none, or several; names them.
    """
    tried = [path, *sorted(path.glob("VOC*")), *sorted(path.glob("VOCdevkit/VOC*"))]
    found = [root for root in tried if (root / "ImageSets").is_dir()]
    if len(found) == 1 or path in found:
        return found[0]
    several = f"; it has {', '.join(map(str, found))}: name one" if found else ""
    raise Refused(f"voc={str(path)!r} holds no ImageSets of its own{several}")


def own(root: pathlib.Path) -> bool:
    """Whether it is VOC itself: by its name, such as VOC2012, or by a list of its first class."""
    named = re.search(r"voc\W?(19|20)\d\d", root.resolve().name, re.IGNORECASE)
    return bool(named) or any(root.glob(f"ImageSets/*/{CLASSES[0]}_*.txt"))


def lists(root: pathlib.Path, want: str) -> list[str]:
    """Names of the splits that a set has for what is wanted: "train", "trainval", "val", ...

    Raises:
        Refused: the set has no such lists; `want` is neither "boxes" nor "mask".
    """
    folder = root / "ImageSets" / LISTS[choose("want", want, LISTS)]
    found = sorted(path.stem for path in folder.glob("*.txt") if "_" not in path.stem)
    if not found:
        raise Refused(f"voc={str(root)!r} has no lists of images: no file {folder}/*.txt")
    return found


def voc(
    root: str | os.PathLike,
    split: str,
    want: str = "boxes",
    classes: Sequence[str] = CLASSES,
    mirror: bool | None = None,
    legend: Legend | None = None,
    notes: tuple[str, ...] = (),
    outside: bool = False,
) -> "Boxes | Masks":
    """The images that a list of a set in VOC's folders names.

    `root` holds Annotations/NAME.xml, JPEGImages/NAME.jpg, SegmentationClass/NAME.png, and
    ImageSets/Main/SPLIT.txt (boxes) or ImageSets/Segmentation/SPLIT.txt (masks), a name a line, in
    UTF-8. Images and masks may end in any of `train.data.endings.ENDINGS`, in any case; several
    files of one name are `Unreadable`. A line may give the ending too, and what lists of one class
    have behind the name, 1, -1 or 0; names may hold spaces.

    VOC's corners are 1-based and inclusive: [1, 1, 500, 375] of a 500x375 image is [0, 0, 500,
    375]. `difficult` becomes `box_difficult`. A mask keeps the palette's indices: 0 background,
    class + 1, 255 = ignore.

    Args:
        root: the folder, such as VOCdevkit/VOC2012.
        split: a list of `lists(root, want)`.
        want: "boxes" or "mask".
        classes: names as the XML files use them, in the order of the masks' indices from 1.
        mirror: whether a mirror image keeps its label; by default it does for VOC's own classes,
            and of others nobody has judged it.
        legend: of masks, in place of `classes`: names, the background's too, and what stands for
            them in the files.
        notes: of masks, see `train.data.source.Source`.
        outside: whether names may lead out of `root`.

    Raises:
        Refused: no such folder, list or annotation, an empty list, one that is not in UTF-8, or a
            name that leads out of `root`.
    """
    root = pathlib.Path(root)
    choose("split", split, lists(root, want))
    listed = root / "ImageSets" / LISTS[want] / f"{split}.txt"
    names = _names(root, listed)
    if not outside:
        refuse_outside(f"voc={str(listed)!r}", names, root / "JPEGImages", root)
    legend = legend or plain(("background", *classes))
    known = legend.names[1:] if want == "mask" else tuple(classes)
    mirror = True if mirror is None and known == CLASSES else mirror
    if want == "boxes":
        about = About(name=root.resolve().name, split=split, classes=tuple(classes), mirror=mirror)
        return Boxes(root, names, about)
    about = About(
        name=root.resolve().name,
        split=split,
        classes=(),
        mirror=mirror,
        mask_classes=legend.names,
        colours=legend.colours,
    )
    return Masks(root, names, about, legend, notes)


def _names(root: pathlib.Path, path: pathlib.Path) -> list[str]:
    """The names of images in a list.

    Raises:
        Refused: it cannot be read, or there is none.
    """
    try:
        content = path.read_bytes()
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
            raise Refused(f"voc={str(path)!r} is in UTF-16; wanted: UTF-8")
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"voc={str(path)!r} can't be read: {error}") from None
    images = Lookup(root / "JPEGImages", ENDINGS)
    names = [_name(line.strip(), images) for line in lines if line.strip()]
    if not names:
        raise Refused(f"voc={str(path)!r} lists no image")
    return names


def _name(line: str, images: Lookup) -> str:
    """The image that a line names: all of it, if there is such a file, or without what follows."""
    words = line.rsplit(maxsplit=1)
    before = words[0] if words[1:] in (["1"], ["-1"], ["0"]) else line
    tried = (line, before, line.split()[0])
    return next((name for name in tried if images.find(name)), before)


class _Voc:
    """Images by name."""

    def __init__(self, root: pathlib.Path, names: list[str], about: About):
        self.about = about
        self._root = root
        self._names = names
        self._images = Lookup(root / "JPEGImages", ENDINGS)
        self._unread = Lookup(root / "JPEGImages", UNREAD)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, i: int) -> str:
        """The image file of example i."""
        return str(self._image(self._name(i)))

    def _annotated(self, name: str) -> pathlib.Path:
        """The file of an image's annotations."""
        raise NotImplementedError

    @functools.cached_property
    def fingerprint(self) -> str:
        """`FORM` and a SHA-256: of classes, names, and of every image and annotation its size and
        sampled bytes (`train.data.sampled`).
        """
        classes = (*self.about.classes, *self.about.mask_classes)
        digest = hashlib.sha256("\n".join(classes).encode(errors="surrogateescape"))
        digest.update("".join(f"\n{name}" for name in self._names).encode())
        files = (self._image, self._annotated)
        for size, content in sampled(str(file(name)) for name in self._names for file in files):
            digest.update(b"\0%d\0%b" % (size, content))
        return FORM + digest.hexdigest()

    @functools.cached_property
    def earlier_fingerprint(self) -> str:
        """As runs of 0.1 recorded it: without the sampled bytes."""
        classes = (*self.about.classes, *self.about.mask_classes)
        digest = hashlib.sha256("\n".join(classes).encode())
        for name in self._names:
            sizes = [decode.length(path) for path in (self._image(name), self._annotated(name))]
            digest.update(f"\n{name} {sizes}".encode())
        return digest.hexdigest()

    def _image(self, name: str) -> pathlib.Path:
        """The file of an image; where there is none that is read, one of another format, which is
        refused by its name, else the one that VOC would have.
        """
        found = self._images.find(name) or self._unread.find(name)
        ending = ".jpg" if self._images.bare(name) == name else ""
        return found[0] if found else self._root / "JPEGImages" / f"{name}{ending}"

    def _picture(self, i: int) -> pathlib.Path:
        """The one image file of example i."""
        name = self._name(i)
        return _only(self._images.find(name), i) or self._image(name)

    def _beside(self, files: Lookup, name: str) -> list[pathlib.Path]:
        """The files that annotate an image, whose name may be given with its ending."""
        return files.find(self._images.bare(name)) or files.find(name)

    def _name(self, i: int) -> str:
        if not 0 <= i < len(self._names):
            raise IndexError(f"index {i} is outside 0..{len(self._names) - 1}")
        return self._names[i]


class Boxes(_Voc):
    """Images and boxes; what is wrong with one is `Unreadable` when its example is read."""

    def __init__(self, root: pathlib.Path, names: list[str], about: About):
        super().__init__(root, names, about)
        self.clipped: dict[int, int] = {}
        self.empty: dict[int, int] = {}
        self._files = Lookup(root / "Annotations", (".xml",))

    def __getitem__(self, i: int) -> Example:
        image = decode.picture(self._picture(i), i)
        return {"image": image, **self._truth(i, image.shape[:2])}

    def truth(self, i: int) -> dict[str, Any]:
        """The boxes of example i; its image is not opened."""
        return self._truth(i, None)

    def _annotated(self, name: str) -> pathlib.Path:
        found = self._beside(self._files, name)
        return found[0] if found else self._root / "Annotations" / f"{self._images.bare(name)}.xml"

    def _truth(self, i: int, shape: tuple[int, ...] | None) -> dict[str, np.ndarray]:
        path = self._annotated(self._name(i))
        try:
            root = ET.fromstring(decode.content(path, i).lstrip())
            height, width = (int(_text(root, f"size/{key}")) for key in ("height", "width"))
            if shape is not None and shape != (height, width):
                raise ValueError(
                    f"it says {width}x{height}, the upright image is {shape[1]}x{shape[0]}"
                )
            objects = root.findall("object")
            rows = np.array([_corners(one) for one in objects], np.float64).reshape(-1, 4)
            kept = boxes(rows, height, width)
            there = solid(kept)
            if count := leaving(rows[there], height, width):
                self.clipped[i] = count
            if not there.all():
                self.empty[i] = int((~there).sum())
            difficult = [one.findtext("difficult", "0").strip() == "1" for one in objects]
            return {
                "boxes": kept[there],
                "box_label": np.array([self._label(one) for one in objects], np.int32)[there],
                "box_difficult": np.array(difficult, np.bool_)[there],
            }
        except (ET.ParseError, ValueError, LookupError, OverflowError) as error:
            raise Unreadable(str(path), i, str(error)) from error

    def _label(self, one: ET.Element) -> int:
        name = _text(one, "name")
        if name not in self.about.classes:
            raise ValueError(
                f"class {name!r} is none of the {len(self.about.classes)} of the set; --classes "
                "names those of another set, or a classes.txt beside ImageSets, with a name a line"
            )
        return self.about.classes.index(name)


class Masks(_Voc):
    """Images and masks; what is wrong with one is `Unreadable` when its example is read."""

    def __init__(
        self,
        root: pathlib.Path,
        names: list[str],
        about: About,
        legend: Legend,
        notes: tuple[str, ...] = (),
    ):
        super().__init__(root, names, about)
        self.legend, self.notes = legend, notes
        self._masks = Lookup(root / "SegmentationClass", ENDINGS)

    def __getitem__(self, i: int) -> Example:
        image = decode.picture(self._picture(i), i)
        return {"image": image, "mask": self._mask(i, image.shape)}

    @functools.cached_property
    def fingerprint(self) -> str:
        """As of `_Voc`; of values and colours too, where the masks' are not the usual ones."""
        usual = super().fingerprint
        if self.legend.usual:
            return usual
        facts = (usual, self.legend.values, self.legend.painted and self.legend.colours)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def truth(self, i: int) -> dict[str, Any]:
        """The mask of example i; of its image the header is read."""
        return masks.truth_of(self._picture(i), self.mask_file(i), i, self.legend)

    def mask_file(self, i: int) -> pathlib.Path:
        """Of example i."""
        name = self._name(i)
        return _only(self._beside(self._masks, name), i) or self._annotated(name)

    def _annotated(self, name: str) -> pathlib.Path:
        found = self._beside(self._masks, name)
        bare = self._images.bare(name)
        return found[0] if found else self._root / "SegmentationClass" / f"{bare}.png"

    def _mask(self, i: int, shape: tuple[int, ...]) -> np.ndarray:
        return masks.mask_of(self.mask_file(i), i, shape, self.legend)


def _only(found: list[pathlib.Path], i: int) -> pathlib.Path | None:
    """The one file of a name; None if there is none.

    Raises:
        Unreadable: there are several: which of them is meant, nobody says.
    """
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise Unreadable(str(found[0]), i, f"it is one of {len(found)} of that name: {names}")
    return found[0] if found else None


def _text(element: ET.Element, path: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise ValueError(f"it has no <{path}>")
    return found.strip()


def _corners(one: ET.Element) -> list[float]:
    """x0 y0 x1 y1, continuous, of 1-based inclusive ones."""
    x0, y0, x1, y1 = (
        float(_text(one, f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
    )
    return [x0 - 1, y0 - 1, x1, y1]
