"""A run goes on with another number of devices: the same examples, the same state."""

import json

import commands
import numpy as np
import pytest
from elastic import BASE, BATCH, DIGITS, RESUMED, STEPS, WHOLE
from image_files import classes, voc
from pairs import port

slow = pytest.mark.slow
NEAR = 1e-9
"""Of an array's largest value, in float64: the order of sums is another."""

LIMIT = 1200
"""Seconds that the runs of a task may take together: a minute or two, on two quiet cores."""


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
    "cnn1d": ("sequence", series),
    "fcn1d": ("sequence", series),
    # Read by threads, cropped on the host; BatchNorm over the whole batch.
    "plain_cnn": ("classify", pictures, "--size", "16", "--crop", "resized"),
    "unet": ("segment", masks, "--size", "32", "--channels", "4", "8"),
    "yolov1_small": ("detect", boxes, "--size", "32"),
}
"""Network -> its experiment, its data, and what else is asked for."""

quick, *others = TASKS
in_each_type = pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=slow)])
of_each_task = pytest.mark.parametrize(
    "model", [quick, *(pytest.param(m, marks=slow) for m in others)]
)


def asked_of(model, path):
    """The experiment, and its arguments."""
    experiment, make, *more = TASKS[model]
    return experiment, ["--data", make(path), "--model", model, *more]


def indices(path):
    """(STEPS, BATCH): which examples each step had."""
    lines = map(json.loads, (path / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in steps] == [*range(1, STEPS + 1)]
    packed = [[line[f"indices_{k}"] for k in range(BATCH // DIGITS)] for line in steps]
    assert np.max(packed) < BASE**DIGITS
    digits = np.array(packed, int)[..., None] // BASE ** np.arange(DIGITS) % BASE
    return digits.reshape(STEPS, BATCH)


def apart(path, other):
    """The largest difference in any array of two states, as a share of its largest value."""
    with np.load(path / "state.npz") as a, np.load(other / "state.npz") as b:
        assert a.files == b.files
        return max(
            np.abs(a[name].astype(np.float64) - b[name]).max() / max(np.abs(b[name]).max(), 1e-30)
            for name in a.files
        )


@in_each_type
@of_each_task
def test_a_run_goes_on_with_other_devices(model, dtype, tmp_path, tried):
    experiment, asked = asked_of(model, tmp_path)
    command = ["tests/making/elastic.py", tmp_path, dtype, experiment, *asked]
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
    print(f"{model}, {dtype}: " + ", ".join(f"{k} {v:.1e}" for k, v in differ.items()))
    if dtype == "float64":
        assert max(differ.values()) < NEAR
    tried(f"another number of devices ({model}, {dtype}, {max(differ.values()):.0e} apart)")


def records(path):
    """The provenance of each process."""
    first = json.loads((path / "provenance.json").read_text())
    return [first, *first.get("resumed", [])]


def runs_of(tmp_path, dtype, experiment, asked, runs, *more, devices):
    """Start a process that makes these runs."""
    listed = json.dumps([[name, of, [*options, *more]] for name, of, options in runs])
    command = ["tests/making/several.py", tmp_path, dtype, experiment, listed, *asked]
    x64 = "1" if dtype == "float64" else "0"
    return commands.start(
        command, JAX_ENABLE_X64=x64, JAX_NUM_CPU_DEVICES=devices, PYTHONPATH=commands.ROOT
    )


@in_each_type
@of_each_task
def test_two_processes_are_as_one(model, dtype, tmp_path, tried):
    experiment, asked = asked_of(model, tmp_path)
    at = port()

    def made(listed, count):
        """These runs by one process of four devices, or by a pair of two each."""
        pair = ["--coordinator", f"127.0.0.1:{at}", "--processes", count, "--process-id"]
        each = [[*pair, index] if count > 1 else [] for index in range(count)]
        devices = str(4 // count)
        started = [
            runs_of(tmp_path, dtype, experiment, asked, listed, *more, devices=devices)
            for more in each
        ]
        for process in started:
            end = commands.ended(process, 600)
            assert (end.code, end.err) == (0, ""), end
        return [name for name, *_ in listed]

    runs = made([("one", None, ["--devices", 1]), ("four", None, [])], 1)
    of_pair = [("pair", None, []), ("pair to pair", "pair", []), ("four to pair", "four", [])]
    runs += made(of_pair, 2)
    runs += made([("pair to four", "pair", []), ("pair to one", "pair", ["--devices", 1])], 1)

    first = indices(tmp_path / "one")
    for where in runs:
        np.testing.assert_array_equal(indices(tmp_path / where), first)
    assert apart(tmp_path / "pair to pair", tmp_path / "pair") == 0  # the same layout
    differ = {where: apart(tmp_path / where, tmp_path / "one") for where in runs}
    print(f"{model}, {dtype}: " + ", ".join(f"{k} {v:.1e}" for k, v in differ.items()))
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
    tried(f"two processes in place of one ({model}, {dtype}, {max(differ.values()):.0e} apart)")
