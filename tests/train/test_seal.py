"""What is said of arrays that are not those that were written."""

import numpy as np
import pytest

from train.seal import Differs, compare, shortened


def test_however_much_differs_little_is_said():
    written = {f"there/{i}": ["float32(3,)", 0] for i in range(300)}
    target = {f"asked/{i}": np.zeros(2, np.float32) for i in range(200)}
    with pytest.raises(Differs) as caught:
        compare(written, target)
    said = str(caught.value)
    assert said.startswith("of 500 arrays 500 differ: asked/0: absent there, float32(2,) asked; ")
    assert said.endswith("; and 495 more")
    assert len(said) < 400


def test_what_is_short_stays():
    assert shortened(["a", "b"]) == "a; b"
    assert shortened(["a", "b", "c"], most=2) == "a; b; and 1 more"
