"""Files that are gone, changed, full, in the way: one line, and what was sound is as it was."""

import json
import os
import re
import shutil

import commands
import numpy as np
import pytest
from commands import again, classify, ended, one_line, run, start, state, steps, wait_for, whole_end

slow = pytest.mark.slow
PLACES = np.random.default_rng(0).uniform(size=25)
"""Of flipped bytes: the share of all bytes of a checkpoint that lie before it."""


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncated(step):
    file = largest(step / "state")
    os.truncate(file, file.stat().st_size // 2)


def flipped(step, number):
    """The place is one of `PLACES`: of all bytes of the checkpoint, in all of its files."""
    files = sorted(p for p in step.rglob("*") if p.is_file())
    at = int(PLACES[number] * sum(file.stat().st_size for file in files))
    for file in files:
        content = bytearray(file.read_bytes())
        if at < len(content):
            content[at] ^= 1 << number % 8
            file.write_bytes(content)
            return
        at -= len(content)


def without_metadata(step):
    (step / "record" / "metadata").unlink()


def emptied(step):
    shutil.rmtree(step)
    step.mkdir()


DAMAGE = {
    "the last checkpoint truncated": [truncated],
    "a byte flipped in it": [
        lambda step, number=number: flipped(step, number) for number in range(len(PLACES))
    ],
    "its metadata removed": [without_metadata],
    "an empty folder in its place": [emptied],
}


@slow
@pytest.mark.parametrize("kind", DAMAGE)
def test_the_newest_sound_checkpoint_is_used(finished, whole, tmp_path, tried, kind):
    for number, damage in enumerate(DAMAGE[kind]):
        path = tmp_path / f"run{number}"
        shutil.copytree(finished, path)
        earlier, last = commands.saved(path)
        damage(path / "checkpoints" / str(last))
        files = {p.name for p in (path / "checkpoints" / str(last)).rglob("*")}
        end = run(again(path))
        whole_end(end)
        if f"Going on from step {earlier}" not in end.out:  # a byte that nobody reads
            assert kind == "a byte flipped in it"
            assert state(path) == whole
            tried(kind)
            continue
        assert f"the checkpoint of step {last} is damaged" in end.out.replace("\n", " ")
        aside = path / "checkpoints" / "damaged" / str(last)
        assert {p.name for p in aside.rglob("*")} == files
        assert state(path) == whole
        tried(kind, f"nothing; {last - earlier} steps done again")


def test_a_config_that_is_gone_or_wrong_begins_no_other_run(finished, tmp_path, tried):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    config = json.loads((path / "config.json").read_text())
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    (path / "config.json").unlink()
    one_line(run(again(path)), 2, r"holds a run whose config\.json is missing")
    tried("config.json removed")
    (path / "config.json").write_text(json.dumps({**config, "steps": True}))
    one_line(run(again(path)), 2, r"config\.json holds a wrong value: steps=True: expected `int")
    tried("a value of another type in config.json")
    (path / "config.json").write_bytes(before[path / "config.json"])
    for file, content in before.items():
        assert file.read_bytes() == content


def test_what_cannot_be_written_is_refused(pictures, tmp_path, tried):
    (tmp_path / "file").write_text("kept")
    command = classify(pictures, tmp_path / "run")
    command[command.index(tmp_path / "run")] = tmp_path / "file" / "run"
    one_line(run(command), 2, r"workdir='.*/file/run' can't be written: Not a directory")
    assert (tmp_path / "file").read_text() == "kept"
    tried("a file in place of the work directory", "nothing, nothing had begun")


@slow
def test_two_runs_in_one_directory(pictures, whole, tmp_path, tried):
    path = tmp_path / "run"
    process = start(classify(pictures, path))
    wait_for(lambda: steps(path) > 0, process)
    words = rf"in use by another run \(process {process.pid}\)"
    for command in (classify(pictures, path), again(path)):
        one_line(run(command), 2, words)
        tried("two runs in one work directory")
    (path / ".lock").unlink()
    one_line(run(again(path)), 2, "in use by another run$")
    tried("the lock's file deleted under a run")
    whole_end(ended(process))
    assert state(path) == whole


@slow
def test_metrics_deleted_under_a_run_come_back(pictures, whole, tmp_path, tried):
    path = tmp_path / "run"
    process = start(classify(pictures, path))
    wait_for(lambda: steps(path) > 20, process)
    (path / "metrics.jsonl").unlink()
    shutil.rmtree(path / "tensorboard")
    end = ended(process)
    whole_end(end)
    assert end.out.replace("\n", " ").count("was deleted, and is put back.") == 2, end.out
    assert commands.trained(path) == [*range(1, commands.STEPS + 1)]
    assert state(path) == whole
    tried("metrics.jsonl deleted under a run")


@slow
def test_a_directory_moved_under_a_run_ends_it(pictures, whole, tmp_path, tried):
    path, moved = tmp_path / "run", tmp_path / "moved"
    process = start(classify(pictures, path))
    wait_for(lambda: steps(path) > 120 and commands.saved(path), process)
    path.rename(moved)
    one_line(ended(process, 60), 1, "could not be written: ")
    assert not (path / "checkpoints").exists()
    reached, begun = steps(moved), commands.saved(moved)[-1]
    whole_end(run(again(moved)))
    assert state(moved) == whole
    tried("the work directory moved under a run", f"nothing; {reached - begun} steps done again")


FEW = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""JAX's cache has files of its own, and words of its own where they can't be written."""


@pytest.mark.parametrize(
    "most", [12, *(pytest.param(n, marks=slow) for n in (7, 8, 9, 10, 11, 14, 16, 20))]
)
def test_descriptors_that_run_out_are_one_line(pictures, tmp_path, tried, most):
    path = tmp_path / "run"
    end = run(classify(pictures, path, log_every=50), limit=("RLIMIT_NOFILE", most), **FEW)
    if end.code == 0:
        whole_end(end)
    else:
        # A picture that can't be read is the data's fault as far as is known: 2.
        of_data = re.match("error: .*, example \\d+: cannot be read", end.err)
        words = "cannot be read" if of_data else "could not be (written|read|opened)"
        one_line(end, 2 if of_data else 1, f"{words}: Too many open files")
    whole_end(run(again(path)))
    tried("descriptors run out (RLIMIT_NOFILE)", "the steps of that start")


@slow
@pytest.mark.parametrize("most", [8, 12])
def test_descriptors_that_run_out_as_it_goes_on_blame_no_checkpoint(
    finished, whole, tmp_path, tried, most
):
    path = tmp_path / "run"
    shutil.copytree(finished, path)
    shutil.rmtree(path / "checkpoints" / str(commands.STEPS))
    before = commands.saved(path)
    end = run(again(path), limit=("RLIMIT_NOFILE", most), **FEW)
    one_line(end, 1, "could not be (written|read): Too many open files")
    assert not (path / "checkpoints" / "damaged").exists()
    assert commands.saved(path) == before
    whole_end(run(again(path)))
    assert state(path) == whole
    tried("descriptors run out as a run goes on")


@slow
@pytest.mark.parametrize("most", [1000, 3000, 20_000])
def test_files_that_may_not_grow_are_one_line(pictures, whole, tmp_path, tried, most):
    """As on a full disk; `tests/train/test_full_disk.py` has every file in its turn, and disks."""
    path = tmp_path / "run"
    end = run(classify(pictures, path), limit=("RLIMIT_FSIZE", most), **FEW)
    one_line(end, 1, "could not be written: File too large")
    whole_end(run(classify(pictures, path)))
    assert state(path) == whole
    tried("files may not grow (RLIMIT_FSIZE)", "the steps since the last checkpoint")
