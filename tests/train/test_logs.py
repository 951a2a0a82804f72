"""Logs: what stands in the files, after a resume too, and what a terminal shows."""

import contextlib
import gc
import io
import json
import math
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console
from tensorboardX.crc32c import crc32c
from tensorboardX.proto import event_pb2

from train import processes
from train.events import Events
from train.files import WriteFailed
from train.logs import METRICS, Logs, read_metrics
from train.refusal import Refused
from train.terminal import Terminal, duration

ROOT = pathlib.Path(__file__).parents[2]
STEP = {"loss": 1.25, "accuracy": 0.5, "learning_rate": 0.1, "examples_per_second": 3120.0}


def quiet() -> Console:
    return Console(file=io.StringIO())


def run(workdir, steps, *, resume_step=None, seeds=None, values=STEP):
    logs = Logs(workdir, steps=100, resume_step=resume_step, console=quiet(), seeds=seeds)
    for step in steps:
        logs.train(step, values, epoch=step / 10)
    logs.close()


def events(workdir: pathlib.Path) -> list[event_pb2.Event]:
    """TFRecord: length, its masked CRC, the record, its masked CRC; files by name, as they read."""
    found = []
    for path in sorted(workdir.glob("events.out.tfevents.*")):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            record = data[12 : 12 + length]
            crc = crc32c(record)
            masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert int.from_bytes(data[12 + length : 16 + length], "little") == masked
            found.append(event_pb2.Event.FromString(record))
            data = data[16 + length :]
    return found


def scalars(workdir: pathlib.Path) -> dict[tuple[str, int], float]:
    return {(v.tag, e.step): v.simple_value for e in events(workdir) for v in e.summary.value}


def test_every_line_is_one_json_object(tmp_path):
    logs = Logs(tmp_path / "new" / "run", steps=4, console=quiet())
    logs.train(2, {"loss": np.float32(0.5), "gradient_norm": jax.numpy.ones(())}, epoch=0.25)
    logs.evaluation(2, "validation", {"accuracy": 0.75, "count": 180})
    train, evaluation = read_metrics(tmp_path / "new" / "run")  # before `close`: it is flushed
    logs.close()
    assert 0 <= train.pop("seconds") <= evaluation.pop("seconds") < 60
    assert train == {"kind": "train", "step": 2, "epoch": 0.25, "loss": 0.5, "gradient_norm": 1.0}
    assert evaluation == {
        "kind": "evaluation",
        "split": "validation",
        "step": 2,
        "accuracy": 0.75,
        "count": 180,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_and_no_event(tmp_path, value):
    run(tmp_path, [1], values={"loss": value, "accuracy": 0.5})

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    (line,) = (tmp_path / METRICS).read_text().splitlines()
    assert json.loads(line, parse_constant=refuse)["loss"] is None
    assert scalars(tmp_path / "tensorboard") == {("train/accuracy", 1): 0.5}


@pytest.mark.parametrize(
    ("torn", "resume_step", "kept"),
    [
        (b"", 20, [10, 20]),
        (b"", 25, [10, 20]),
        (b"", 40, [10, 20, 30]),
        (b"", 0, []),
        (b"", None, []),
        (b'{"kind": "train", "step": 2', 20, [10, 20]),
        (b'{"kind": "train", "step": 40, "lo', 30, [10, 20, 30]),
        (b"\0\0\0\xff", 30, [10, 20, 30]),
        (b"17\n", 30, [10, 20, 30]),
    ],
)
def test_a_resume_cuts_what_lies_beyond_it(tmp_path, torn, resume_step, kept):
    run(tmp_path, [10, 20, 30])
    with (tmp_path / METRICS).open("ab") as file:
        file.write(torn)
    run(tmp_path, [50], resume_step=resume_step)
    lines = (tmp_path / METRICS).read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*kept, 50]
    assert [line["step"] for line in read_metrics(tmp_path)] == [*kept, 50]
    assert not list(tmp_path.glob("*.part"))


def test_a_torn_line_hides_nothing_from_a_reader(tmp_path):
    run(tmp_path, [10])
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 20, "loss"')
    assert [line["step"] for line in read_metrics(tmp_path)] == [10]
    assert read_metrics(tmp_path / "nowhere") == []


TRAIN = {"kind": "train", "step": 20, "epoch": 2.0, "seconds": 1.5}
TEST = {"kind": "evaluation", "step": 20, "split": "test", "seconds": 1.5}


def without(line, name):
    return {key: value for key, value in line.items() if key != name}


