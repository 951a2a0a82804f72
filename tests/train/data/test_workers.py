"""Worker processes: what they answer, and what is said of one that has ended."""

import os
import signal
import sys
import threading
import time

import cloudpickle
import numpy as np
import processes
import pytest
from processes import children

from train.data.decode import Unreadable
from train.data.loader import LoaderFailed
from train.data.workers import Workers
from train.refusal import Refused

# Workers need not import this file, and JAX with it.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def ours():
    """What other tests have started, and what has not ended yet, is no concern of these."""
    processes.begin()


class Items:
    """A source whose items do what they say."""

    def __init__(self, *says):
        self.says = says

    def __len__(self):
        return len(self.says)

    def __getitem__(self, i):
        what = self.says[i]
        if isinstance(what, Exception):
            raise what
        if callable(what):
            return what()
        return what


def slow():
    time.sleep(60)


def test_a_worker_killed_at_work_is_noticed_by_who_waits():
    with Workers(Items(1, slow), 1, 2) as workers:
        assert workers[0] == 1
        threading.Timer(0.3, os.kill, (children()[0], signal.SIGKILL)).start()
        began = time.monotonic()
        with pytest.raises(LoaderFailed, match=r"signal 9\); the system kills one where memory"):
            workers[1]
        assert time.monotonic() - began < 3
        for _ in range(3):  # whoever asks next hears of it too
            with pytest.raises(LoaderFailed, match="signal 9"):
                workers[0]
        with pytest.raises(LoaderFailed, match="signal 9"):
            workers.check()


def leave():
    os._exit(3)


def test_a_worker_that_ends_itself_says_how():
    with Workers(Items(leave), 1, 1) as workers, pytest.raises(LoaderFailed, match="exit code 3"):
        workers[0]


def test_a_stopped_worker_is_ended_too():
    with Workers(Items(1), 1, 1) as workers:
        assert workers[0] == 1
        os.kill(children()[0], signal.SIGSTOP)
    assert not children()


def test_who_waits_when_it_is_closed_is_let_go():
    heard = []

    def ask():
        try:
            workers[0]
        except LoaderFailed as error:
            heard.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    with Workers(Items(slow), 1, 2) as workers:
        for thread in threads:
            thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert len(heard) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_a_terminal_sends_to_all_ends_no_worker(number):
    with Workers(Items(*range(5)), 2, 1) as workers:
        for pid in children():
            os.kill(pid, number)  # whatever it is doing: most likely, starting Python
        assert [workers[i] for i in range(5)] == [0, 1, 2, 3, 4]
        for pid in children():
            os.kill(pid, number)
        time.sleep(0.1)
        assert workers[3] == 3
        workers.check()


class Odd(Exception):
    """It doesn't pickle."""

    def __init__(self, a, b):
        super().__init__("odd")
        self.lock = threading.Lock()


def odd():
    raise Odd(1, 2)


def test_an_error_comes_through_as_what_it_is():
    errors = Unreadable("a.jpg", 3, "is gone"), Refused("no"), MemoryError(), OSError(5, "broken")
    with Workers(Items(*errors, odd), 1, 1) as workers:
        for i, error in enumerate(errors):
            with pytest.raises(type(error)) as e:
                workers[i]
            assert type(e.value) is type(error)
            assert e.value.args == error.args
            assert "__getitem__" in e.value.__notes__[0]  # where it arose
        with pytest.raises(RuntimeError, match="Odd: odd"):
            workers[len(errors)]


def unsendable():
    return threading.Lock()


@pytest.mark.parametrize(
    ("make", "kind", "said"),
    [
        (lambda: sys.exit(3), RuntimeError, "SystemExit: 3"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), RuntimeError, "KeyboardInterrupt"),
        (unsendable, TypeError, "cannot pickle '_thread.lock' object"),
    ],
)
def test_whatever_an_item_does_who_asked_hears_of_it(make, kind, said):
    with Workers(Items(make, 1), 1, 1) as workers:
        hung = threading.Timer(20, os.kill, (children()[0], signal.SIGKILL))
        hung.start()
        try:
            with pytest.raises(kind, match=said):
                workers[0]
            assert workers[1] == 1  # the same thread of the worker goes on
        finally:
            hung.cancel()


def test_a_source_that_does_not_pickle_is_refused_in_one_line():
    message = "^workers=2: the data can't be given to a process: TypeError: cannot pickle '_thread"
    with pytest.raises(Refused, match=message), Workers(Items(threading.Lock()), 2, 1):
        pass
    assert not children()


class NotThere:
    """A source that only the process which made it can have."""

    def __len__(self):
        return 1

    def __reduce__(self):
        return os.open, ("/not/there", 0)


def test_a_source_that_does_not_arrive_is_an_error_where_it_is_asked():
    with Workers(NotThere(), 1, 1) as workers, pytest.raises(FileNotFoundError):
        workers[0]


def arrays():
    return {
        "big": np.arange(300_000, dtype=np.int32).reshape(3, -1),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(True),
        "turned": np.arange(6).reshape(2, 3).T,
        "text": ("a", {3: "b"}),
    }


def test_arrays_arrive_whole_and_live_on_without_their_worker():
    with Workers(Items(arrays, lambda: np.zeros((0,))), 1, 1) as workers:
        found = workers[0]
        assert workers[1].shape == (0,)
    wanted = arrays()
    assert found["text"] == wanted.pop("text")
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, strict=True)
    assert found["big"].ctypes.data % 64 == 0
    found["big"][0, 0] = 7  # it is the receiver's own


def test_no_descriptor_is_kept():
    def count():
        return len(os.listdir("/proc/self/fd"))

    before = count()
    with Workers(Items(arrays), 1, 2) as workers:
        workers[0]
        during = count()
        for _ in range(20):
            workers[0]
        assert count() == during
    assert count() == before
