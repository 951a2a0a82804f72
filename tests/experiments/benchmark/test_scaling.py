"""Scaling: what is measured on how many devices, what is said of it, and a quick run of it all."""

import io
import json

import pytest
from rich.console import Console

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark.__main__ import Config
from experiments.benchmark.scaling import efficiency, exchanged, layout
from train.refusal import Refused


def test_efficiency_is_of_as_many_times_one_device_round_by_round():
    one, four = {"rates": [10.0, 20.0]}, {"devices": 4, "rates": [30.0, 80.0]}
    assert efficiency(four, one) == [0.75, 1.0]


def test_what_is_divided_and_exchanged_is_said():
    rows = [(1, 1), (4, 1), (4, 4)]
    said = [layout({"devices": devices, "fsdp": fsdp}) for devices, fsdp in rows]
    assert said == ["nothing", "data", "data and state (fsdp)"]
    found = {"all-reduce": {"count": 77, "bytes": 1089912, "sent": 1.0}}
    assert exchanged({"exchanged": found, "certain": True}) == "all-reduce 1.09 (77)"
    assert exchanged({"exchanged": found, "certain": False}).endswith("(77), and more in loops")


@pytest.mark.parametrize("devices", ["", "1,x", "0", "1,,2", "-1"])
def test_what_is_no_number_of_devices_is_refused(devices):
    with pytest.raises(Refused, match="are not numbers of devices"):
        Config(devices=devices)


def test_a_step_is_measured_on_one_and_on_two_devices(tmp_path, monkeypatch):
    console = Console(width=160, file=io.StringIO())
    monkeypatch.setattr(benchmark, "Console", lambda: console)
    file = tmp_path / "numbers.json"
    what = {"what": "scaling", "models": "lenet5", "devices": "1,2", "batch_size": 4}
    benchmark.main(Config(**what, rounds=1, seconds=0.01, json=file))
    rows = json.loads(file.read_text())
    asked = [(row["devices"], row["fsdp"], row["batch_size"]) for row in rows]
    assert asked == [(1, 1, 4), (2, 1, 8), (2, 2, 8)]
    assert all(len(row["rates"]) == 1 and row["rates"][0] > 0 for row in rows)
    one, data, both = (row["facts"] for row in rows)
    weights = one["parameters"]
    assert one["exchanged"] == {}
    assert [*data["exchanged"]] == ["all-reduce"]
    assert weights <= data["exchanged"]["all-reduce"]["bytes"] <= weights + 64  # no BatchNorm
    # Of LeNet-5 one layer is above 64 KiB; with its momentum half of it lies on each device.
    large = 400 * 120 * 4
    assert both["exchanged"]["all-gather"] == {"count": 1, "bytes": large, "sent": large / 2}
    assert one["held"] == data["held"] == both["held"] + large
    text = console.file.getvalue()
    assert "lenet5: 4 examples of 32x32 a device, float32" in text
    assert "share its" in text
    assert "such as a GPU's" in text
