"""Seeds of a study as one program: each is as if run alone, and leaves what such a run leaves."""

import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import toy_detector
from rich.console import Console
from toy_detector import Config

from train import at_once, fastest, program, study
from train import prepared as of_one
from train import run as running
from train.checkpoints import Checkpoints
from train.finetune import Weights
from train.logs import read_metrics
from train.opened import opened
from train.prepared import prepare
from train.refusal import Failed, Refused
from train.run import run
from train.stop import Stopped
from train.terminal import Terminal

LAST = Config(steps=20, devices=1, evaluate_every=10, weights="last")


def digests(path):
    """Of the newest checkpoint: what was written of each array."""
    step = max(Checkpoints(path / "checkpoints").steps())
    return json.loads((path / "checkpoints" / str(step) / "record" / "metadata").read_text())[
        "items"
    ]


def weights(path):
    """Of a run, as they are judged."""
    return jax.device_get(opened(path).variables)


def same(found, expected, tolerance):
    """Every leaf, as far as its largest value goes."""

    def leaf(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-30))

    jax.tree.map(leaf, found, expected)


def measured(path):
    """The lines of a run, each as (words, numbers), without what the clock says."""
    found = []
    for line in read_metrics(path):
        words = {name: value for name, value in line.items() if isinstance(value, str)}
        clock = {"seconds", "examples_per_second", *words}
        found.append((words, {k: v for k, v in line.items() if k not in clock}))
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Directories of seeds 0 and 7, each run alone by the loop."""
    path = tmp_path_factory.mktemp("alone")
    run(toy_detector, replace(LAST, seeds=(0, 7), workdir=path))
    return path


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The same as one program: the directory, what was returned, and each step that was jitted."""
    path, jitted = tmp_path_factory.mktemp("together"), []
    with pytest.MonkeyPatch.context() as patch:
        for module in (program, of_one):

            def noting(*arguments, original=module.compiled_step, **how):
                jitted.append(original(*arguments, **how))
                return jitted[-1]

            patch.setattr(module, "compiled_step", noting)
        found = run(toy_detector, replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=path))
    return path, found, jitted


def test_by_vmap_each_seed_is_as_if_run_alone(alone, together):
    path, found, _ = together
    for name in ("seed_0", "seed_7"):
        here, there = path / name, alone / name
        same(weights(here), weights(there), 1e-3)
        assert {each.name for each in here.iterdir()} == {each.name for each in there.iterdir()}
        assert (here / "config.json").read_text() == (there / "config.json").read_text()
        for (words, numbers), expected in zip(measured(here), measured(there), strict=True):
            assert words == expected[0]
            assert numbers == pytest.approx(expected[1], rel=1e-2)
        made_of = json.loads((here / "provenance.json").read_text())
        assert made_of["at_once"] == {"how": "vmap", "seeds": [0, 7]}
        made_alone = json.loads((there / "provenance.json").read_text())
        assert made_of["program"] == made_alone["program"]
        assert "resumed" not in made_of
    assert {each.name for each in path.iterdir()} == {each.name for each in alone.iterdir()}
    assert found.tables["seeds"].keys() == {0, 7}


def test_one_program_is_compiled_once_and_that_of_one_run_never(together):
    *_, (one, several) = together
    assert (one._cache_size(), several._cache_size()) == (0, 1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("how", "devices"), [("vmap", 1), ("devices", 4)])
def test_in_float64_all_ways_agree_in_twelve_digits(how, devices, tmp_path):
    config = replace(LAST, dtype="float64", backend="jax", steps=6, seeds=(0, 7))
    run(toy_detector, replace(config, workdir=tmp_path / "one_by_one"))
    together = replace(config, seeds_as=how, devices=devices, workdir=tmp_path / "together")
    run(toy_detector, together)
    for name in ("seed_0", "seed_7"):
        expected = weights(tmp_path / "one_by_one" / name)
        same(weights(tmp_path / "together" / name), expected, 1e-12)


