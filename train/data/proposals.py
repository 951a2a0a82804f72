"""Region proposals: boxes that may hold an object, found without training, as a key of examples."""

import dataclasses
import hashlib
import importlib.util
from typing import Any, Literal

import numpy as np

from train.data.cache import Cached
from train.data.source import About, Example, Source, earlier_fingerprint, notes
from train.data.subset import Through
from train.refusal import Refused, choose

Method = Literal["fast", "quality", "grid"]
METHODS: tuple[Method, ...] = ("fast", "quality", "grid")
VERSION = 1
"""Of what is computed here; kept proposals of another one are not taken."""
SEARCHED = 192
"""Pictures whose shorter side is half of that or less are searched two to four times as large: the
segments that the search begins with have a least size, which small objects lie below."""
ROOM = 2048
"""Most proposals that are kept of a picture."""
LEAST = 4.0
"""Pixels of the shortest side of a box in the grid."""
SCALES = (1 / 8, 1 / 5, 1 / 3, 1 / 2, 4 / 5)
"""Of the grid's boxes: the root of their area, as a share of the picture's shorter side."""
RATIOS = (1 / 2, 1.0, 2.0)
"""Height over width of the grid's boxes."""
STEP = 1 / 3
"""From one of the grid's boxes to the next, as a share of its side."""


def available() -> Method:
    """ "fast" where OpenCV has selective search, else "grid"."""
    return "fast" if _opencv() is not None else "grid"


def regions(image: np.ndarray, method: Method) -> np.ndarray:
    """Boxes of one picture, none twice, in an order of chance that is always the same.

    The first n of them are a random part: a limit favours no place and no size.

    Args:
        image: (H, W, C) uint8, grey or colour.
        method: "fast" or "quality", selective search (Uijlings et al. 2013, section 5.4; OpenCV's);
            "grid", sliding windows of five scales and three ratios.

    Returns:
        (P, 4) float32, x0 y0 x1 y1.

    Raises:
        Refused: there is no such method, or OpenCV is not there.
    """
    choose("proposals", method, METHODS)
    found = _grid(*image.shape[:2]) if method == "grid" else _searched(image, method)
    # OpenCV's order is drawn anew in each process: by their values first.
    found = np.unique(np.asarray(found, np.float32).reshape(-1, 4), axis=0)
    words = np.random.Philox(key=0).random_raw(len(found))
    return found[np.argsort(words, kind="stable")]


class Proposed(Through):
    """The examples of a source with `proposals` (P, 4), at most so many of each.

    They are computed when they are first asked for, and kept on the disk where `keep` says so.
    """

    def __init__(self, source: Source, method: Method, most: int, *, keep: bool = True):
        """Nothing is computed yet.

        Args:
            source: of images.
            method: see `regions`.
            most: of an example; the capacity of a batch.
            keep: whether they are read from the disk another time; not for pictures whose
                fingerprint does not tell of their contents.

        Raises:
            Refused: no such method, no OpenCV, or `most` is not from 1 to `ROOM`.
        """
        super().__init__(source)
        choose("proposals", method, METHODS)
        if not 1 <= most <= ROOM:
            raise Refused(f"most_proposals={most}: from 1 to {ROOM} are kept of a picture")
        if method != "grid" and _opencv() is None:
            raise _missing(method)
        self.method, self.most = method, most
        self._regions: Source = _Regions(source, method)
        if keep and method != "grid":  # whose computation is a table's
            row = np.dtype([("proposals", np.float32, (ROOM, 4)), ("count", np.int32)])
            self._regions = Cached(self._regions, row)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the source's, of the method and of how many there may be."""
        return self._printed(self._source.fingerprint)

    @property
    def earlier_fingerprint(self) -> str:
        """Of the source's earlier one."""
        return self._printed(earlier_fingerprint(self._source))

    def _printed(self, fingerprint: str) -> str:
        facts = (_facts(fingerprint, self.method), self.most)
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Of the source, and where the proposals come from."""
        line = f"Proposals: {_said(self.method)}, at most {self.most} of a picture."
        return (*notes(self._source), line)

    def __getitem__(self, i: int) -> Example:
        return {**self._source[i], "proposals": self.proposals(i)}

    def truth(self, i: int) -> dict[str, Any]:
        """The annotations of example i; proposals are none."""
        return self._source.truth(i)

    def proposals(self, i: int) -> np.ndarray:
        """(P, 4) float32 of example i."""
        return self._regions[i]["proposals"][: self.most]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # those that pickle asks for, before there is a source
            raise AttributeError(name)
        return getattr(self._source, name)


class _Regions(Through):
    """The proposals alone; its fingerprint names the method, its parameters and the version."""

    def __init__(self, source: Source, method: Method):
        super().__init__(source)
        self._method = method

    @property
    def about(self) -> About:
        """Of the source, under a name of their own."""
        about = self._source.about
        return dataclasses.replace(about, name=f"{about.name.replace('/', '_')}-proposals")

    @property
    def fingerprint(self) -> str:
        """See the class."""
        return _facts(self._source.fingerprint, self._method)

    def __getitem__(self, i: int) -> Example:
        return {"proposals": regions(self._source[i]["image"], self._method)[:ROOM]}

    def truth(self, i: int) -> dict[str, Any]:
        """None of their own."""
        return self._source.truth(i)


def _facts(fingerprint: str, method: Method) -> str:
    """What proposals follow from."""
    how = (SCALES, RATIOS, STEP, LEAST) if method == "grid" else (SEARCHED,)
    return repr((fingerprint, method, how, VERSION, ROOM))


def _said(method: Method) -> str:
    if method == "grid":
        return "grid (sliding windows, no selective search)"
    return f"selective search, {method} mode"


def _opencv() -> Any:
    """OpenCV with its contributed modules; None where it is not there."""
    if importlib.util.find_spec("cv2") is None:
        return None
    try:
        import cv2
    except ImportError:  # a library of the system that it needs
        return None
    return cv2 if hasattr(cv2, "ximgproc") else None


def _missing(method: str) -> Refused:
    return Refused(
        f"proposals={method!r} needs OpenCV's contributed modules: "
        "pip install 'svertka[proposals]'; proposals='grid' needs none"
    )


def _searched(image: np.ndarray, method: Method) -> np.ndarray:
    """(P, 4) by selective search, in any order."""
    cv2 = _opencv()
    if cv2 is None:
        raise _missing(method)
    colour = image if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    times = max(1, min(4, SEARCHED // min(colour.shape[:2])))
    colour = cv2.resize(colour[..., 2::-1], None, fx=times, fy=times)  # blue first
    search.setBaseImage(colour)
    if method == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    found = np.asarray(search.process(), np.float32).reshape(-1, 4) / times
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)


def _grid(height: int, width: int) -> np.ndarray:
    """(P, 4): windows of each scale and ratio, evenly from edge to edge."""
    made = [np.array([[0, 0, width, height]], np.float64)]
    for scale in SCALES:
        for ratio in RATIOS:
            root = scale * min(height, width)
            wide, tall = min(root / ratio**0.5, width), min(root * ratio**0.5, height)
            if min(wide, tall) < LEAST:
                continue
            x, y = (
                np.linspace(0, room - side, 1 + int(np.ceil((room - side) / (STEP * side))))
                for room, side in ((width, wide), (height, tall))
            )
            x, y = (each.ravel() for each in np.meshgrid(x, y))
            made.append(np.stack([x, y, x + wide, y + tall], axis=1))
    return np.concatenate(made)
