import struct

import numpy as np
import pytest
from scipy.io import wavfile

from train.data import wav
from train.data.decode import Unreadable


def written(path, values, rate=8000):
    wavfile.write(path, rate, values)
    return path


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def form(coding=1, channels=1, rate=8000, bits=16, more=b""):
    width = channels * bits // 8
    return chunk(
        b"fmt ", struct.pack("<HHIIHH", coding, channels, rate, rate * width, width, bits) + more
    )


@pytest.mark.parametrize(
    ("dtype", "values", "wanted"),
    [
        (np.uint8, [0, 64, 128, 255], [-1, -0.5, 0, 127 / 128]),
        (np.int16, [-32768, -16384, 0, 32767], [-1, -0.5, 0, 32767 / 32768]),
        (np.int32, [-(2**31), -(2**30), 0, 2**31 - 1], [-1, -0.5, 0, 1]),
        (np.float32, [-1.5, -0.5, 0, 0.25], [-1.5, -0.5, 0, 0.25]),
        (np.float64, [-1.5, -0.5, 0, 0.25], [-1.5, -0.5, 0, 0.25]),
    ],
)
def test_integers_are_shares_of_their_largest_and_floats_stay(tmp_path, dtype, values, wanted):
    path = written(tmp_path / "a.wav", np.array(values, dtype))
    signal, rate = wav.sound(path, 0)
    assert (signal.shape, signal.dtype, rate) == ((4, 1), np.float32, 8000)
    np.testing.assert_array_equal(signal[:, 0], np.array(wanted, np.float32))


def test_24_bits_and_two_channels_in_the_extensible_form(tmp_path):
    values = [-(2**23), 2**23 - 1, 1, -1, 0, 2**22]
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    guid = struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    more = struct.pack("<HHI", 22, 24, 3) + guid
    (tmp_path / "a.wav").write_bytes(riff(form(0xFFFE, 2, 48000, 24, more), chunk(b"data", data)))
    signal, rate = wav.sound(tmp_path / "a.wav", 0)
    wanted = (np.array(values) / 2**23).astype(np.float32).reshape(3, 2)
    np.testing.assert_array_equal(signal, wanted, strict=True)
    assert rate == 48000
    ours = wavfile.read(tmp_path / "a.wav")[1]  # scipy has the 24 bits in the upper ones of 32
    np.testing.assert_array_equal(signal, (ours / 2**31).astype(np.float32))


def test_a_header_is_read_without_the_samples_and_other_chunks_are_passed(tmp_path):
    data = np.arange(5, dtype="<i2").tobytes()
    whole = riff(chunk(b"LIST", b"odd"), form(), chunk(b"fact", b"1234"), chunk(b"data", data))
    (tmp_path / "a.wav").write_bytes(whole)
    found = wav.header(tmp_path / "a.wav")
    assert found == wav.Header(8000, 1, 16, False, whole.index(b"data") + 8, 5)
    np.testing.assert_array_equal(wav.decode(whole)[0][:, 0] * 2**15, np.arange(5))


@pytest.mark.parametrize(
    ("whole", "length"), [(0, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFDB)]
)
def test_a_writer_that_did_not_know_the_length(whole, length):
    data = np.arange(4, dtype="<i2").tobytes()
    content = riff(form()) + b"data" + struct.pack("<I", length) + data
    content = content[:4] + struct.pack("<I", whole) + content[8:]
    assert wav.decode(content)[0].shape == (4, 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no WAV file: it is empty"),
        (b"ID3\x04" + b"\0" * 40, "no WAV file: it begins with b'ID3"),
        (riff(form()), "ends before its samples"),
        (riff(chunk(b"data", b"12")), "before their form"),
        (riff(chunk(b"fmt ", b"12")), "ends within its header"),
        (riff(form(7, bits=8), chunk(b"data", b"12")), r"its coding 7 \(mu-law\) is not read"),
        (riff(form(bits=12), chunk(b"data", b"12")), "samples of 12 bits are not read"),
        (riff(form(channels=0), chunk(b"data", b"12")), "it has 0 channels"),
        (riff(form(), chunk(b"data", b"1" * 100))[:-60], "ends early: 40 of its 100 bytes"),
        (riff(form(bits=32), chunk(b"data", b"12")), "it holds no samples"),
        (riff(form(), chunk(b"data", b""), chunk(b"LIST", b"1234")), "it holds no samples"),
    ],
)
def test_what_is_no_sound_is_said_in_one_line(tmp_path, content, why):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ValueError, match=why):
        wav.header(tmp_path / "a.wav")
    with pytest.raises(
        Unreadable, match=f"a.wav, example 3: cannot be decoded: .*{why}"
    ) as refused:
        wav.sound(tmp_path / "a.wav", 3)
    assert "\n" not in str(refused.value)
