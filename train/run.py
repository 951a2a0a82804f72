"""A run: prepare, train, judge; from a recipe and its data to a report in a directory."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from train import processes, started, study, workdir
from train.assess import outcome
from train.at_once import refuse_one
from train.checkpoints import Checkpoints, Damaged, SaveFailed
from train.data.gaps import share
from train.data.loader import Loader
from train.exhausted import enough_memory
from train.files import WriteFailed, cause
from train.finetune import Weights
from train.in_step import InStep
from train.logs import read_metrics
from train.loop import NonFinite, Rhythm, Step, fit, host_step
from train.metrics.quantities import ranking, readable, show
from train.place import beginning
from train.prepared import Prepared
from train.profiling import profiled
from train.report.predictions import PREDICTIONS, write_predictions
from train.session import Session, session
from train.state import State
from train.stop import Interrupted
from train.tasks.task import Summary
from train.watch import LONG, Alone, Watch
from train.weights import fitted


def run(module: ModuleType, config: Any, *, note: str = "") -> Summary:
    """Train, evaluate, save and report; or go on with the run that lives in `config.workdir`.

    Args:
        module: the experiment's: it has `Config`, `splits` and `build`, see `prepare`.
        config: its `Config`; fields that it leaves open are settled once the data are read.
        note: said first, and in the report: what no one may mistake.

    Returns:
        The summary of the test split, by the weights that `config.weights` names. Of several
        seeds, see `train.study.seeds`.

    Raises:
        Refused: the request cannot be met.
        Failed: the run cannot go on: it diverged, its files can't be written or read, or a step
            needs more memory than there is; the last good checkpoint stays.
        Stopped: by a signal.
    """
    path = config.workdir
    processes.join(config)
    with processes.together("what the run remembers"):
        config = config.remembering(
            None if path is None else workdir.read_config(path, module.__name__, module.Config)
        )
    if config.seeds:
        return study.seeds(module, config, one=partial(complete, note=note))
    began = started.began()
    if path is not None:
        refuse_one(path)
    check = partial(starting_weights, path=path)
    with (
        beginning(module, config, check) as (prepared, path, watch, weights),
        session(prepared, path, weights=weights, note=note, began=began, watch=watch) as here,
    ):
        return judge(prepared, here, train(prepared, here))


def complete(
    prepared: Prepared, path: Path, *, note: str = "", watch: Watch | Alone | None = None
) -> Summary:
    """The run of a recipe that is prepared, in a directory that the caller has locked."""
    began = time.monotonic()
    weights = starting_weights(prepared, path)
    with session(prepared, path, weights=weights, note=note, began=began, watch=watch) as here:
        try:
            summary = judge(prepared, here, train(prepared, here))
        except NonFinite:
            here.end_if_stopped()
            raise
        # One that came while the last files were written is for the runs that would follow.
        here.end_if_stopped()
        return summary


def with_less(config: Any) -> str:
    """What of a recipe makes a step that needs less memory, in words."""
    less = ["a smaller --batch-size", f"--accumulation {2 * config.accumulation}"]
    if not getattr(config, "remat", True):
        less.append("--remat True")
    *some, last = less
    return f"{', '.join(some)} or {last} needs less, as a new run"


def train(prepared: Prepared, here: Session) -> State:
    """Train until the last step of the recipe.

    Returns:
        The last state, which is saved.

    Raises:
        NonFinite: it diverged; the page shows its curves, and the last good checkpoint stays.
        Stopped: by a signal, and saved.
    """
    config = prepared.config
    rhythm = Rhythm(
        until=config.steps,
        evaluate_every=config.evaluate_every,
        save_every=config.save_every,
        log_every=config.log_every,
    )

    def evaluate(step: int, state: State) -> float:
        name, sign = ranking(prepared.parts.rank)
        share(prepared.loader.gaps)
        scalars = prepared.assess("validation")(state.evaluated, here.evaluating()).scalars
        here.logs.evaluation(step, "validation", scalars)
        return sign * scalars[name]

    step: Step = here.step if here.noted is None else here.noted.after(here.step)
    loader: Loader = prepared.loader
    stopping: Callable[[], bool] = here.stop
    if processes.several():
        others = InStep(step, loader, prepared.mesh, here.stop, here.watch, until=config.steps)
        step, loader, stopping = others.step, others.loader, others
    tracing = profiled(
        step,
        config.profile,
        begin=host_step(here.state),
        until=config.steps,
        path=here.path,
        say=here.logs.say,
    )
    try:
        who = f"a step of {config.model} with batch_size={config.batch_size} needs"
        with tracing as step, enough_memory(who, partial(with_less, config)):
            state = fit(
                here.state,
                step=step,
                loader=loader,
                rhythm=rhythm,
                evaluate=None if prepared.data.validation is None else evaluate,
                checkpoints=here.checkpoints,
                logs=here.logs,
                stopping=stopping,
            )
            here.watch.beat(LONG)
    except NonFinite as error:
        workdir.write(here.path / study.DIVERGED, {"step": error.step, "error": str(error)})
        try:
            here.checkpoints.wait()  # a first one may still be on its way
        except SaveFailed as failed:
            here.logs.say(str(failed))
        try:
            where = here.report(prepared, None, f"{here.note} Stopped: {error}.".strip())
            stays = "The last good checkpoint stays. " if here.checkpoints.begun() else ""
            here.logs.say(f"{stays}The curves:\n  {where}")
        except WriteFailed as failed:
            here.logs.say(str(failed))  # not in place of the error that ends the run
        raise
    here.go_on()
    share(prepared.loader.gaps)
    (here.path / study.DIVERGED).unlink(missing_ok=True)
    return state


def judge(prepared: Prepared, here: Session, state: State) -> Summary:
    """Measure the test split, and leave the summary, the predictions and the page of the run.

    Args:
        prepared: what runs.
        here: where.
        state: the last one.

    Returns:
        The summary by the best weights, or by those of `state` where the recipe asks for the last
        or no validation split ranks them.

    Raises:
        Stopped: by a signal.
    """
    config, name = prepared.config, ranking(prepared.parts.rank)[0]
    at, variables = judged(here, state, config.weights)
    try:
        summary = prepared.assess("test")(variables, here.evaluating())
    except Interrupted:
        here.go_on()
        raise
    # By its part in the run: a set without a test split is tested on what it calls validation.
    if not any(
        line.get("split") == "test" and line["step"] == at for line in read_metrics(here.path)
    ):
        here.logs.evaluation(at, "test", summary.scalars)
    here.go_on()
    found = outcome(prepared.experiment, config, at, summary)
    seconds = round(here.logs.seconds, 1)
    workdir.write(here.path / workdir.SUMMARY, {**found, "seconds": seconds})
    try:
        write_predictions(here.path, summary, prepared.data.test)
    except WriteFailed:
        raise
    except Exception as error:  # a table is no reason to lose the page of a long run
        here.logs.say(f"{PREDICTIONS} could not be made: {cause(error)}.")
    where = here.report(prepared, summary, here.note)
    here.checkpoints.finish()
    value = show(name, summary.scalars[name])
    here.logs.say(f"Test {readable(name)} {value}, weights of step {at}.\n  {where}")
    return summary


def judged(here: Session, state: State, weights: str) -> tuple[int, dict[str, Any]]:
    """The step whose weights are judged, and these."""
    last = host_step(state)
    best = here.checkpoints.best() if weights == "best" else None
    if best is None or best == last:
        return last, state.evaluated
    try:
        return best, here.checkpoints.restore_variables(state.evaluated, step=best)
    except Damaged as error:
        here.logs.say(f"{error}. The last weights stand in for the best.")
        return last, state.evaluated


def starting_weights(prepared: Prepared, path: Path | None) -> Weights | None:
    """Those that a new run starts from; None for random ones, and for a run that goes on.

    Raises:
        Refused: they are of another network.
    """
    if prepared.parts.weights is None:
        return None
    if path is not None and Checkpoints(path / "checkpoints").begun():
        return None
    return fitted(prepared, prepared.parts.weights())
