"""Detection in COCO's format: one JSON file of images, boxes and categories, and a folder."""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from train.data.boxes import boxes, leaving, solid
from train.data.decode import Unreadable, length, picture
from train.data.endings import ENDINGS
from train.data.inside import refuse_outside
from train.data.listing import subfolders
from train.data.lookup import Lookup
from train.data.sampled import FORM, sampled
from train.data.source import About, Example
from train.data.split_names import roles
from train.metrics.coco_figures import results
from train.refusal import Refused

ALONE = ("annotations.json", "instances.json", "_annotations.coco.json")
"""Names of a file of annotations where a set is not split."""

INSTANCES = "instances_"
"""What the name of a file of annotations begins with."""

FAULTS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading such a file raises, if it is none."""


def splits(root: pathlib.Path) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Of each split, the file of annotations and the folder of images, where they usually lie.

    COCO's own: annotations/instances_train2017.json beside train2017/ or images/train2017/ (any
    year or none; of several the first). Or train/_annotations.coco.json among the images, likewise
    valid/ and test/. Or one of `ALONE`, beside images/ or among the images: "train" alone. Splits
    are called as `train.data.split_names.roles` says; upper and lower case are the same.

    Raises:
        Refused: there is none of these with a training split, or a folder can't be listed.
    """
    folders = subfolders(root)
    pairs = [(file, images) for file in _instances(folders) for images in _images(folders, file)]
    pairs += [(path / "_annotations.coco.json", path) for path in folders]
    meant = roles({images.name for _, images in pairs})
    found: dict[str, tuple[pathlib.Path, pathlib.Path]] = {}
    for file, images in pairs:
        if images.name in meant and file.is_file():
            found.setdefault(meant[images.name], (file, images))
    for name in ALONE:
        if not found and (root / name).is_file():
            images = root / "images"
            found["train"] = root / name, images if images.is_dir() else root
    if "train" not in found:
        raise Refused(
            f"coco={str(root)!r} has no training split: neither annotations/instances_train*.json "
            f"with train*/, nor train/_annotations.coco.json, nor {', '.join(ALONE)}"
        )
    return found