def stopped(config, at):
    """A study that a SIGTERM ends once a program has made so many steps."""

    def fit(state, *, step, original=at_once.fit, **how):
        return original(state, step=toy_detector.signalling(step, at), **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(at_once, "fit", fit)
        with pytest.raises(Stopped):
            run(toy_detector, config)


def test_what_was_stopped_goes_on_bit_for_bit_and_takes_more_seeds(
    together, tmp_path, monkeypatch, capsys
):
    config = replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=tmp_path)
    stopped(config, 13)
    said = capsys.readouterr().out
    assert "seeds 0, 7 as one program (vmap)" in said
    assert "Stopped and saved at step 13." in said
    assert not (tmp_path / "seed_0" / "checkpoints").exists()
    with pytest.raises(Refused, match=r"seed_0' is trained with other seeds as one program"):
        run(toy_detector, replace(LAST, workdir=tmp_path / "seed_0"))  # it would begin anew
    # It goes on as it began, whatever is asked; the third is run by itself.
    more = replace(config, seeds=(3, 0, 7), seeds_as="loop")
    found = run(toy_detector, more)
    said = capsys.readouterr().out
    assert "seeds 0, 7 as one program" in said
    assert "Going on from step 13 of" in said
    assert [*found.tables["seeds"]] == [3, 0, 7]
    for name in ("seed_0", "seed_7"):
        assert digests(tmp_path / name) == digests(together[0] / name)
        lines = [line["step"] for line in read_metrics(tmp_path / name)]
        assert lines == sorted(lines)
        made_of = json.loads((tmp_path / name / "provenance.json").read_text())
        assert len(made_of["resumed"]) == 1
    assert not (tmp_path / "at_once").exists()
    # All are finished: nothing is trained again, whichever way is asked.
    monkeypatch.setattr(study, "train_at_once", None)
    run(toy_detector, replace(more, seeds_as="vmap"))


def test_one_that_was_killed_between_two_ends_goes_on(alone, tmp_path, monkeypatch):
    config = replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=tmp_path)
    original = running.complete

    def dies(prepared, path, **how):
        if prepared.config.seed == 7:
            raise KeyboardInterrupt
        return original(prepared, path, **how)

    monkeypatch.setattr(running, "complete", dies)
    with pytest.raises(KeyboardInterrupt):
        run(toy_detector, config)
    before = (tmp_path / "seed_0" / "summary.json").stat().st_mtime_ns
    monkeypatch.setattr(running, "complete", original)
    run(toy_detector, config)
    assert (tmp_path / "seed_0" / "summary.json").stat().st_mtime_ns == before
    for name in ("seed_0", "seed_7"):
        splits = [line.get("split") for line in read_metrics(tmp_path / name)]
        assert splits.count("test") == 1
        assert splits.count("validation") == 2
        same(weights(tmp_path / name), weights(alone / name), 1e-3)


def losing(monkeypatch, at):
    """Weights of a seed, by its number, are no numbers any more at a step."""
    original = program.stepping

    def stepping(parts, loader):
        step = original(parts, loader)

        def lost(state, data, payload):
            bad = jax.numpy.zeros((), bool)
            for seed, number in at.items():
                bad |= (state.seed == seed) & (state.step + 1 == number)
            params = jax.tree.map(lambda x: jax.numpy.where(bad, np.nan, x), state.params)
            return step(state.replace(params=params), data, payload)

        return lost

    monkeypatch.setattr(program, "stepping", stepping)


def test_a_seed_that_diverges_is_a_result_and_the_others_go_on(
    alone, tmp_path, monkeypatch, capsys
):
    losing(monkeypatch, {0: 13})
    config = replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=tmp_path, save_every=7)
    stopped(config, 17)
    why = {"step": 13, "error": "loss, gradient or weights are not finite at step 13"}
    assert json.loads((tmp_path / "seed_0" / "diverged.json").read_text()) == why
    found = run(toy_detector, config)
    assert json.loads((tmp_path / "seed_0" / "diverged.json").read_text()) == why
    assert capsys.readouterr().out.count("Seed 0 diverged at step 13.") == 1
    assert found.tables["seeds"][0] == {}
    assert json.loads((tmp_path / "summary.json").read_text())["diverged"] == [0]
    last = read_metrics(tmp_path / "seed_0")[-1]
    assert (last["step"], last["loss"]) == (13, None)
    assert "not finite at step 13" in (tmp_path / "seed_0" / "report.html").read_text()
    same(weights(tmp_path / "seed_7"), weights(alone / "seed_7"), 1e-3)


