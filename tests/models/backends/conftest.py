"""The extension, where it is built; the program that draws convolutions."""

import importlib.util
import pathlib

import pytest

from models.backends.onednn import engine as onednn

FUZZ = pathlib.Path(__file__).with_name("fuzz.py")


@pytest.fixture
def extension():
    """It, or a skip that says why there is none."""
    try:
        return onednn.extension()
    except onednn.Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def fuzz():
    """The program beside this file, as a module."""
    spec = importlib.util.spec_from_file_location("fuzz", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
