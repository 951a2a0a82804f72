"""At once: the seeds of a study trained as one program, each in a directory as if run alone.

While they train, the study's directory has a folder `at_once/`: which seeds they are, and the
checkpoints of all of them. What each measures goes to its own directory. At the last step each gets
the checkpoint of its own state, and is from there on a run at its end, for `train.run.complete` to
judge.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from train import processes, started, workdir
from train.checkpoints import Checkpoints
from train.disk import taken
from train.exhausted import enough_memory
from train.fastest import chosen
from train.finetune import Weights, begun
from train.lock import locked
from train.loop import NonFinite, Rhythm, Step, fit, host_step
from train.mesh import places
from train.noted import Noted, changed
from train.place import refuse_other
from train.prepared import Prepared
from train.profiling import profiled
from train.program import Program, program
from train.refusal import Refused
from train.session import inscribe, opening, report
from train.several import Several
from train.state import State
from train.stop import Stop, Stopped
from train.terminal import Terminal
from train.trackers import tracking
from train.weights import fitted

FOLDER, RECORD = "at_once", "seeds.json"


def groups(
    prepared: Prepared, path: Path, terminal: Terminal
) -> Iterator[tuple[Sequence[int], Program | None]]:
    """The seeds of a study, in groups: those that a program is to train, and the others, with None.

    The others are those that are finished, that have a checkpoint of their own, and all where the
    recipe asks for a loop. Seeds that have begun as one program go on so, whatever is asked.

    Args:
        prepared: the recipe.
        path: of the study. A group is done with when the next one is asked for.
        terminal: to say what was chosen.
    """
    left = list(prepared.config.seeds)
    if processes.several() and (path / FOLDER).exists():
        raise Refused(
            f"workdir={str(path)!r} holds seeds that were begun as one program, with which one "
            "process goes on"
        )
    found = workdir.read(path / FOLDER, RECORD)
    if found is not None and Checkpoints(path / FOLDER / "checkpoints").begun():
        seeds, asked = found["seeds"], prepared.config.seeds_as
        how = asked if asked in ("vmap", "devices") else found["how"]
        spread = how == "devices" and places(len(seeds), prepared.mesh.devices.size) > 1
        yield seeds, program(prepared, seeds, spread=spread)
        left = [seed for seed in left if seed not in seeds]
    new = [seed for seed in left if is_new(path / f"seed_{seed}")]
    own = [seed for seed in left if seed not in new and not ended(path / f"seed_{seed}")]
    if own and (asked := prepared.config.seeds_as) != "loop":
        named, one = ", ".join(map(str, own)), len(own) == 1
        what = f"Seed {named} goes on from its" if one else f"Seeds {named} go on from their"
        terminal.say(f"{what} own checkpoint{'s' * (not one)}, not by seeds_as={asked!r}.")
    if (made := chosen(prepared, new, terminal.say)) is not None:
        yield new, made
        left = [seed for seed in left if seed not in new]
    yield left, None


def is_new(path: Path) -> bool:
    """Whether a run in a directory would begin at its first step."""
    return not ended(path) and not Checkpoints(path / "checkpoints").begun()


def ended(path: Path) -> bool:
    """Whether a run in a directory has nothing left to do."""
    return any((path / file).exists() for file in (workdir.SUMMARY, workdir.DIVERGED))


def refuse_one(path: Path) -> None:
    """A run that others are trained with can't go on by itself: it would begin anew.

    Args:
        path: its directory.

    Raises:
        Refused: it is one, and has no checkpoint of its own yet.
    """
    above = path.absolute().parent
    found = workdir.read(above / FOLDER, RECORD)
    if found is None or not Checkpoints(above / FOLDER / "checkpoints").begun():
        return
    if path.absolute().name in {f"seed_{seed}" for seed in found["seeds"]} and is_new(path):
        raise Refused(
            f"workdir={str(path)!r} is trained with other seeds as one program, which goes on by "
            f"--workdir {str(path.parent)!r}"
        )


def train_at_once(made: Program, path: Path, terminal: Terminal) -> None:
    """Train the seeds of a program to the last step, or go on with them.

    Each has then a directory of its own, with its last checkpoint; or its `diverged.json` and its
    page.

    Args:
        made: the program; a plain one, of a study's seeds.
        path: of the study.
        terminal: to print to.

    Raises:
        Refused: one of the directories can't be written, is in use, or holds something else.
        Stopped: by a signal; all are saved.
        Failed: there is not enough memory for all of them.
    """
    began, folder = started.began(), path / FOLDER
    paths = [path / f"seed_{seed}" for seed in made.seeds]
    with contextlib.ExitStack() as held:
        weights, noted, changes = beginning(made, path, terminal, held)
        held.callback(noted.end, terminal.say)
        held.enter_context(enough_for(made, folder))
        stop = held.enter_context(Stop())
        checkpoints = held.enter_context(Checkpoints(folder / "checkpoints", say=terminal.say))
        state, at = at_first(made, weights, terminal.say), None
        if (restored := checkpoints.restore(state)) is not None:
            state, at = restored.state, restored.step
            noted.begin()
            noted.end(terminal.say)
            for line in changes():
                terminal.say(line)
        steps = made.prepared.config.steps
        terminal.say(
            f"New runs in {path}." if at is None else f"Going on from step {at} of {path}."
        )
        if at is None or at < steps:
            for line in taken(state, made.prepared.config, folder, checkpoints.keep):
                terminal.say(line)
        # The last step is evaluated by each run itself, which may have happened.
        whole = at is None or at >= steps or checkpoints.ranked(at)
        each = zip(made.seeds, paths, strict=True)
        configs = [(made.prepared.with_seed(seed).config, own) for seed, own in each]
        tracks = [tracking(config.tracker, own, config) for config, own in configs]
        logs = Several(
            made.seeds, paths, steps=steps, at=at, whole=whole, began=began, tracks=tracks
        )
        held.enter_context(contextlib.closing(logs))
        tracing = profiled(
            noted.after(started.FirstStep(made.step, began, terminal.say)),
            made.prepared.config.profile,
            begin=at or 0,
            until=steps,
            path=path,
            say=terminal.say,
        )
        with tracing as step:
            last = fitting(made, state, checkpoints, logs, stop, step)
        logs.close()
        if last is not None and host_step(last) < steps:
            saved = checkpoints.latest()
            where = "before the first step" if saved is None else f"and saved at step {saved}"
            terminal.say(f"Stopped {where}.")
        else:
            for place in logs.gone:
                its, own, lead = made.prepared.with_seed(made.seeds[place]), paths[place], logs.why
                report(its, own, None, lead=f"Stopped: {lead(place)}.", say=terminal.say)
            if last is not None:
                hand_out(made, last, paths, logs.gone)
        if stop.signal is not None:
            raise Stopped(stop.signal)


def beginning(
    made: Program, path: Path, terminal: Terminal, held: contextlib.ExitStack
) -> tuple[Weights | None, Noted, Callable[[], list[str]]]:
    """Make the directories and lock them, write what the runs are, and say it.

    Returns:
        What new runs start from in place of random weights; what notes their program; and what
        there is to say of it once it is noted.
    """
    each = {seed: made.prepared.with_seed(seed) for seed in made.seeds}
    how = "vmap" if made.mesh.devices.size == 1 else "devices"
    named = ", ".join(map(str, made.seeds))
    terminal.heading(f"seeds {named} as one program ({how})")
    weights, folder, find = None, path / FOLDER, made.prepared.parts.weights
    goes_on = Checkpoints(folder / "checkpoints").begun()
    if find is not None and not goes_on:
        weights = fitted(made.prepared, find())
    for seed, its in each.items():
        own = path / f"seed_{seed}"
        refuse_other(own, its.module, its.config)
        workdir.make(own)
        held.enter_context(locked(own))
    if not goes_on:
        remove(path)
    workdir.make(folder)
    about = {"how": how, "seeds": list(made.seeds)}
    inscribed = [
        inscribe(its, path / f"seed_{seed}", weights=weights, goes_on=goes_on, at_once=about)
        for seed, its in each.items()
    ]
    workdir.write(folder / RECORD, about)
    for line in filter(None, (*opening(made.prepared), shared_out(made))):
        terminal.say(line)

    def note(program: str) -> None:
        for one in inscribed:
            one.note(program)

    def changes() -> list[str]:
        return [*filter(None, dict.fromkeys(changed(one.records) for one in inscribed))]

    return weights, Noted(made.prepared, note), changes


def enough_for(made: Program, folder: Path) -> contextlib.AbstractContextManager[None]:
    """Inside, too little memory is said in one line, with what takes less of it.

    Args:
        made: the program.
        folder: of its checkpoints.
    """
    count, how = len(made.seeds), "vmap" if made.mesh.devices.size == 1 else "devices"

    def instead() -> str:
        if Checkpoints(folder / "checkpoints").begun():
            return f"they have begun so; without {folder} they begin anew, as --seeds-as says"
        return "--seeds-as loop trains one after the other; or name fewer seeds at first"

    return enough_memory(f"{count} seeds as one program (seeds_as={how!r}) need", instead)


def shared_out(made: Program) -> str:
    """How several devices are shared out among the seeds, in words; "" of one."""
    there, used, data = made.prepared.mesh.size, made.mesh.size, made.mesh.shape["data"]
    if there == 1:
        return ""
    each = len(made.seeds) // made.mesh.shape["seed"]
    have = f"{each} seeds share each of {used} devices" if each > 1 else f"Each seed has {data}"
    idle = f"; {there - used} idle" if used < there else ""
    return f"{have}{'' if each > 1 else f' of {there} devices'}{idle}."


def at_first(made: Program, weights: Weights | None, say: Callable[[str], None]) -> State:
    """The states before the first step."""
    said: dict[str, None] = {}

    def change(state: State) -> State:
        if weights is None:
            return state
        state, lines = begun(state, weights)
        said.update(dict.fromkeys(lines))
        return state

    state = made.initial(change=change)
    for line in said:
        say(line)
    return state


def fitting(
    made: Program, state: State, checkpoints: Checkpoints, logs: Several, stop: Stop, step: Step
) -> State | None:
    """The last state; None where all have diverged."""
    config = made.prepared.config

    def evaluate(step: int, state: State) -> None:
        if step >= config.steps:
            return  # each run measures this one at its end, which ranks its checkpoint
        measure = made.prepared.assess("validation")
        logs.validation(
            step,
            [
                {} if place in logs.gone else measure(variables, stop).scalars
                for place, variables in enumerate(made.each(state.evaluated))
            ],
        )

    try:
        return fit(
            state,
            step=step,
            loader=made.loader,
            rhythm=Rhythm(
                until=config.steps,
                evaluate_every=config.evaluate_every,
                save_every=config.save_every,
                log_every=config.log_every,
            ),
            evaluate=None if made.prepared.data.validation is None else evaluate,
            checkpoints=checkpoints,
            logs=logs,
            stopping=stop,
        )
    except NonFinite as error:
        logs.lost(error.step, range(len(made.seeds)))
        return None


def hand_out(made: Program, state: State, paths: Sequence[Path], gone: Mapping[int, int]) -> None:
    """Each run its own last state, as a checkpoint in its directory."""
    step = host_step(state)
    for place, (own, its) in enumerate(zip(paths, made.each(state), strict=True)):
        if place not in gone:
            with Checkpoints(own / "checkpoints") as checkpoints:
                checkpoints.save(step, its, its.evaluated)


def remove(path: Path) -> None:
    """What is needed only while the seeds of a study train at once."""
    shutil.rmtree(path / FOLDER, ignore_errors=True)
