import pickle
import shutil

import jax
import numpy as np
import pytest
from scipy.io import wavfile

from train.augment import amplitude, chain, time_shift
from train.data.decode import Unreadable
from train.data.named import named, refuse_other
from train.data.resident import Resident
from train.data.source import extent_said
from train.data.statistics import measured
from train.data.streaming import Streaming
from train.data.wav_folder import wav_folder
from train.mesh import make_mesh
from train.refusal import Refused


def sound(path, steps=4, rate=8000, channels=None, value=8192):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (steps,) if channels is None else (steps, channels)
    wavfile.write(path, rate, np.full(shape, value, np.int16))


def sounds(root, **classes):
    for name, lengths in classes.items():
        for k, steps in enumerate(lengths):
            sound(root / name / f"{k}.wav", steps)


def test_splits_classes_and_padding(tmp_path):
    root = tmp_path / "bells"
    sounds(root / "train", low=[4, 2], high=[3])
    sounds(root / "valid", low=[1])
    sounds(root / "test", high=[6])
    train, validation, test = named(f"wav:{root}")
    assert [len(part) for part in (train, validation, test)] == [3, 1, 1]
    assert train.about.classes == ("high", "low")
    for part, split in ((train, "train"), (validation, "validation"), (test, "test")):
        about = part.about
        assert (about.name, about.split, about.mirror) == ("bells", split, False)
        # Of the longest of all splits.
        assert (about.shape, about.ragged, about.rate) == ((6, 1), True, 8000)
    assert train.labels.tolist() == [0, 1, 1]
    example = train[2]
    np.testing.assert_array_equal(
        example["signal"], np.array([[0.25], [0.25], [0], [0], [0], [0]], np.float32), strict=True
    )
    assert (example["length"], example["length"].dtype, example["label"]) == (2, np.int32, 1)
    assert train.name(2) == str(root / "train" / "low" / "1.wav")
    assert train.truth(0) == {"label": 0}
    assert extent_said(train.about) == "signals of up to 6 steps, 1 channel, 8,000 steps a second"
    about = measured(train)  # of the real steps alone
    assert (about.mean, about.std) == ((0.25,), (1.0,))
    again = pickle.loads(pickle.dumps(train))
    assert again.fingerprint == train.fingerprint != test.fingerprint
    shutil.move(root, tmp_path / "moved" / "bells")
    assert named(f"wav:{tmp_path / 'moved' / 'bells'}").train.fingerprint == train.fingerprint


def test_both_loaders_give_padded_signals_and_their_lengths(tmp_path):
    sounds(tmp_path, a=[4, 2, 3], b=[1, 3])
    source = wav_folder(tmp_path)["train"]
    found = []
    for kind in (Resident, Streaming):
        loader = kind(
            source,
            mesh=make_mesh(jax.devices()[:2]),
            batch_size=4,
            seed=3,
            transform=chain(time_shift(1.0), amplitude(0.5)),
        )
        payloads = loader.payloads(1)
        step = jax.jit(loader.device)
        batch = step(loader.data, next(payloads), np.uint32(3), jax.random.key(1))
        payloads.close()
        found.append(jax.device_get(batch))
    resident, streaming = found
    assert resident.keys() == streaming.keys()
    for key in resident:
        np.testing.assert_array_equal(resident[key], streaming[key], err_msg=key)
    lengths = np.array([4, 2, 3, 1, 3])[resident["index"]]
    np.testing.assert_array_equal(resident["length"], lengths)
    assert resident["signal"].shape == (4, 4, 1)
    real = np.arange(4)[None] < lengths[:, None]
    np.testing.assert_array_equal(resident["signal"][..., 0] != 0, real)


def test_sounds_of_one_length_have_no_length(tmp_path):
    for k in range(5):
        for name in ("a", "b"):
            sound(tmp_path / name / f"{k}.wav", 3, channels=2)
    train, validation, test = named(f"wav:{tmp_path}")
    assert validation is None
    assert (len(train), len(test)) == (8, 2)  # a fifth, stratified
    assert train[0].keys() == {"signal", "label"}
    assert (train.about.shape, train.about.ragged) == ((3, 2), False)