STRANGE = {
    "no kind": without(TRAIN, "kind"),
    "kind": {**TRAIN, "kind": "note"},
    "no step": without(TRAIN, "step"),
    "step": {**TRAIN, "step": "20"},
    "half a step": {**TRAIN, "step": 20.5},
    "step yes": {**TRAIN, "step": True},
    "step below": {**TRAIN, "step": -1},
    "large step": {**TRAIN, "step": 2**64},
    "no epoch": without(TRAIN, "epoch"),
    "epoch": {**TRAIN, "epoch": "2"},
    "epoch none": {**TRAIN, "epoch": None},
    "no seconds": without(TRAIN, "seconds"),
    "seconds": {**TRAIN, "seconds": []},
    "no split": without(TEST, "split"),
    "split": {**TEST, "split": 3},
    "seed": {**TEST, "seed": [1]},
    "list": [TRAIN],
    "number": 17,
    "text": "train",
}
RAW = {
    "NULs": b"\0" * 40,
    "one NUL": b'{"kind": "train", "step": 20, \0}',
    "no UTF-8": b'{"kind": "train", "step": 20, "epoch": 2.0, "seconds": 1.5, "\xff": 1}',
    "UTF-16": json.dumps(TRAIN).encode("utf-16"),
    "deep": b"[" * 100_000,
    "NaN": json.dumps({**TRAIN, "seconds": math.nan}).encode(),
    "infinite": b'{"kind": "train", "step": 20, "epoch": 1e999, "seconds": 1.5}',
    "400 digits": b'{"kind": "train", "step": 20, "epoch": ' + b"9" * 400 + b', "seconds": 1}',
    "5000 digits": b'{"kind": "train", "step": ' + b"9" * 5000 + b"}",
    "torn": b'{"step": 20, "lo',
}
RAW |= {name: json.dumps(line).encode() for name, line in STRANGE.items()}


@pytest.mark.parametrize("line", RAW.values(), ids=RAW)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_from_elsewhere_is_passed_over_and_said_once(tmp_path, line, end):
    run(tmp_path, [10])
    with (tmp_path / METRICS).open("ab") as file:
        file.write(line + b"\n" + line + end)
    said = []
    assert [line["step"] for line in read_metrics(tmp_path, said.append)] == [10]
    where = tmp_path / METRICS
    assert said == [f"{where}: 2 of 3 lines can't be read and don't count."]
    console = quiet()
    Logs(tmp_path, steps=100, resume_step=10, console=console).close()
    assert console.file.getvalue().splitlines() == said
    assert [line["step"] for line in read_metrics(tmp_path, said.append)] == [10]
    assert len(said) == 1


def test_a_quantity_that_is_no_number_is_none_or_not_there(tmp_path):
    huge = "9" * 400
    values = f'"a": NaN, "b": {huge}, "c": -1e999, "d": "1", "e": [1], "f": true, "g": null, "h": 2'
    line = json.dumps(TRAIN)[:-1] + f", {values}}}\n"
    (tmp_path / METRICS).write_text(line)
    said = []
    (read,) = read_metrics(tmp_path, said.append)
    assert read == TRAIN | {"a": None, "b": None, "c": None, "g": None, "h": 2}
    assert said == []
    run(tmp_path, [], resume_step=20)
    assert (tmp_path / METRICS).read_text() == line  # what stays, stays as it is


def test_an_older_run_goes_on_under_the_new_name(tmp_path):
    old = json.dumps({**TRAIN, "images_per_second": 10.0}) + "\n"
    (tmp_path / METRICS).write_text(old)
    run(tmp_path, [30], resume_step=20)
    speeds = [line["examples_per_second"] for line in read_metrics(tmp_path)]
    assert speeds == [10.0, 3120.0]
    both = json.dumps({**TRAIN, "images_per_second": 10.0, "examples_per_second": 11.0})
    (tmp_path / METRICS).write_text(both)
    assert read_metrics(tmp_path)[0]["examples_per_second"] == 11.0


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / METRICS).mkdir()
    with pytest.raises(Refused, match=r"metrics\.jsonl can't be read: IsADirectoryError"):
        read_metrics(tmp_path)


def test_seconds_go_on_after_a_resume(tmp_path):
    (tmp_path / METRICS).write_text(
        '{"kind": "train", "step": 5, "epoch": 1, "seconds": 300.5}\n'
        '{"kind": "train", "step": 9, "epoch": 2, "seconds": 900.5}\n'
    )
    run(tmp_path, [6], resume_step=5)
    assert 300.5 <= read_metrics(tmp_path)[-1]["seconds"] < 360


