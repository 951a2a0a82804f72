"""Faults: the real command is broken, and a table says at the end what was lost by it."""

import collections

import commands
import image_files
import pytest

FAULT = "fault"
"""What a test's report calls what it tried."""


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.fault)


@pytest.fixture
def tried(record_property):
    """(kind, lost): said once a fault was caused and what followed was looked at."""
    return lambda kind, lost="nothing": record_property(FAULT, [kind, lost])


@pytest.fixture
def pictures(tmp_path):
    """A set of two classes, 20 pictures each."""
    image_files.classes(tmp_path / "pictures", {"a": 20, "b": 20}, size=(12, 12))
    return tmp_path / "pictures"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A run that nothing interrupted, to be copied."""
    path = tmp_path_factory.mktemp("finished")
    image_files.classes(path / "pictures", {"a": 20, "b": 20}, size=(12, 12))
    command = commands.classify(path / "pictures", path / "run", log_every=50)
    commands.whole_end(commands.run(command))
    return path / "run"


@pytest.fixture(scope="session")
def whole(finished):
    """Its last state."""
    return commands.state(finished)


def pytest_terminal_summary(terminalreporter):
    """The table: kind of fault, times tried, what was lost."""
    rows = collections.defaultdict(list)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, ()):
            if getattr(report, "when", "") != "call":
                continue
            found = [value for name, value in report.user_properties if name == FAULT]
            for kind, lost in found:
                rows[kind].append(lost)
            if outcome == "failed" and f"/{FAULT}s/" in report.nodeid:
                rows[report.nodeid.rpartition("::")[2]].append("THE TEST FAILED")
    if not rows:
        return
    width = max(map(len, rows))
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(f"{'kind':{width}}  times  lost")
    for kind, lost in rows.items():
        said = "; ".join(dict.fromkeys(lost))
        terminalreporter.write_line(f"{kind:{width}}  {len(lost):5}  {said}")
