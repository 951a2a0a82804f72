"""A data set by name: which of its splits is trained on, which chosen on, which tested on."""

import contextlib
import functools
import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from train.data import coco, folder, layout, mask_folder, mask_layout, series, voc, wav_folder
from train.data.cache import Cached
from train.data.decode import Unreadable
from train.data.digits import digits
from train.data.keys import WANTS, Wanted
from train.data.legend import FILES as CLASS_LISTS
from train.data.legend import as_before, legend_in, plain, without_background
from train.data.mask_values import derived, settled
from train.data.mnist1d import mnist1d
from train.data.places import lies
from train.data.said import counted
from train.data.scene_sets import digit_scenes, fashion_scenes
from train.data.scenes import ROW
from train.data.source import Source, is_signals
from train.data.split_names import role
from train.data.subset import cut
from train.refusal import Refused, choose

TEST = 0.2
"""Share of the examples that is test where a set has only a training split."""

LOOKED_AT = 32
"""Examples of a test split that are asked whether it is annotated."""

IN_FILES: dict[str, tuple[str, ...]] = {
    "label": ("folder", "wav", "series"),
    "target": ("series",),
    "boxes": ("coco", "voc"),
    "mask": ("folder", "voc"),
}
"""What is wanted -> the kinds of sets in files that have it."""

_VERSION = re.compile(r"[\w.*]+")


class Splits(NamedTuple):
    """The sources of one data set."""

    train: Source
    validation: Source | None
    """None where the set has none of its own: cut one off `train`."""
    test: Source


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
    return _roles(name, tfds.splits(name), lambda split: tfds.source(name, split, want))


ALL = Splits._fields

Cut = Callable[[Source, float], tuple[Source, Source]]
"""(source, fraction) -> (rest, part): how a part is cut off."""


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


def with_validation(
    data: Splits, share: float, cut: Cut = functools.partial(cut, seed=0)
) -> Splits:
    """The splits, with a part of `train` as validation where they have none.

    Args:
        data: of one set.
        share: of `train`, 0..1; 0 leaves all of it to train on. Which examples it is depends on no
            seed of a run.
        cut: which they are. By default they are drawn at random, stratified. Of examples ordered by
            time, such as windows of a series, take the last, `train.data.subset.cut_by_time`, or
            `partial(cut_by_time, gap=24)` where windows overlap: else training sees the future of
            what it is judged on.
    """
    if data.validation is not None or not share:
        return data
    if not 0 < math.floor(share * len(data.train) + 0.5) < len(data.train):
        raise Refused(
            f"validation={share} of {len(data.train)} training examples leaves one side empty; "
            "--validation 0 trains on all of them"
        )
    train, validation = cut(data.train, share)
    return Splits(train, validation, data.test)


def _roles(name: str, has: Iterable[str], source: Callable[[str], Source]) -> Splits:
    if "train" not in has:
        raise Refused(f"data={name!r} has no split to train on; it has {', '.join(has)}")
    train = source("train")
    if "test" in has and _annotated(test := source("test")):
        return Splits(train, source("validation") if "validation" in has else None, test)
    if "validation" in has:
        return Splits(train, None, source("validation"))
    if not math.floor(TEST * len(train) + 0.5):
        count = counted(len(train), "example")
        raise Refused(f"data={name!r} has {count} and no test split: too few for one to be cut off")
    rest, part = cut(train, TEST, seed=0, splits=("train", "test"))
    part.cut_off = True
    return Splits(rest, None, part)


def _annotated(source: Source) -> bool:
    """Whether one of the first examples has what a withheld test split lacks."""
    for i in range(min(len(source), LOOKED_AT)):
        with contextlib.suppress(Refused):
            truth = source.truth(i)
            if "boxes" not in truth or len(truth["boxes"]):
                return True
    return False


def _folder(
    path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]
) -> Splits:
    if want == "mask":
        return _masks(path, classes, earlier)
    _check(path, want, "label")
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

    return _roles(str(path), layout.layout(path).splits, source)


def _coco(
    path: pathlib.Path,
    want: str,
    classes: Sequence[str],
    earlier: Sequence[str],
    outside: bool = False,
) -> Splits:
    del classes, earlier  # its files name their own
    _check(path, want, "boxes")
    found = coco.splits(path)
    name = path.resolve().name
    root = "/" if outside else path
    return _roles(str(path), found, lambda split: coco.coco(*found[split], split, name, root=root))


def _voc(
    path: pathlib.Path,
    want: str,
    classes: Sequence[str],
    earlier: Sequence[str],
    outside: bool = False,
) -> Splits:
    _check(path, want, *voc.LISTS)
    root = voc.root_of(path)
    has = _lists(voc.lists(root, want))
    read = functools.partial(voc.voc, root, outside=outside)
    if want == "boxes":
        given = legend_in(classes, path, root)
        names = voc.CLASSES if given is None else without_background(given.names)
        return _roles(str(path), has, lambda split: read(has[split], want, names))
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
    return _roles(
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
    return _roles(
        str(path),
        found,
        lambda split: mask_folder.mask_folder(path, split, found[split], legend, notes),
    )


def _wav(path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]) -> Splits:
    del classes, earlier  # of masks
    _check(path, want, "label", of="signal")
    found = wav_folder.wav_folder(path)
    return _roles(str(path), found, found.__getitem__)


def _series(
    path: pathlib.Path, want: str, classes: Sequence[str], earlier: Sequence[str]
) -> Splits:
    del classes, earlier  # of masks
    _check(path, want, "label", "target", of="signal")
    found = series.series(path, want)
    return _roles(str(path), found, found.__getitem__)


def refuse_other(data: Splits, key: str) -> Splits:
    """The splits, where their examples are what a task reads.

    Args:
        data: of any set.
        key: "image" or "signal".

    Raises:
        Refused: they are of the other; names what takes them.
    """
    about = data.train.about
    if is_signals(about) != (key == "signal"):
        has, takes = ("signals", "signal") if key == "image" else ("images", "label")
        raise Refused(f"data={about.name!r} has {has}, no {key}s: {TAKES[takes]} takes it")
    return data


def _digits(want: str) -> Splits:
    _check("digits", want, "label")
    return Splits(*map(digits, ALL))


def _digit_scenes(want: str) -> Splits:
    _check("digit_scenes", want, "boxes", "mask")
    return Splits(*(Wanted(Cached(digit_scenes(split), ROW), want) for split in ALL))


def _fashion_scenes(want: str) -> Splits:
    _check("fashion_scenes", want, "boxes", "mask")
    from train.data import prepare

    prepare.prepare("fashion_mnist", ("label",))
    return Splits(*(Wanted(Cached(fashion_scenes(split), ROW), want) for split in ALL))


def _mnist1d(want: str) -> Splits:
    _check("mnist1d", want, "label", of="signal")
    return Splits(mnist1d("train"), None, mnist1d("test"))


def _check(name: str | pathlib.Path, want: str, *has: str, of: str = "") -> None:
    if want not in has:
        by = TAKES.get(of or has[-1])
        takes = f": {by} takes it" if by else ""
        raise Refused(f"data={str(name)!r} has no {want}; it has {', '.join(has)}{takes}")


TAKES = {
    "label": "experiments/classify.py",
    "mask": "experiments/segment.py",
    "signal": "experiments/sequence.py",
}
"""Annotation, or signals of any, -> the experiment that trains on it."""


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
