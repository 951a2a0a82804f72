"""Split names: which split people mean by what they call a folder or a list."""

import re

WORDS = {
    "train": ("train", "training", "trn"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "tst"),
}
"""Split -> its usual names."""

BESIDE = {"seg", "set", "data", "split"}
"""Words that may stand beside one of them: `seg_train`, `train_set`."""


def role(name: str) -> str | None:
    """ "train", "validation" or "test", in any case of the letters; None for another name.

    A year behind it changes nothing: "train2017".
    """
    tokens = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    found = [
        split
        for word in tokens
        for split, names in WORDS.items()
        if re.sub(r"(19|20)\d\d$", "", word) in names
    ]
    others = len([word for word in tokens if word not in BESIDE])
    return found[0] if len(found) == 1 == others else None