def _instances(folders: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Files of annotations in COCO's folder of them, those of a year first."""
    files = [
        file
        for path in folders
        if path.name.casefold() == "annotations"
        for file in path.glob(f"{INSTANCES}*.json")
    ]
    return sorted(files, key=lambda file: (not file.stem[-1].isdigit(), file.stem))


def _images(folders: Iterable[pathlib.Path], file: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the images that such a file is of, by its name."""
    name = file.stem.removeprefix(INSTANCES).casefold()
    above = [path for path in folders if path.name.casefold() == "images"]
    inside = [path for folder in above for path in subfolders(folder)]
    return [path for path in (*folders, *inside) if path.name.casefold() == name]


def coco(
    annotations: str | os.PathLike,
    images: str | os.PathLike,
    split: str = "train",
    name: str = "coco",
    mirror: bool | None = None,
    root: str | os.PathLike | None = None,
) -> "Coco":
    """The images that a JSON file lists, in its order, those without an annotation too.

    Categories are classes in the order of their ids: ids 1, 13, 90 are classes 0, 1, 2, and
    `about.ids` gives the ids back. A box is kept as x0 y0 x1 y1; `iscrowd` becomes `box_crowd`.

    Args:
        annotations: a file of instances.
        images: the folder that `file_name` is relative to, which may differ from the file's own
            name by case and slash.
        split: what the part is called.
        name: of the set.
        mirror: whether a mirror image keeps its label; by default it does where the categories
            number 80 and end at 90, as COCO's own do, and of others nobody has judged it.
        root: the folder that no `file_name` may leave; `images` by default. "/" lets them go
            anywhere.

    Raises:
        Refused: the file cannot be read, lacks a field, gives an id twice, or an annotation is of
            an unknown image or category or has an `iscrowd` that is neither 0 nor 1, or a
            `file_name` leaves `root`; names the file and the id.
    """
    path = pathlib.Path(annotations)
    try:
        content = path.read_bytes()
        given = json.loads(content)
        digest = hashlib.sha256(content).hexdigest()
        found = Coco(given, path, pathlib.Path(images), digest, split, name, mirror)
        found.refuse_outside(pathlib.Path(images if root is None else root))
        return found
    except FileNotFoundError:
        raise Refused(f"annotations={str(path)!r} does not exist") from None
    except FAULTS as error:
        field = f"no {error} in some entry" if isinstance(error, KeyError) else str(error)
        raise Refused(
            f"annotations={str(path)!r} is no JSON file of COCO's instances: {field}"
        ) from error


class Coco:
    """Images and boxes.

    An example is `Unreadable` when it is read, `truth` included, if a box of it leaves the image
    by more than `train.data.boxes.SLOP` and `SHARE` or has a negative side; when its image is read,
    also if the file is missing, cannot be decoded, or is not of the size that the JSON file gives.

    `clipped`: index -> how many boxes left the image by less, of the examples that were read;
    `empty`: how many had no area, and are left out.
    """

    def __init__(
        self,
        given: dict[str, Any],
        path: pathlib.Path,
        images: pathlib.Path,
        digest: str,
        split: str,
        name: str,
        mirror: bool | None,
    ):
        """See `coco`."""
        rows, listed = given["annotations"], given["images"]
        categories = {int(one["id"]): str(one["name"]) for one in given["categories"]}
        ids = sorted(categories)
        self.about = About(
            name=name,
            split=split,
            classes=tuple(categories[c] for c in ids),
            mirror=True if mirror is None and len(ids) == 80 and ids[-1] == 90 else mirror,
            ids=tuple(ids),
        )
        self.clipped: dict[int, int] = {}
        self.empty: dict[int, int] = {}
        self._path, self._images, self._digest = str(path), images, digest
        self._lookup = Lookup(images, ENDINGS)
        _once(path, "category", (one["id"] for one in given["categories"]))
        _once(path, "image", (one["id"] for one in listed))
        _once(path, "annotation", (one["id"] for one in rows))
        self._files = [str(one["file_name"]) for one in listed]
        self._image_ids = [one["id"] for one in listed]
        self._sizes = np.array([(one["height"], one["width"]) for one in listed], np.int64)
        if not self._files:
            raise Refused(f"annotations={str(path)!r} lists no image")

        place = {one["id"]: i for i, one in enumerate(listed)}
        label = {c: i for i, c in enumerate(ids)}
        for one in rows:
            for field, known in (("image_id", place), ("category_id", label)):
                if one[field] not in known:
                    raise Refused(
                        f"annotations={str(path)!r}: annotation {one['id']} has "
                        f"{field}={one[field]}, which the file does not list"
                    )
        rows = sorted(rows, key=lambda one: place[one["image_id"]])  # stable: the file's order
        counts = np.bincount([place[one["image_id"]] for one in rows], minlength=len(listed))
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._rows = np.array([one["bbox"] for one in rows], np.float64).reshape(len(rows), 4)
        self._labels = np.array([label[one["category_id"]] for one in rows], np.int32)
        self._crowd = np.array([_crowd(path, one) for one in rows], np.bool_)
        # By size COCO's figures go by the areas of outlines, which its own files give.
        self._areas = np.array(
            [one.get("area", one["bbox"][2] * one["bbox"][3]) for one in rows], np.float64
        )
        self._numbers = [one["id"] for one in rows]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, i: int) -> Example:
        truth = self.truth(i)
        del truth["box_area"]  # no network learns it
        file = pathlib.Path(self.name(i))
        image = picture(file, i)
        height, width = self._sizes[i]
        if image.shape[:2] != (height, width):
            raise Unreadable(
                str(file),
                i,
                f"the upright image is {image.shape[1]}x{image.shape[0]}, {self._path} says "
                f"{width}x{height}",
            )
        return {"image": image, **truth}

    def truth(self, i: int) -> dict[str, Any]:
        """The boxes of example i, and `box_area`, what the JSON file gives as their area or their
        own; its image is not opened.
        """
        file = self.name(i)
        rows = slice(self._starts[i], self._starts[i + 1])
        corners = self._rows[rows].copy()
        corners[:, 2:] += corners[:, :2]
        height, width = map(int, self._sizes[i])
        try:
            kept = boxes(corners, height, width)
        except ValueError as error:
            numbers = self._numbers[rows]
            raise Unreadable(file, i, f"{error} (annotations {numbers})") from error
        there = solid(kept)
        if count := leaving(corners[there], height, width):
            self.clipped[i] = count
        if not there.all():
            self.empty[i] = int((~there).sum())
        return {
            "boxes": kept[there],
            "box_label": self._labels[rows][there],
            "box_crowd": self._crowd[rows][there],
            "box_area": self._areas[rows][there].astype(np.float32),
        }

    def refuse_outside(self, root: pathlib.Path) -> None:
        """Refuse a `file_name` that leaves a folder.

        Raises:
            Refused: names it.
        """
        refuse_outside(f"annotations={self._path!r}", self._files, self._images, root)

    def image_id(self, i: int) -> Any:
        """What the JSON file calls the image of example i."""
        return self._image_ids[i]

    def results(
        self, i: int, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray
    ) -> list[dict[str, Any]]:
        """What was found in example i, as COCO's tools read it, with the file's own ids.

        Args:
            i: index of the example.
            boxes: (n, 4), x0 y0 x1 y1 in source pixels.
            labels: (n,) classes from 0.
            scores: (n,).

        Returns:
            {"image_id", "category_id", "bbox": x y width height, "score"} of each, for JSON.
        """
        categories = [self.about.ids[label] for label in labels]
        return results(self.image_id(i), boxes, categories, scores)

    def name(self, i: int) -> str:
        """The image file of example i."""
        if not 0 <= i < len(self):
            raise IndexError(f"index {i} is outside 0..{len(self) - 1}")
        return str(self._file(self._files[i]))

    def _file(self, name: str) -> pathlib.Path:
        """The file of that name, or the one whose name differs by case or slash alone."""
        path = self._images / name
        if length(path) >= 0:
            return path
        found = self._lookup.find(name)
        return found[0] if len(found) == 1 else path

    @functools.cached_property
    def fingerprint(self) -> str:
        """`FORM` and a SHA-256: of the JSON file, and of every image its size, -1 where there is
        none, and its sampled bytes (`train.data.sampled`).
        """
        digest = hashlib.sha256(self._digest.encode())
        for size, content in sampled(str(self._file(file)) for file in self._files):
            digest.update(b"%d\0%b" % (size, content))
        return FORM + digest.hexdigest()

    @functools.cached_property
    def earlier_fingerprint(self) -> str:
        """As runs of 0.1 recorded it: without the sampled bytes."""
        digest = hashlib.sha256(self._digest.encode())
        for file in self._files:
            digest.update(b"%d " % length(self._file(file)))
        return digest.hexdigest()


def _once(path: pathlib.Path, what: str, ids: Iterable[Any]) -> None:
    seen = set()
    for each in ids:
        if each in seen:
            raise Refused(f"annotations={str(path)!r}: {what} id {each} stands there twice")
        seen.add(each)


def _crowd(path: pathlib.Path, one: dict[str, Any]) -> bool:
    """Whether an annotation is of a crowd; where it does not say, it is of one object."""
    said = one.get("iscrowd")
    if said is not None and said not in (0, 1):  # "no" is no no, and "0" none either
        raise Refused(
            f"annotations={str(path)!r}: annotation {one['id']} has iscrowd={said!r}, which is "
            "neither 0 nor 1"
        )
    return bool(said)
