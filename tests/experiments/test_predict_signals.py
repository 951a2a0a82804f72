"""What a run of signals says of files is what its own evaluation found."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from experiments import classify, evaluate, predict, sequence
from train import cli
from train.data.decode import Unreadable
from train.opened import opened
from train.refusal import Failed, Refused

SMALL = {"steps": 3, "batch_size": 4, "warmup_steps": 0, "evaluate_every": 3, "devices": 1}
SMALL |= {"learning_rate": 0.01, "ema": 0.0, "validation": 0.0, "shift": 0.0, "model": "cnn1d"}


def sound(path, steps, pitch, rate=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 8000 * np.sin(pitch * np.arange(steps))
    wavfile.write(path, rate, values.astype(np.int16))
    return path


def trained(data, path, **fields):
    sequence.main(sequence.Config(data=data, workdir=path, **{**SMALL, **fields}))
    return path


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for split, count in (("train", 6), ("test", 5)):
        for i in range(count):
            name, pitch = (("low", 0.2), ("high", 1.5))[i % 2]
            sound(root / split / name / f"{i}.wav", 12 + i, pitch)
    return root


@pytest.fixture(scope="module")
def run(sounds, tmp_path_factory):
    return trained(f"wav:{sounds}", tmp_path_factory.mktemp("run"))


def told(path, *inputs, **fields):
    predict.main(predict.Config(paths=(str(path), *map(str, inputs)), **fields))


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_wav_files_give_the_run_s_own_result(run, sounds, tmp_path, capsys):
    told(run, sounds / "test", out=tmp_path / "out.csv", pictures=tmp_path / "drawn")
    found = rows(tmp_path / "out.csv")
    own = {row["file"]: row for row in rows(run / "predictions.csv")}
    assert len(found) == len(own) == 5
    for row in found:
        kept = own["test/" + row["file"].removeprefix(f"{sounds}/test/")]
        assert row["prediction"] == kept["prediction"]
        assert float(row["score"]) == pytest.approx(float(kept["score"]), abs=1e-5)
    assert "high/1.wav" in capsys.readouterr().out
    drawn = sorted((tmp_path / "drawn").rglob("*.png"))
    assert [path.name for path in drawn] == ["1.png", "3.png", "0.png", "2.png", "4.png"]
    with Image.open(drawn[0]) as picture:
        assert picture.size == (640, 260)


def test_rows_of_csv_and_npz_give_what_arrays_give(run, tmp_path):
    rng = np.random.default_rng(0)
    signals = [rng.normal(size=n).astype(np.float32) for n in (9, 17)]
    lines = ["label," + ",".join(f"v{k}" for k in range(17))]
    lines += ["high," + ",".join(map(repr, map(float, one))) for one in signals]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    padded = np.zeros((2, 17, 1))
    for one, signal in zip(padded, signals, strict=True):
        one[: len(signal), 0] = signal
    np.savez(tmp_path / "a.npz", signal=padded, length=[9, 17])
    told(run, tmp_path / "a.csv", tmp_path / "a.npz", out=tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["file"].removeprefix(f"{tmp_path}/") for row in found] == [
        "a.csv:2", "a.csv:3", "a.npz[0]", "a.npz[1]",
    ]  # fmt: skip
    wanted = opened(run).predict(signals)
    for row, scores in zip(found, [*wanted, *wanted], strict=True):
        np.testing.assert_allclose(list(row["scores"].values()), scores, atol=1e-6)


def test_what_a_run_can_t_take_is_named_and_the_others_are_told(run, tmp_path, capsys):
    sound(tmp_path / "a" / "fast.wav", 12, 1.0, rate=200)
    sound(tmp_path / "a" / "long.wav", 400, 1.0)
    (tmp_path / "a" / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "a" / "nan.csv").write_text("high,1,nan,3\nlow,1,2,3\n")
    (tmp_path / "a" / "note.md").write_text("")
    (tmp_path / "a" / "texts.csv").write_text("label,a,b\nhigh,1,2\nlow,1,two\n")
    tables = [tmp_path / "a" / name for name in ("nan.csv", "texts.csv")]
    with pytest.raises(Failed, match="5 of 6 signals can't be read"):
        told(run, tmp_path / "a", *tables)
    said = "".join(capsys.readouterr())
    for line in (
        "fast.wav: has 200 steps a second; the run takes 100",
        "long.wav: has 400 steps; wanted: at most 17",
        "broken.wav: cannot be decoded: no WAV file",
        "nan.csv:1: signal[1, 0]=nan, which is not finite",
        "texts.csv: line 3 has 'two' as value 2, no number",
        "Files that are no WAV files by their names are left alone: note.md",
    ):
        assert line in " ".join(said.split()), line
    with pytest.raises(Unreadable, match=r"fast\.wav"):
        opened(run).predict([tmp_path / "a" / "fast.wav"])
    with pytest.raises(Refused, match=r"signals\[0\] is float64 \(1, 2, 3\)"):
        opened(run).predict([np.zeros((1, 2, 3))])
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="holds no signal"):
        told(run, tmp_path / "empty")
    with pytest.raises(Refused, match=r"note\.md' is no file of signals: \.wav"):
        told(run, tmp_path / "a" / "note.md")


def test_the_page_once_more(run, sounds, tmp_path):
    evaluate.main(evaluate.Config(run=run, out=tmp_path / "own"))
    own, again = (
        json.loads((path / "summary.json").read_text()) for path in (run, tmp_path / "own")
    )
    assert again["test/accuracy"] == own["test/accuracy"]
    assert again["test/loss"] == pytest.approx(own["test/loss"], rel=1e-6)
    page = (tmp_path / "own" / "report.html").read_text()
    assert "Waveforms" in page
    assert "could not be drawn" not in page
    # Series of another file, all as long, and shorter than the run's.
    (tmp_path / "other.csv").write_text("high,1,2,3\nlow,3,2,1,0\nhigh,2,2,2\nlow,0,0,1\n")
    found = evaluate.main(
        evaluate.Config(run=run, data=f"series:{tmp_path / 'other.csv'}", out=tmp_path / "other")
    )
    assert found.scalars["count"] == 4
    (tmp_path / "long.csv").write_text(
        "".join(f"{c}" + ",1" * 40 + "\n" for c in 3 * ["high", "low"])
    )
    with pytest.raises(Refused, match=r"has signals of up to 40 steps: series of .* must have"):
        evaluate.main(
            evaluate.Config(run=run, data=f"series:{tmp_path / 'long.csv'}", split="train")
        )


def test_other_signals_are_refused(run, sounds, tmp_path):
    for i in range(4):
        sound(tmp_path / "fast" / ("low", "high")[i % 2] / f"{i}.wav", 12, 1.0, rate=200)
    with pytest.raises(Refused, match="has signals of 200 steps a second; the run's have 100"):
        evaluate.main(evaluate.Config(run=run, data=f"wav:{tmp_path / 'fast'}"))
    with pytest.raises(Refused, match=r"'digits' has images, no signals: experiments/classify\.py"):
        evaluate.main(evaluate.Config(run=run, data="digits"))
    with pytest.raises(Refused, match=r"has signals, no images: experiments/sequence\.py takes it"):
        classify.main(classify.Config(data=f"wav:{sounds}", workdir=tmp_path / "x"))
    config = predict.Config(paths=(str(run), "x.wav"))
    assert cli.exit_code(lambda: predict.main(config)) == 2
