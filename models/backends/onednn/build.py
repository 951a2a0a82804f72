"""Compiles the oneDNN extension: python -m models.backends.onednn

Needs Linux on x86-64, a C++17 compiler ($CXX, or g++, clang++, c++) and oneDNN's wheels, which the
extra `onednn` installs. Says in one line what it built, or why it built nothing.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from typing import NamedTuple

import jax
import jaxlib

FOLDER = pathlib.Path(__file__).parent
SOURCES = tuple(sorted(FOLDER.glob("*.cc")))
HEADERS = tuple(sorted(FOLDER.glob("*.h")))
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-mprefer-vector-width=512",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
COMMAND = "python -m models.backends.onednn"


class Impossible(Exception):
    """What is missing."""


class OneDNN(NamedTuple):
    """Where the wheels lie."""

    library: pathlib.Path
    headers: pathlib.Path


def onednn() -> OneDNN:
    """The installed wheels.

    Raises:
        Impossible: one of them is not installed.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Impossible(f"oneDNN is for Linux on x86-64, not {sys.platform} {platform.machine()}")
    return OneDNN(
        installed("onednn-cpu-gomp", "libdnnl.so.3"),
        installed("onednn-devel-cpu-gomp", "dnnl.hpp").parent,
    )


def installed(package: str, name: str) -> pathlib.Path:
    """A file of a package."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = pathlib.Path(str(file.locate()))
        if file.name == name and path.exists():
            return path.resolve()
    raise Impossible(f"oneDNN is not installed ({package}): pip install 'svertka[onednn]'")


@cache
def processor() -> str:
    """The features of this CPU, as the kernel lists them."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith("flags")), "")


def computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16."""
    return "avx512_bf16" in processor() or "amx_bf16" in processor()


def name() -> str:
    """Of the compiled file: for these sources, this jaxlib and this kind of CPU alone."""
    parts = [
        jaxlib.__version__,
        processor(),
        *FLAGS,
        *(path.read_text() for path in SOURCES + HEADERS),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"svertka-onednn-{digest}.so"


def folders() -> tuple[pathlib.Path, ...]:
    """Where the compiled file may lie: beside its sources, or in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return FOLDER, pathlib.Path(cache) / "svertka"


def built() -> pathlib.Path:
    """The compiled file.

    Raises:
        Impossible: there is none for this machine.
    """
    onednn()
    for folder in folders():
        if (folder / name()).is_file():
            return folder / name()
    raise Impossible(f"the oneDNN extension is not built for this machine and jaxlib: {COMMAND}")


def compiler() -> str:
    """Of C++.

    Raises:
        Impossible: there is none.
    """
    for candidate in (os.environ.get("CXX"), "g++", "clang++", "c++"):
        if candidate and shutil.which(candidate):
            return candidate
    raise Impossible("there is no C++ compiler (g++, clang++ or $CXX)")


def build() -> pathlib.Path:
    """Compile, into the first folder that can be written; a file appears there whole.

    Raises:
        Impossible: the compiler, the wheels or a place is missing, or it does not compile.
    """
    wheels, compile_with = onednn(), compiler()
    for folder in folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = tempfile.TemporaryDirectory(dir=folder)
        except OSError:
            continue
        with made as work:
            out = pathlib.Path(work) / name()
            command = [compile_with, *FLAGS, *map(str, SOURCES), "-o", str(out)]
            command += ["-isystem", jax.ffi.include_dir(), "-isystem", str(wheels.headers)]
            done = subprocess.run(
                [*command, str(wheels.library)], capture_output=True, text=True, errors="replace"
            )
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if "error" in line]
                raise Impossible(f"{compile_with} failed: {(errors or [done.stderr])[0].strip()}")
            return out.replace(folder / name())
    raise Impossible(f"none of {', '.join(map(str, folders()))} can be written")


def main() -> int:
    """Build, unless it is built; 0 where there is nothing to be done about what is missing."""
    try:
        try:
            print(f"oneDNN extension: {built()}")
        except Impossible:
            print(f"oneDNN extension: {build()}")
    except Impossible as error:
        print(f"No oneDNN extension (convolutions will be slower): {error}")
    return 0
