"""A run goes on with another number of devices: the same examples, the same state."""

import json

import commands
import numpy as np
import pytest
from elastic import BATCH, RESUMED, STEPS, WHOLE
from image_files import classes, voc
from pairs import port

slow = pytest.mark.slow
NEAR = 1e-9
"""Of an array's largest value, in float64: the order of sums is another."""

LIMIT = 1200
"""Seconds that the runs of a task may take together: a minute, on two quiet cores."""


def series(path):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(24, 32, 1)).astype(np.float32)
    np.savez(path / "set.npz", signal=signal, label=np.arange(24, dtype=np.int32) % 2)
    return f"series:{path / 'set.npz'}"


def pictures(path):
    classes(path / "pictures", {"a": 12, "b": 12}, size=(20, 20))
    return f"folder:{path / 'pictures'}"


def in_voc(path, *arguments, **annotated):
    for split, names in (("train", "abcdefghijklmnopqrst"), ("val", "uvwx")):
        voc(path / "VOC2012", [*names], *arguments, size=(32, 32), split=split, **annotated)
    return f"voc:{path / 'VOC2012'}"


def masks(path):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20], mask[20:28, 4:12] = 1, 2
    return in_voc(path, mask=mask)


def boxes(path):
    return in_voc(path, [("cat", (3, 3, 20, 20), 0), ("dog", (12, 10, 30, 28), 0)])


TASKS = {
    "sequence": (series, "--model", "fcn1d"),
    # Read by threads, cropped on the host; BatchNorm over the whole batch.
    "classify": (pictures, "--model", "plain_cnn", "--size", "16", "--crop", "resized"),
    "segment": (masks, "--model", "unet", "--size", "32", "--channels", "4", "8"),
    "detect": (boxes, "--model", "yolov1_small", "--size", "32"),
}


def indices(path):
    """(STEPS, BATCH): which examples each step had."""
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in steps] == [*range(1, STEPS + 1)]
    return np.array([[line[f"index_{k}"] for k in range(BATCH)] for line in steps])


def apart(path, other):
    """The largest difference in any array of two states, as a share of its largest value."""
    with np.load(path / "state.npz") as a, np.load(other / "state.npz") as b:
        assert a.files == b.files
        return max(
            np.abs(a[name].astype(np.float64) - b[name]).max() / max(np.abs(b[name]).max(), 1e-30)
            for name in a.files
        )


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=slow)])
@pytest.mark.parametrize("task", ["sequence", *(pytest.param(t, marks=slow) for t in [*TASKS][1:])])
def test_a_run_goes_on_with_other_devices(task, dtype, tmp_path, tried):
    make, *asked = TASKS[task]
    command = ["tests/making/elastic.py", tmp_path, dtype, task, "--data", make(tmp_path), *asked]
    env = {"JAX_NUM_CPU_DEVICES": "4", "JAX_ENABLE_X64": "1" if dtype == "float64" else "0"}
    end = commands.ended(commands.start(command, **env), LIMIT)
    assert (end.code, end.err) == (0, ""), end
    runs = [*WHOLE, *RESUMED]
    assert json.loads((tmp_path / "codes.json").read_text()) == dict.fromkeys(runs, 0)

    first = indices(tmp_path / "one")
    assert {*first.ravel()} == {*range(int(first.max()) + 1)}
    for where in runs:
        np.testing.assert_array_equal(indices(tmp_path / where), first)
    programs = {of["program"] for where in runs for of in records(tmp_path / where)}
    assert len(programs) == 1
    for where in RESUMED:
        said = (tmp_path / where / "said.txt").read_text()
        assert "Going on from step 10" in said
        assert "program" not in said

    with np.load(tmp_path / "one" / "state.npz") as state:
        assert {str(state[name].dtype) for name in state.files if "kernel" in name} == {dtype}
        assert int(state["step"]) == STEPS
    assert apart(tmp_path / "four to four", tmp_path / "four") == 0  # as many all along
    differ = {where: apart(tmp_path / where, tmp_path / "one") for where in runs}
    print(f"{task}, {dtype}: " + ", ".join(f"{k} {v:.1e}" for k, v in differ.items()))
    if dtype == "float64":
        assert max(differ.values()) < NEAR
    tried(f"another number of devices ({task}, {dtype}, {max(differ.values()):.0e} apart)")


def records(path):
    """The provenance of each process."""
    first = json.loads((path / "provenance.json").read_text())
    return [first, *first.get("resumed", [])]


def runs_of(tmp_path, dtype, task, asked, runs, *more, devices):
    """Start a process that makes these runs."""
    listed = json.dumps([[name, of, [*options, *more]] for name, of, options in runs])
    command = ["tests/making/several.py", tmp_path, dtype, task, listed, *asked]
    x64 = "1" if dtype == "float64" else "0"
    return commands.start(
        command, JAX_ENABLE_X64=x64, JAX_NUM_CPU_DEVICES=devices, PYTHONPATH=commands.ROOT
    )


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=slow)])
@pytest.mark.parametrize("task", ["sequence", *(pytest.param(t, marks=slow) for t in [*TASKS][1:])])
def test_two_processes_are_as_one(task, dtype, tmp_path, tried):
    make, *asked = TASKS[task]
    asked = ["--data", make(tmp_path), *asked]
    at = port()
    of_pair = [("pair", None, []), ("pair to pair", "pair", [])]
    both = [
        runs_of(
            *(tmp_path, dtype, task, asked, of_pair),
            *("--coordinator", f"127.0.0.1:{at}", "--processes", 2, "--process-id", index),
            devices="2",
        )
        for index in range(2)
    ]
    for process in both:
        end = commands.ended(process, 600)
        assert (end.code, end.err) == (0, ""), end
    of_one = [
        ("one", None, ["--devices", 1]),
        ("four", None, []),
        ("pair to four", "pair", []),
        ("pair to one", "pair", ["--devices", 1]),
    ]
    end = commands.ended(runs_of(tmp_path, dtype, task, asked, of_one, devices="4"), 600)
    assert (end.code, end.err) == (0, ""), end

    runs = [name for name, *_ in (*of_pair, *of_one)]
    first = indices(tmp_path / "one")
    for where in runs:
        np.testing.assert_array_equal(indices(tmp_path / where), first)
    assert apart(tmp_path / "pair to pair", tmp_path / "pair") == 0  # the same layout
    differ = {where: apart(tmp_path / where, tmp_path / "one") for where in runs}
    print(f"{task}, {dtype}: " + ", ".join(f"{k} {v:.1e}" for k, v in differ.items()))
    if dtype == "float64":
        assert max(differ.values()) < NEAR
    # Evaluation too: each process scores its own rows, and all are measured.
    found = {where: json.loads((tmp_path / where / "summary.json").read_text()) for where in runs}
    tests = {where: [k for k in found[where] if k.startswith("test/")] for where in runs}
    assert tests["pair"] == tests["one"] != []
    if dtype == "float64":
        for name in tests["one"]:
            values = [found[where][name] for where in runs]
            assert values[0] is None or np.ptp(values) < NEAR * max(1, abs(values[0])), name
    tried(f"two processes in place of one ({task}, {dtype}, {max(differ.values()):.0e} apart)")