@pytest.mark.parametrize(("resume_step", "before"), [(None, 0.0), (5, 300.5)])
def test_the_clock_runs_from_the_start_of_the_process(tmp_path, resume_step, before):
    line = '{"kind": "train", "step": 5, "epoch": 1, "seconds": 300.5}\n'
    (tmp_path / METRICS).write_text(line)
    began = time.monotonic() - 1000
    logs = Logs(tmp_path, steps=10, resume_step=resume_step, console=quiet(), began=began)
    logs.train(6, STEP, epoch=1)
    seconds = read_metrics(tmp_path)[-1]["seconds"]
    logs.close()
    assert before + 1000 <= seconds <= logs.seconds < before + 1060


@pytest.mark.parametrize("seeds", [None, [3, 7]])
def test_a_run_that_begins_leaves_nothing_of_another(tmp_path, seeds):
    run(tmp_path, [10, 20], seeds=seeds)
    mine = tmp_path / "tensorboard" / "notes.txt"
    mine.write_text("mine")
    run(tmp_path, [5])
    assert [line["step"] for line in read_metrics(tmp_path)] == [5]
    left = [path for path in (tmp_path / "tensorboard").rglob("*") if path.is_file()]
    assert len(left) == 2
    assert mine in left
    assert {step for _, step in scalars(tmp_path / "tensorboard")} == {5}


KILLED = """
import os, signal, sys
from train.logs import Logs
logs = Logs(sys.argv[1], steps=100)
logs.train(10, {"loss": 2.0}, epoch=1)
logs.evaluation(10, "validation", {"loss": 2.5})
logs.train(20, {"loss": 1.0}, epoch=2)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_has_kept_nothing_back(tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path]
    ended = subprocess.run(command, cwd=ROOT, timeout=100, stdout=subprocess.DEVNULL)
    assert ended.returncode == -signal.SIGKILL
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 10, 20]
    logged = {("train/loss", 10): 2.0, ("validation/loss", 10): 2.5, ("train/loss", 20): 1.0}
    assert scalars(tmp_path / "tensorboard") == logged
    run(tmp_path, [30], resume_step=20, values={"loss": 0.5})
    assert scalars(tmp_path / "tensorboard") == logged | {("train/loss", 30): 0.5}


@pytest.mark.parametrize(("resume_step", "purged"), [(0, 1), (20, 21)])
def test_tensorboard_reads_events_and_what_to_hide(tmp_path, resume_step, purged):
    run(tmp_path, [10, 20, 30])
    run(tmp_path, [40], resume_step=resume_step)  # within the second: two files all the same
    folder = tmp_path / "tensorboard"
    assert len(list(folder.iterdir())) == 2
    found = events(folder)
    starts = [e.step for e in found if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [0, purged]
    assert [e.file_version for e in found if e.file_version] == ["brain.Event:2"] * 2
    assert scalars(folder)["train/loss", 30] == 1.25
    assert scalars(folder)["train/examples_per_second", 40] == 3120.0


@contextlib.contextmanager
def limited(size):
    """No file of this process can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("file", ["metrics.jsonl", "events.out.tfevents.*"])
def test_a_full_disk_is_one_line_and_leaves_whole_lines(tmp_path, file):
    logs = Logs(tmp_path, steps=100, console=quiet())
    logs.train(10, STEP, epoch=1)
    (path,) = tmp_path.rglob(file)
    before = path.read_bytes()
    # The other file is not the one that has no room.
    more = {f"quantity{i}": 1.0 for i in range(50)} if file == "metrics.jsonl" else {"a" * 99: 1.0}
    size = max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    with limited(size + 20 if path.stat().st_size == size else path.stat().st_size + 20):
        with pytest.raises(WriteFailed) as caught:
            logs.train(20, STEP | more, epoch=2)
        logs.close()
    assert re.fullmatch(r"/\S+ could not be written: File too large", str(caught.value))
    assert path.read_bytes()[: len(before)] == before
    assert [line["step"] for line in read_metrics(tmp_path)] == [10]
    assert ("train/loss", 10) in scalars(tmp_path / "tensorboard")  # and every event is whole
    run(tmp_path, [20], resume_step=10)
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20]
    assert scalars(tmp_path / "tensorboard")["train/loss", 20] == 1.25


def test_a_resume_on_a_full_disk_keeps_what_was_logged(tmp_path):
    run(tmp_path, [10, 20, 30])
    before = (tmp_path / METRICS).read_bytes()
    with limited(100), pytest.raises(WriteFailed, match=r"metrics\.jsonl could not be written"):
        Logs(tmp_path, steps=100, resume_step=20, console=quiet())
    assert (tmp_path / METRICS).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [METRICS, "tensorboard"]


