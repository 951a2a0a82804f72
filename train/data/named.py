"""A data set by name: which of its splits is trained on, which chosen on, which tested on."""

import os
import pathlib
import re
from collections.abc import Callable, Sequence

from train.data import layout
from train.data.cache import Cached
from train.data.digits import digits
from train.data.in_files import FILES, IN_FILES, LEADING, LISTED
from train.data.keys import WANTS, Wanted
from train.data.mnist1d import mnist1d
from train.data.places import lies
from train.data.scene_sets import digit_scenes, fashion_scenes
from train.data.scenes import ROW
from train.data.splits import ALL, Splits, by_role, refuse_other, refuse_want, with_validation
from train.refusal import Refused, choose

__all__ = [
    "Splits",
    "leads",
    "may_be",
    "named",
    "prepared",
    "refuse_other",
    "with_validation",
]

_VERSION = re.compile(r"[\w.*]+")


def named(
    name: str,
    want: str = "label",
    classes: Sequence[str] = (),
    earlier: Sequence[str] = (),
    outside: bool = False,
) -> Splits:
    """The splits of a set, embedded, of TFDS (prepared if need be), or in files.

    Test is the set's `test`; without one (or where its annotations are withheld, as ImageNet's are)
    its `validation`, which then is no validation split any more; without either a fifth of `train`,
    stratified where it has labels, with a seed of its own.

    Args:
        name: one of
            "digits": labels. "digit_scenes", "fashion_scenes": boxes or masks.
            "mnist1d": signals with labels.
            A set of TFDS, as `train.data.tfds.source` takes it.
            "folder:PATH": labels. PATH/train/CLASS/*, likewise val and test, see
                `train.data.layout`; or PATH/CLASS/*. Masks: PATH/images/* and PATH/masks/*, divided
                or not, see `train.data.mask_folder.splits`.
            "coco:PATH": boxes. PATH/annotations/instances_train2017.json with PATH/train2017/,
                likewise val and test; others that `train.data.coco.splits` names.
            "voc:PATH": boxes or masks. PATH, or PATH/VOCdevkit/VOC2012, holds ImageSets with the
                lists train, val and test, JPEGImages, and Annotations or SegmentationClass.
            "wav:PATH": signals with labels. PATH/train/CLASS/*.wav, likewise val and test; or
                PATH/CLASS/*.wav, see `train.data.wav_folder`.
            "series:PATH": signals with labels or targets, in CSV or `.npz`, see
                `train.data.series`.
        want: "label", "boxes", "mask" or "target".
        classes: of "folder:PATH" with masks and of "voc:PATH", in the order of the masks' values
            from 0, the background's too; see `train.data.legend`. () takes those of a list in the
            folder, classes.txt or labelmap.txt; else VOC has its own, and masks in a folder name
            theirs by the values that they hold.
        earlier: mask classes of a run that goes on, or that is measured on these data. Where
            nothing else says what they are, they stand in.
        outside: whether names in the files of "coco:PATH" and "voc:PATH" may lead out of PATH.

    Raises:
        Refused: an unknown name or path, a set that is not prepared and cannot be, one without
            such annotations or without a `train` split, folders of one class, or pictures and their
            masks where labels are wanted; classes for a set that has its own, masks of one class,
            masks in VOC's folders of which nothing says the classes, names that lead out of a set.
    """
    choose("want", want, WANTS)
    kind, colon, path = name.partition(":")
    if classes and not (colon and kind in LISTED and want in LISTED[kind]):
        raise Refused(f"classes={','.join(classes)!r}: {want} of data={name!r} has its own classes")
    if kind in FILES and colon:
        folder_alone = kind != "series"
        more = {"outside": True} if outside and leads(name) else {}
        return FILES[kind](_existing(name, path, folder_alone), want, classes, earlier, **more)
    if colon and not _VERSION.fullmatch(path):
        choose("data", kind, FILES)
    if name in EMBEDDED:
        return EMBEDDED[name](want)
    from train.data import prepare, tfds  # a second of imports

    try:
        tfds.known(name, also=(*EMBEDDED, *(f"{kind}:PATH" for kind in FILES)))
    except Refused:
        if not os.path.exists(os.path.expanduser(name)):
            raise
        there = "folder" if os.path.isdir(os.path.expanduser(name)) else "file"
        kinds = IN_FILES[want] if there == "folder" else ("series",)
        forms = " or ".join(f"{kind}:{name}" for kind in kinds)
        raise Refused(f"data={name!r} is unknown; for the {there} of that name: {forms}") from None
    prepare.prepare(name, (want,))
    return by_role(name, tfds.splits(name), lambda split: tfds.source(name, split, want))


def may_be(name: str, other: str) -> bool:
    """Whether two names may be of one set in files that has been moved; its contents tell."""
    kind, colon, _ = name.partition(":")
    return kind in FILES and bool(colon) and other.startswith(kind + colon)


def leads(name: str) -> bool:
    """Whether it is a set whose own files name others, which may then lie anywhere."""
    return name.partition(":")[0] in LEADING and ":" in name


def prepared(name: str) -> bool:
    """Whether a TFDS set of images with one label each lies ready to be read."""
    if not lies(name):
        return False
    from train.data import tfds

    return tfds.prepared(name)


def _digits(want: str) -> Splits:
    refuse_want("digits", want, "label")
    return Splits(*map(digits, ALL))


def _digit_scenes(want: str) -> Splits:
    refuse_want("digit_scenes", want, "boxes", "mask")
    return Splits(*(Wanted(Cached(digit_scenes(split), ROW), want) for split in ALL))


def _fashion_scenes(want: str) -> Splits:
    refuse_want("fashion_scenes", want, "boxes", "mask")
    from train.data import prepare

    prepare.prepare("fashion_mnist", ("label",))
    return Splits(*(Wanted(Cached(fashion_scenes(split), ROW), want) for split in ALL))


def _mnist1d(want: str) -> Splits:
    refuse_want("mnist1d", want, "label", of="signal")
    return Splits(mnist1d("train"), None, mnist1d("test"))


EMBEDDED: dict[str, Callable[[str], Splits]] = {
    "digits": _digits,
    "digit_scenes": _digit_scenes,
    "fashion_scenes": _fashion_scenes,
    "mnist1d": _mnist1d,
}


def _existing(name: str, path: str, folder_alone: bool) -> pathlib.Path:
    if not path:
        raise Refused(f"data={name!r}: a path follows the colon")
    try:
        found = pathlib.Path(path).expanduser()
        if folder_alone or not found.is_file():
            layout.check_folder(f"data={name!r}", found)
    except (OSError, RuntimeError, ValueError) as error:  # too long, no permission, ~ of nobody
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"data={name!r} is no folder; {reason}") from None
    return found