def test_where_every_seed_diverges_the_study_has_failed(tmp_path, monkeypatch):
    losing(monkeypatch, {0: 3, 7: 5})
    config = replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=tmp_path)
    with pytest.raises(study.Diverged, match="every seed diverged: 0, 7"):
        run(toy_detector, config)
    for name, step in (("seed_0", 3), ("seed_7", 5)):
        assert json.loads((tmp_path / name / "diverged.json").read_text())["step"] == step
        assert read_metrics(tmp_path / name)[-1]["step"] == step
        assert (tmp_path / name / "report.html").exists()
    assert not (tmp_path / "at_once").exists()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"weights": "best"}, "seeds_as='vmap' can't be had: weights='best' ranks the checkpoints"),
        ({"devices": 2}, "seeds_as='vmap' can't be had: it is one program on one device"),
        ({"seeds_as": "devices"}, "seeds_as='devices' can't be had: there is 1 device"),
        (
            {"seeds_as": "devices", "devices": 2, "seeds": (0, 1, 2)},
            "3 seeds can't be shared out evenly over 2 devices",
        ),
        ({"seeds_as": "vmapped"}, "seeds_as='vmapped' is unknown; nearest: vmap"),
        ({"seeds": ()}, r"seeds_as='vmap' has no effect: seeds=\(\) names none"),
    ],
)
def test_what_can_not_be_had_is_one_line_and_leaves_no_directory(
    fields, why, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=why):
        run(toy_detector, replace(LAST, **{"seeds": (0, 1), "seeds_as": "vmap", **fields}))
    assert [*tmp_path.iterdir()] == []


class Chosen:
    """What `fastest.chosen` makes of a recipe, and what it says; nothing is trained."""

    def __init__(self, monkeypatch, times=None, **fields):
        config = replace(LAST, seeds=(0, 1), seeds_as="auto", **fields)
        self.said = []
        if times is not None:
            monkeypatch.setattr(fastest, "times", lambda made: times)
        self.made = fastest.chosen(prepare(toy_detector, config), config.seeds, self.said.append)


def test_auto_takes_what_is_faster_and_says_so(monkeypatch):
    found = Chosen(monkeypatch, (0.004, 0.003))
    assert found.made is not None
    assert found.said == [
        "All seeds as one program (seeds_as='auto'): a step of 2 seeds takes 3 ms by 'vmap' and "
        "4 ms one after the other (median of 5)."
    ]
    found = Chosen(monkeypatch, (0.002, 0.003), devices=2)
    assert found.made is None
    assert "One seed after the other (seeds_as='auto')" in found.said[0]
    assert "3 ms by 'devices' and 2 ms one after" in found.said[0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"weights": "best"}, "weights='best' ranks the checkpoints of each run"),
        ({"loader": "streaming"}, "the data are streamed, and must be on the device"),
        ({"loader": "streaming", "seeds_as": "vmap"}, "seeds_as='vmap' can't be had: the data are"),
    ],
)
def test_where_it_can_not_be_had_the_seeds_come_one_after_the_other(fields, why, monkeypatch):
    config = replace(LAST, **{"seeds": (0, 1), "seeds_as": "auto", **fields})
    said = []
    monkeypatch.setattr(fastest, "times", None)
    assert fastest.chosen(prepare(toy_detector, config), (0, 1), said.append) is None
    assert why in said[0]


def test_times_are_the_median_after_the_first_of_all_seeds(monkeypatch):
    clock = [0.0]

    def lasting(*seconds):
        each = iter(seconds)

        def step(state, data, payload):
            clock[0] += next(each)
            return state, {}

        return step

    monkeypatch.setattr(fastest.time, "perf_counter", lambda: clock[0])
    # The first of each compiles, and one is disturbed.
    made = program.program(prepare(toy_detector, LAST), (0, 1, 7))
    alone, together = lasting(100, 4, 2, 3, 50, 1), lasting(200, 5, 7, 60, 6, 8)
    made = replace(made, prepared=replace(made.prepared, step=alone), step=together)
    assert fastest.times(made) == (pytest.approx(3 * 3), pytest.approx(7))


def test_each_way_is_compiled_once_to_be_measured():
    made = program.program(prepare(toy_detector, LAST), (0, 1))
    assert min(fastest.times(made)) > 0
    assert made.step._cache_size() == made.prepared.step._cache_size() == 1