def test_events_that_cannot_begin_leave_no_file_open(tmp_path):
    with limited(10), pytest.raises(WriteFailed, match="File too large"):
        Events(tmp_path, purge_step=0)
    gc.collect()  # a file that is not closed is a warning, and an error here
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]


@pytest.mark.parametrize("room", [0, 1])
def test_without_descriptors_nothing_stays_open(tmp_path, room):
    run(tmp_path, [10])
    before = (tmp_path / METRICS).read_bytes()
    with open(os.devnull) as last:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last.fileno() + 1 + room, hard))
        try:
            with pytest.raises((WriteFailed, Refused), match="Too many open files"):
                Logs(tmp_path, steps=100, resume_step=10, console=quiet())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    gc.collect()  # a file that is not closed is a warning, and an error here
    assert (tmp_path / METRICS).read_bytes() == before


def test_a_run_that_needs_no_cut_needs_no_room_for_one(tmp_path, monkeypatch):
    run(tmp_path, [10])
    monkeypatch.setattr("train.logs.write", None)
    run(tmp_path, [], resume_step=10)
    with pytest.raises(TypeError):
        run(tmp_path, [], resume_step=5)


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("interactive", [False, True])
def test_output_that_cannot_be_written_is_one_line(tmp_path, interactive):
    with open("/dev/full", "w") as full:
        console = Console(file=full, force_terminal=interactive, force_interactive=interactive)
        screen = Terminal(console, 100)
        with pytest.raises(WriteFailed, match="the output could not be written: No space left"):
            screen.train(10, STEP, epoch=1)
        screen.close()


def test_seeds_have_a_line_and_a_folder_each(tmp_path):
    logs = Logs(tmp_path, steps=10, console=quiet(), seeds=[3, 7])
    logs.train(1, {"loss": np.asarray([1.5, math.nan]), "learning_rate": 0.1}, epoch=0.5)
    logs.evaluation(1, "test", {"accuracy": [0.25, 0.75]})
    logs.close()
    lines = [{k: v for k, v in e.items() if k != "seconds"} for e in read_metrics(tmp_path)]
    train = {"kind": "train", "step": 1, "epoch": 0.5, "learning_rate": 0.1}
    test = {"kind": "evaluation", "split": "test", "step": 1}
    assert lines == [
        {**train, "seed": 3, "loss": 1.5},
        {**train, "seed": 7, "loss": None},
        {**test, "seed": 3, "accuracy": 0.25},
        {**test, "seed": 7, "accuracy": 0.75},
    ]
    assert scalars(tmp_path / "tensorboard" / "seed_7")["test/accuracy", 1] == 0.75
    assert ("train/loss", 1) not in scalars(tmp_path / "tensorboard" / "seed_7")


@pytest.mark.parametrize(
    ("seeds", "values", "message"),
    [
        (None, {"step": 1.0}, "'step'"),
        (None, {"loss": [1.0, 2.0]}, "loss has 2 values in a run of 0 seeds"),
        ([0, 1], {"loss": [1.0, 2.0, 3.0]}, "loss has 3 values in a run of 2 seeds"),
    ],
)
def test_values_that_fit_no_line_are_refused(tmp_path, seeds, values, message):
    logs = Logs(tmp_path, steps=10, console=quiet(), seeds=seeds)
    with pytest.raises(ValueError, match=message):
        logs.train(1, values, epoch=0)
    logs.close()
    assert read_metrics(tmp_path) == []


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "HERE", processes.Joined(1, 2))
    console = Console(file=io.StringIO())
    logs = Logs(tmp_path / "run", steps=10, console=console)
    logs.say("hello")
    logs.train(1, STEP, epoch=0)
    logs.evaluation(1, "test", {"loss": 1.0})
    logs.close()
    assert console.file.getvalue() == ""
    assert not (tmp_path / "run").exists()


def terminal(width: int) -> Console:
    return Console(
        file=io.StringIO(),
        force_terminal=True,
        force_interactive=True,
        width=width,
        color_system=None,
    )


LARGE = {
    "loss": 0.0001234,
    "accuracy": 0.98765,
    "learning_rate": 0.001,
    "examples_per_second": 12345,
}