def test_the_lists_of_speech_commands_divide(tmp_path):
    sounds(tmp_path, yes=[4, 4, 4], no=[4, 4], _background_noise_=[9])
    (tmp_path / "testing_list.txt").write_text("yes/0.wav\nno/1.wav\n")
    (tmp_path / "validation_list.txt").write_text("yes/2.wav\n")
    (tmp_path / "README.md").write_text("")
    found = wav_folder(tmp_path)
    assert {split: len(part) for split, part in found.items()} == {
        "train": 2,
        "test": 2,
        "validation": 1,
    }
    assert found["train"].about.shape == (4, 1)
    notes = "\n".join(found["train"].notes)
    assert "Not used: 1 file" in notes
    assert "README.md" in notes
    assert "no class: _background_noise_" in notes


def test_mixed_rates_and_channels_are_named(tmp_path):
    sounds(tmp_path, a=[4, 4], b=[4])
    sound(tmp_path / "b" / "x.wav", rate=16000)
    with pytest.raises(
        Refused, match=r"several steps a second: b/x\.wav has 16000, a/0\.wav .*8000"
    ):
        named(f"wav:{tmp_path}")
    sound(tmp_path / "b" / "x.wav", channels=2)
    with pytest.raises(
        Refused, match=r"several channels: b/x\.wav has 2, a/0\.wav and most have 1"
    ):
        named(f"wav:{tmp_path}")


def test_a_broken_file_is_the_fault_of_its_example(tmp_path):
    sounds(tmp_path, a=[4], b=[4])
    (tmp_path / "a" / "1.wav").write_bytes(b"RIFF")
    source = wav_folder(tmp_path)["train"]
    assert len(source) == 3
    assert source[0]["signal"].shape == (4, 1)
    with pytest.raises(Unreadable, match=r"a/1\.wav, example 1: cannot be decoded: no WAV file"):
        source[1]
    sound(tmp_path / "a" / "0.wav", 5)  # another file now
    with pytest.raises(Unreadable, match=r"a/0\.wav, example 0: has 5 steps; wanted: 4"):
        source[0]
    sound(tmp_path / "a" / "0.wav", 4, rate=4000)
    with pytest.raises(Unreadable, match="has 4000 steps a second; wanted: 8000"):
        source[0]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a/0.wav": 1}, "has one class, 'a': nothing to tell apart"),
        ({"0.wav": 1}, "has no folder of a class with WAV files in it"),
        ({"train/0.wav": 1, "test/0.wav": 1}, "has no folder of a class with WAV files"),
        ({"test/a/0.wav": 1}, "has no training split"),
        ({"train/a/0.wav": 1, "training/a/0.wav": 1}, "two folders of the train split"),
        ({"train/a/0.wav": 1, "train/b/x.txt": 0}, "'.*b' is a class without a WAV file"),
        ({"a/0.wav": 1, "b/0.mp3": 0}, r"not read: 1 \.mp3 \(0.mp3\); convert them"),
        (
            {"train/a/0.wav": 1, "train/b/0.wav": 1, "test/c/0.wav": 1},
            r"test/c/0\.wav is of a class that the training split does not have",
        ),
    ],
)
def test_folders_that_are_refused(tmp_path, files, message):
    for name, real in files.items():
        if real:
            sound(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
    with pytest.raises(Refused, match=message):
        named(f"wav:{tmp_path}")


def test_signals_are_refused_where_images_are_wanted(tmp_path):
    sounds(tmp_path, a=[4, 4, 4], b=[4, 4])
    data = named(f"wav:{tmp_path}")
    assert refuse_other(data, "signal") is data
    with pytest.raises(Refused, match=r"has signals, no images: experiments/sequence\.py takes it"):
        refuse_other(data, "image")
    with pytest.raises(Refused, match=r"has no boxes; it has label: experiments/sequence\.py"):
        named(f"wav:{tmp_path}", "boxes")
    digits = named("digits")
    with pytest.raises(Refused, match=r"'digits' has images, no signals: experiments/classify\.py"):
        refuse_other(digits, "signal")