def test_a_program_that_fails_is_none(monkeypatch):
    def fails(made):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\n  at 0x0")

    monkeypatch.setattr(fastest, "times", fails)
    found = Chosen(monkeypatch)
    assert found.made is None
    assert found.said == [
        "One seed after the other (seeds_as='auto'), since 'vmap' failed: RESOURCE_EXHAUSTED: out "
        "of memory."
    ]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.\n  at 0x0"), "RESOURCE_"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_too_little_memory_is_one_line(tmp_path, monkeypatch, error, why):
    def fit(state, **how):
        raise error

    monkeypatch.setattr(at_once, "fit", fit)
    config = replace(LAST, seeds=(0, 7), seeds_as="vmap", workdir=tmp_path)
    with pytest.raises(Failed) as failed:
        run(toy_detector, config)
    said = "2 seeds as one program (seeds_as='vmap') need more memory than there is: "
    assert str(failed.value).startswith(said + why)
    assert str(failed.value).endswith(
        " --seeds-as loop trains one after the other; or name fewer seeds at first"
    )
    assert "\n" not in str(failed.value)
    # As it says: nothing is in the way of the loop.
    assert not Checkpoints(tmp_path / "at_once" / "checkpoints").begun()


def test_too_little_memory_for_seeds_that_have_begun_as_one_program(tmp_path, monkeypatch):
    monkeypatch.setattr(at_once.Checkpoints, "begun", lambda self: True)
    made = program.program(prepare(toy_detector, LAST), (0, 7))
    with pytest.raises(Failed) as failed, at_once.enough_for(made, tmp_path):
        raise MemoryError
    assert "they have begun so; without " in str(failed.value)


def test_another_error_of_xla_is_none_of_memory(tmp_path):
    made = program.program(prepare(toy_detector, LAST), (0, 7))
    with pytest.raises(jax.errors.JaxRuntimeError), at_once.enough_for(made, tmp_path):
        raise jax.errors.JaxRuntimeError("INTERNAL: wrong")


def test_a_seed_that_was_added_is_trained_by_itself_and_that_is_said():
    said = []
    prepared = prepare(toy_detector, replace(LAST, seeds=(0, 7, 3), seeds_as="vmap"))
    assert fastest.chosen(prepared, (3,), said.append) is None
    assert said == [
        "Seed 3 is trained by itself: seeds_as='vmap' makes one program of seeds that begin "
        "together."
    ]


def test_a_seed_that_has_a_checkpoint_goes_on_from_it_and_that_is_said(alone, tmp_path, capsys):
    shutil.copytree(alone / "seed_0" / "checkpoints", tmp_path / "seed_0" / "checkpoints")
    prepared = prepare(toy_detector, replace(LAST, seeds=(0, 7, 3), seeds_as="vmap"))
    terminal = Terminal(Console(width=200), 0)
    (several, made), (left, none) = at_once.groups(prepared, tmp_path, terminal)
    assert (several, made.seeds, left, none) == ([7, 3], (7, 3), [0], None)
    said = capsys.readouterr().out
    assert said == "Seed 0 goes on from its own checkpoint, not by seeds_as='vmap'.\n"


def test_new_runs_start_from_the_weights_that_are_given():
    made = program.program(prepare(toy_detector, LAST), (0, 7))
    given = jax.device_get(made.prepared.start(jax.numpy.uint32(5)).variables)
    said = []
    state = at_once.at_first(made, Weights(given, said=("from elsewhere",)), said.append)
    for its in made.each(state):
        same(jax.device_get(its.variables), given, 0)
        same(jax.device_get(its.ema), given, 0)
    assert state.seed.tolist() == [0, 7]
    assert len(said) == len({*said})
    random = at_once.at_first(made, None, said.append)
    for seed, its in zip((0, 7), made.each(random), strict=True):
        same(jax.device_get(its), jax.device_get(made.prepared.start(jax.numpy.uint32(seed))), 0)


def test_how_devices_are_shared_out_is_said():
    prepared = prepare(toy_detector, replace(LAST, devices=4))
    said = {2: "Each seed has 2 of 4 devices.", 3: "Each seed has 1 of 4 devices; 1 idle."}
    said |= {8: "2 seeds share each of 4 devices.", 6: "2 seeds share each of 3 devices; 1 idle."}
    for count, line in said.items():
        assert at_once.shared_out(program.program(prepared, range(count))).startswith(line)
    assert at_once.shared_out(program.program(prepare(toy_detector, LAST), (0, 1))) == ""


@pytest.mark.parametrize("how", ["vmap", "devices", "auto"])
def test_a_seed_of_several_trainings_is_no_part_of_a_program(how):
    with pytest.raises(Refused, match=f"seeds_as='{how}' can't be had: a seed is several"):
        study.refuse_at_once(replace(LAST, seeds=(0, 1), seeds_as=how))