@pytest.mark.parametrize("width", [20, 40, 80, 120])
@pytest.mark.parametrize("seeds", [None, [0, 1, 2]])
@pytest.mark.parametrize("loss", [0.0001234, math.nan])
def test_the_live_line_fits_and_is_one_line(tmp_path, width, seeds, loss):
    values = LARGE | {"loss": loss, "gradient_norm": 1.0}
    if seeds:
        values |= {"loss": [loss, 1.0, 2.0], "accuracy": [0.9, 0.95, 1.0]}
    console = terminal(width)
    logs = Logs(tmp_path, steps=64000, console=console, seeds=seeds)
    for step in (12340, 12345):
        logs.train(step, values, epoch=123.4)
        written = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
        lines = [line for line in re.split(r"[\r\n]", written) if line]
        assert len(lines) == (1 if step == 12340 else 2)
        assert all(0 < len(line.rstrip()) < width for line in lines)
        # Nothing ends the line, so that the next one is drawn over it.
        assert "\n" not in console.file.getvalue()
    logs.close()


def test_80_columns_hold_all_that_a_run_is_watched_for(monkeypatch):
    clock = iter((0.0, 4.35))  # five steps in 4.35 s: 51655 more take 12 h 29 min
    monkeypatch.setattr("train.terminal.time", SimpleNamespace(monotonic=lambda: next(clock)))
    console = terminal(80)
    screen = Terminal(console, 64000)
    for step in (12340, 12345):
        screen.train(step, LARGE | {"loss": 0.0123}, epoch=123.4)
    last = console.file.getvalue().rsplit("\x1b[2K", 1)[-1]
    screen.close()
    assert last.rstrip() == (
        "12345/64000 epoch 123.4 acc 98.8% loss 0.0123 lr 0.001 12345 ex/s 12h 29m left"
    )


@pytest.mark.parametrize(("width", "bar"), [(60, 0), (80, 0), (120, 30), (200, 30)])
def test_a_bar_fills_the_room_that_is_left(width, bar):
    console = terminal(width)
    screen = Terminal(console, 64000)
    screen.train(64000, LARGE, epoch=123.4)
    assert len(re.findall("[━╸╺]", console.file.getvalue())) == bar
    screen.close()


def test_a_terminal_keeps_evaluations_and_what_is_said(tmp_path):
    console = terminal(80)
    logs = Logs(tmp_path, steps=100, console=console)
    logs.train(10, STEP, epoch=1)
    scores = {"loss": 0.5, "accuracy": 0.9821, "precision": 0.98, "recall": 0.97, "f1": 0.96}
    logs.evaluation(10, "validation", scores | {"count": 180})
    logs.say("one two " * 15 + "\n  " + "word " * 30)
    logs.close()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).split("\n")
    (line,) = (line for line in lines if "validation" in line)
    assert "step 10  validation  accuracy 98.21%  loss 0.5  macro precision 98.00%" in line
    assert len(line.rsplit("\r", 1)[-1]) < 80
    assert any(one.rsplit("\r", 1)[-1].startswith("  word " + "word " * 20) for one in lines)
    assert sum("one two" in one for one in lines) == 2


def test_without_a_terminal_lines_are_plain_and_not_too_many(tmp_path):
    console = Console(file=io.StringIO(), width=40)
    logs = Logs(tmp_path, steps=100, console=console)
    for step in range(10, 101, 10):
        logs.train(step, STEP, epoch=step / 10)
    logs.evaluation(100, "test", {"accuracy": 0.9821, "top5": 1.0, "count": 355})
    logs.close()
    logs.say("See [red]this[/red]: \x41 path/that/is/long/and/must/stay/whole/report.html")
    first, last, test, said = console.file.getvalue().splitlines()
    assert first == "step 10/100  epoch 1.0  acc 50.0%  loss 1.25  lr 0.1  3120 ex/s"
    assert re.fullmatch(
        re.escape(first).replace("10/100", "100/100").replace("1\\.0", "10\\.0") + r"  0:00 left",
        last,
    )
    assert test == "step 100  test  accuracy 98.21%  top-5 accuracy 100.00%  examples 355"
    assert said == "See [red]this[/red]: A path/that/is/long/and/must/stay/whole/report.html"


def test_a_narrow_encoding_ends_no_run(tmp_path):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    logs = Logs(tmp_path, steps=10, console=console, seeds=[0, 1])
    logs.say("a 32×32 image")
    logs.evaluation(1, "test", {"loss": [1.0, 2.0]})
    logs.close()
    assert raw.getvalue().decode() == "a 32?32 image\nstep 1  test  loss 1.5?0.71\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (11045, "3h 04m"), (183600, "2d 03h")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
