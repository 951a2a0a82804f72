import errno
import os

import jax
import pytest

from train.cli import exit_code
from train.exhausted import enough_memory, exhausted
from train.refusal import Failed


def of_xla(words):
    return jax.errors.JaxRuntimeError(words)


def fails(error):
    def work():
        raise error

    return work


SHORT = {
    "of a device": (of_xla("RESOURCE_EXHAUSTED: Out of memory.\n  at 0x0"), "Out of memory"),
    "of the host": (MemoryError("2 TB\nof it"), "2 TB"),
    "without a word": (MemoryError(), "MemoryError"),
}


@pytest.mark.parametrize(("error", "why"), SHORT.values(), ids=SHORT)
def test_too_little_memory_is_one_line_and_no_traceback(error, why, capsys):
    assert exit_code(fails(error)) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: more memory is needed than there is: ")
    assert said.endswith(f"{why}\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize("error", [of_xla("INTERNAL: wrong"), ValueError("RESOURCE_EXHAUSTED")])
def test_another_error_stays_what_it_is(error):
    assert exhausted(error) == ""
    with pytest.raises(type(error)):
        exit_code(fails(error))
    with pytest.raises(type(error)), enough_memory("it needs", lambda: ""):
        raise error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_few_descriptors_are_one_line(number, capsys):
    assert exit_code(fails(OSError(number, os.strerror(number), "grain/__init__.py"))) == 1
    expected = f"error: grain/__init__.py could not be opened: {os.strerror(number)}\n"
    assert capsys.readouterr().err == expected


def test_a_library_that_finds_no_descriptor_is_one_line(capsys):
    words = f"libgrain.so: cannot open shared object file: {os.strerror(errno.EMFILE)}"
    assert exit_code(fails(ImportError(words))) == 1
    expected = f"error: a file could not be opened: {os.strerror(errno.EMFILE)}\n"
    assert capsys.readouterr().err == expected


def test_another_error_of_the_system_stays_what_it_is():
    with pytest.raises(FileNotFoundError):
        exit_code(fails(FileNotFoundError(errno.ENOENT, "No such file", "x")))


def test_what_needs_less_is_said():
    with pytest.raises(Failed) as failed, enough_memory("a step needs", lambda: "half does not"):
        raise MemoryError("2 TB")
    assert str(failed.value) == "a step needs more memory than there is: 2 TB; half does not"
