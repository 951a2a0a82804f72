"""Preparing a set of TensorFlow Datasets in the format that is read at random.

    python -m train.data.prepare cifar10

A copy in the TFRECORD format is converted where it lies, which needs neither TensorFlow nor a
network. Otherwise the set is downloaded, which needs both.
"""

import contextlib
import functools
import http.client
import importlib.util
import io
import json
import os
import pathlib
import secrets
import ssl
import struct
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from train.bars import shown
from train.data import tfds as sets
from train.data.features import WANTS, layout
from train.data.places import data_dir
from train.progress import working
from train.refusal import Refused

PROBE = 5.0
"""Seconds in which a host must answer; TFDS alone would try for 200."""


def prepare(name: str, wants: Sequence[str] = WANTS) -> None:
    """Makes `train.data.tfds.prepared` true for one of `wants`, or says why it cannot be.

    The set is written beside its place and moved there when it is whole (TFDS's `incomplete_dir`),
    so that a run that is cut short leaves nothing that a later one takes for prepared.

    Args:
        name: `set`, `set/config`, either with `:version`.
        wants: "label", "boxes", "mask": annotations of which the set must have one.

    Raises:
        Refused: an unknown name, a set without such annotations, TensorFlow is not installed, no
            host that it would download from answers, or TFDS fails.
    """
    try:
        sets.splits(name)
        return
    except sets.NotPrepared:
        pass
    if convert(name):
        return
    folder = data_dir()
    builder = _builder(name)
    if builder is not None:
        _check(builder, wants)
    if builder is None or importlib.util.find_spec("tensorflow") is None:
        raise Refused(
            f"data={name!r} is not prepared under {folder}, and preparing it needs TensorFlow, the "
            f"extra svertka[prepare]: `{sets.command(name)}` installs it and prepares the set; or "
            "set TFDS_DATA_DIR to where a copy prepared elsewhere lies"
        )
    silent = unreachable(_urls(builder))
    if silent:
        raise Refused(
            f"data={name!r} is not prepared under {folder}, and there is no network to download "
            f"it: {silent}; set TFDS_DATA_DIR to where a copy prepared elsewhere lies, or run "
            f"`{sets.command(name)}` (with the extra svertka[prepare]) on a connected machine"
        )
    try:
        with working(f"downloading and preparing {name} under {folder}"):
            builder.download_and_prepare(
                file_format=sets.FORMAT,
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Refused(f"data={name!r} could not be prepared under {folder}: {reason}") from error
    sets.splits(name)


def convert(name: str) -> bool:
    """Writes array_record files beside a copy in the TFRECORD format; False if there is none.

    `dataset_info.json` names the new format last, so a conversion that is cut short counts for
    nothing and is done again.

    Raises:
        Refused: the copy is damaged, or its folder cannot be written to.
    """
    try:
        with sets.no_decoders():
            builder = read_only_builder.builder_from_files(name, data_dir=data_dir())
    except tfds.core.DatasetNotFoundError:
        return False
    formats = builder.info.available_file_formats()
    if sets.FORMAT in formats or tfds.core.FileFormat.TFRECORD not in formats:
        return False
    folder = pathlib.Path(builder.data_dir)
    divided = builder.info.splits.values()
    try:
        with working(f"converting {name}", sum(each.num_shards for each in divided)) as advance:
            for split in divided:
                target = split.filename_template.replace(filetype_suffix=sets.FORMAT.file_suffix)
                for shard, (path, length) in enumerate(
                    zip(split.filepaths, split.shard_lengths, strict=True)
                ):
                    written = target.sharded_filepath(
                        shard_index=shard, num_shards=split.num_shards
                    )
                    _replace(pathlib.Path(written), functools.partial(_write, path, length))
                    advance(1)
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        info["alternativeFileFormats"] = [sets.FORMAT.value]
        _replace(
            folder / "dataset_info.json",
            lambda part: part.write_text(json.dumps(info, indent=2), encoding="utf-8"),
        )
    except OSError as error:
        raise Refused(f"data={name!r}: {folder} could not be converted: {error}") from error
    return True


def unreachable(urls: Sequence[str], seconds: float = PROBE) -> str | None:
    """Why none of the hosts answers within `seconds`; None if one does, or there is none to ask.

    Proxies of the environment are used. Each host is asked in a thread of its own that nobody
    waits for, because looking up a name may hang beyond any timeout.
    """
    hosts = sorted({url.split("/", 3)[2]: url for url in urls if "://" in url}.items())
    if not hosts:
        return None
    answers: dict[str, str | None] = {}
    changed = threading.Condition()

    def ask(host: str, url: str) -> None:
        answer = _ask(url, seconds)
        with changed:
            answers[host] = answer
            changed.notify()

    for host, url in hosts:
        threading.Thread(target=ask, args=(host, url), daemon=True).start()
    with changed:
        changed.wait_for(
            lambda: None in answers.values() or len(answers) == len(hosts), timeout=seconds
        )
        if None in answers.values():
            return None
        return ", ".join(
            f"{host}: {answers.get(host, f'no answer in {seconds:g} s')}" for host, _ in hosts
        )


def _ask(url: str, seconds: float) -> str | None:
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "svertka"})
    try:
        # An opener of its own: the default one keeps the proxies that it first saw.
        with urllib.request.build_opener().open(request, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        # The host answered; whether it serves the file is for the download to find out. Only what
        # a gateway or a proxy says in its place counts as silence.
        return f"HTTP {error.code}" if error.code in (407, 502, 503, 504) else None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            return None  # it answered; TFDS brings certificates of its own
        return str(error.reason)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def _builder(name: str) -> tfds.core.DatasetBuilder | None:
    """The set's own code; None where it cannot even be loaded without TensorFlow."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS prints a banner before it raises
            return tfds.builder(name, data_dir=data_dir())
    except ImportError:
        return None
    except (ValueError, AssertionError) as error:  # an unknown configuration or version
        reason = " ".join(str(error).split())
        raise Refused(f"data={name!r} cannot be prepared: {reason}") from error


def _check(builder: tfds.core.DatasetBuilder, wants: Sequence[str]) -> None:
    refused = []
    for want in wants:
        try:
            layout(builder, want)
            return
        except Refused as error:
            refused.append(error)
    raise refused[0]


def _urls(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Where it would download from; nowhere, if the user must fetch the files by hand."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return []
    return list(builder.url_infos or {}) or [builder.info.homepage]


def _write(shard: os.PathLike, length: int, path: pathlib.Path) -> None:
    from array_record.python import array_record_module  # for Linux alone: digits do without

    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    count = 0
    for record in _records(shard):
        writer.write(record)
        count += 1
    writer.close()
    if count != length:
        raise OSError(f"{shard} holds {count} records, not {length}")


def _records(shard: os.PathLike) -> Iterator[bytes]:
    """Records of a TFRECORD file: length (uint64), its checksum (uint32), data, its checksum."""
    with open(shard, "rb") as file:
        while head := file.read(12):
            size = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else -1
            body = file.read(size + 4) if size >= 0 else b""
            if len(body) != size + 4:
                raise OSError(f"{shard} ends within a record")
            yield body[:-4]


def _replace(path: pathlib.Path, write: Callable[[pathlib.Path], object]) -> None:
    """Writes beside `path` and moves it there when it is whole; two processes write two files."""
    part = path.with_name(f"incomplete.{secrets.token_hex(8)}.{path.name}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: Sequence[str]) -> int:
    """Prepares the sets named on the command line; prints one line each."""
    try:
        with shown():
            for name in arguments:
                prepare(name)
                print(f"{name} is prepared under {data_dir()}: {sets.splits(name)}")
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
