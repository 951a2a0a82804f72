"""Split names: which split people mean by what they call a folder or a list."""

import collections
import re
from collections.abc import Iterable

WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "validating", "dev", "devel", "development"),
    "test": ("test", "testing", "tst"),
}
"""Split -> its usual names."""
EVALUATION = ("eval", "evaluation")
"""Names of the test split, or of validation beside a folder that is the test split."""

BESIDE = frozenset(("seg", "set", "sets", "data", "dataset", "split", "folder", "dir"))
"""Words that may stand beside one of them, or in one with it: `seg_train`, `trainset`."""
PICTURES = frozenset(
    (
        "image", "images", "img", "imgs", "picture", "pictures", "pics", "photo", "photos",
        "samples", "files",
    )
)  # fmt: skip
"""The same, of folders that hold classes: `train_images`."""

_SPLITS = {word: split for split, names in WORDS.items() for word in names}
_SPLITS |= dict.fromkeys(EVALUATION, "test")
_GLUED = re.compile(rf"({'|'.join(_SPLITS)})({'|'.join(BESIDE | PICTURES)}|[ab])")


def words(name: str) -> list[str]:
    """Those of a name, in lower case, without numbers: "Train-Images 2017" has train and images."""
    found = [word for word in re.split(r"[\W\d_]+", name.casefold()) if word]
    glued = [_GLUED.fullmatch(word) for word in found]
    return [
        part
        for word, both in zip(found, glued, strict=True)
        for part in (both.groups() if both else (word,))
    ]


def role(name: str) -> str | None:
    """ "train", "validation" or "test", in any case of the letters; None for another name.

    A number behind it changes nothing: "train2017".
    """
    found = [word for word in words(name) if word not in BESIDE]
    return _SPLITS.get(found[0]) if len(found) == 1 else None


def roles(names: Iterable[str]) -> dict[str, str]:
    """Of folders side by side that hold classes, those that mean a split, and which.

    Besides what `role` knows: words of `PICTURES`; any words where two names differ in the split
    alone, "pets_train" and "pets_test", "trainA" and "testA"; and "eval" is validation where that
    is what is missing.
    """
    meant: dict[tuple[str, ...], dict[str, str]] = collections.defaultdict(dict)
    for name in names:
        found = words(name)
        said = [word for word in found if word in _SPLITS]
        if len(said) == 1:
            others = (word for word in found if word not in {*said, *BESIDE, *PICTURES})
            meant[tuple(others)][name] = said[0]
    roles = {
        name: _SPLITS[word]
        for others, found in meant.items()
        if not others or len({_SPLITS[word] for word in found.values()}) > 1
        for name, word in found.items()
    }
    evaluation = [name for name in roles if {*words(name)} & {*EVALUATION}]
    tests = [name for name, split in roles.items() if split == "test" and name not in evaluation]
    if tests and "validation" not in roles.values():
        roles |= dict.fromkeys(evaluation, "validation")
    return roles


def says_nothing(name: str) -> bool:
    """Whether a folder's name is no class's, but that of unlabelled pictures: "images"."""
    plain = {*BESIDE, *PICTURES, *_SPLITS, "all", "unknown", "unlabeled", "unlabelled"}
    found = {*words(name)}
    return bool(found) and found <= plain  # numbers may be classes
