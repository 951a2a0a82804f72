"""The compiled extension of oneDNN, where it is built."""

import pytest

from models.backends.onednn import engine as onednn


@pytest.fixture
def extension():
    """It, or a skip that says why there is none."""
    try:
        return onednn.extension()
    except onednn.Missing as missing:
        pytest.skip(str(missing))
