"""The loop that docs/using.md shows is run, and it learns."""

import pathlib
import re

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "using.md"


def test_the_loop_of_the_page_learns():
    (code, *_) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    assert len(code.splitlines()) < 50
    found = {}
    exec(compile(code, str(PAGE), "exec"), found)
    assert found["accuracy"] > 0.8
    assert {*found["variables"]} == {"params", "batch_stats"}
    moved = found["variables"]["batch_stats"]
    assert any((leaf != 0).any() for leaf in found["jax"].tree.leaves(moved))
