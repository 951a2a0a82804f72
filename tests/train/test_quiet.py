"""Quiet: of a failed save only what Orbax raises besides is unheard."""

import asyncio
import gc
import logging
import sys
import warnings
from types import SimpleNamespace

import orbax.checkpoint as ocp
import pytest

from train.quiet import Unanswered, not_of_a_write, nothing_more, quieten


@pytest.fixture
def heard(monkeypatch):
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: found.append(what.exc_value))
    quieten()
    return found


def complain(error, trace):
    sys.unraisablehook(
        SimpleNamespace(
            exc_type=type(error), exc_value=error, exc_traceback=trace, err_msg=None, object=None
        )
    )


def closed():
    """What a call into a loop that is closed raises."""
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed") as caught:
        loop.call_soon_threadsafe(print)
    return caught.value


def test_an_answer_to_a_closed_loop_is_unheard(heard):
    error = closed()
    ours = error.__traceback__
    complain(error, ours.tb_next)  # called from C++: all frames are asyncio's
    assert heard == []
    complain(error, ours)  # called from here
    complain(error, None)
    assert heard == [error, error]


def test_other_errors_are_heard(heard):
    trace = closed().__traceback__.tb_next
    for error in (RuntimeError("another"), ValueError("Event loop is closed")):
        complain(error, trace)
    assert [type(error) for error in heard] == [RuntimeError, ValueError]


def test_once_is_enough(heard):
    hook = sys.unraisablehook
    assert isinstance(hook, Unanswered)
    quieten()
    assert sys.unraisablehook is hook


async def of_ours():
    raise ValueError("ours")


def fail(coroutine):
    """A task whose error no one asks for."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_of_tasks_that_fail_unasked_those_of_orbax_are_unheard(caplog):
    quieten()
    fail(of_ours())
    fail(ocp.StandardCheckpointHandler().async_save("", None))
    gc.collect()
    (record,) = caplog.records
    assert (record.name, record.exc_info[0]) == ("asyncio", ValueError)


def test_a_pending_task_of_orbax_is_unheard():
    def record(text):
        return logging.LogRecord("asyncio", logging.ERROR, "base_events.py", 1, text, None, None)

    task = "Task was destroyed but it is pending! <Task coro=<run() at /x/orbax/checkpoint/a.py:3>>"
    assert not not_of_a_write(record(task))
    assert not_of_a_write(record(task.replace("orbax", "ours")))


def test_a_write_that_failed_unasked_is_unheard(caplog):
    """TensorStore's futures have no traceback; the file that they could not write is Orbax's."""
    quieten()
    loop = asyncio.new_event_loop()
    for text in (
        'Error writing "seed/0": "/runs/a/checkpoints/10.orbax-checkpoint-tmp/state": too large',
        "ours",
    ):
        future = loop.create_future()
        future.set_exception(ValueError(text))
        del future  # and no one asked
    gc.collect()
    loop.close()
    (heard,) = [r.getMessage() for r in caplog.records if r.name == "asyncio"]
    assert "ours" in heard


def test_a_loop_that_got_no_descriptors_ends_unheard(heard):
    """Its `__del__` looks for sockets that it could not have."""
    trace = closed().__traceback__.tb_next
    complain(AttributeError("'_UnixSelectorEventLoop' object has no attribute '_ssock'"), trace)
    assert heard == []
    complain(AttributeError("'Ours' object has no attribute 'x'"), trace)
    complain(AttributeError("'_UnixSelectorEventLoop' object has no attribute '_ssock'"), None)
    assert len(heard) == 2


def test_once_a_save_failed_what_had_not_begun_is_not_missed():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        ours = of_ours()
        del ours
        gc.collect()
        assert ["never awaited" in str(one.message) for one in found] == [True]
        found.clear()
        nothing_more()
        ours = of_ours()
        del ours
        gc.collect()
        warnings.warn("another", RuntimeWarning, stacklevel=1)
        assert [str(one.message) for one in found] == ["another"]
