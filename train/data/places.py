"""Places: where prepared data sets lie, and whether one does; TFDS is imported only if it may."""

import os
import pathlib


def data_dir() -> pathlib.Path:
    """Where prepared sets lie: TFDS_DATA_DIR, or TFDS's own default."""
    return pathlib.Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def lies(name: str) -> bool:
    """Whether a set `name`, `name/config` or `name:version` has a folder among prepared sets."""
    folder = name.partition("/")[0].partition(":")[0]
    return bool(folder) and (data_dir() / folder).is_dir()
