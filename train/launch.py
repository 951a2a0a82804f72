"""Launching: the trials of a sweep as jobs of a cluster, by submitit; no scheduler of our own."""

import contextlib
import dataclasses
import importlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from train import encoding, workdir
from train.files import brief
from train.refusal import Refused
from train.stop import Stopped, part_of
from train.sweep import TRIAL, Checked, Outcome, outcome_of, perform, reopen

JOBS, LOGS = "jobs.json", "jobs"
"""Trial -> its job, see `Submitted`; the folder of what submitit keeps of them."""
EVERY = 2.0
"""Seconds between two looks at the jobs; submitit asks the cluster itself less and less often."""
WAITING = {"PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "PREEMPTED"}
"""States of a job that is still to end."""
ROOT = Path(__file__).resolve().parents[1]

MINUTES = 24 * 60
"""Of a job, unless `timeout_min` says otherwise. One that takes longer is queued again, three times
(submitit's `max_num_timeout`), and has then failed; one whose machine is taken away, any number of
times. submitit counts as the first whatever is stopped in the last fifth of its time, or the last
ten minutes of it where these are more."""


@dataclasses.dataclass(frozen=True)
class Submitted:
    """A job that is not known to have ended.

    Attributes:
        job: its id.
        seeds: that it runs; () where an earlier version did not say.
    """

    job: str
    seeds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Job:
    """A trial as submitit runs it: in another process, on another machine.

    Attributes:
        experiment: name of its module.
        config: of the trial.
        path: its directory, absolute, on a disk that all machines share.
        checked: see `train.foreseen.check_all`.
    """

    experiment: str
    config: Any
    path: Path
    checked: Checked

    def __call__(self) -> Outcome:
        """Run the trial, or go on with it."""
        module = importlib.import_module(self.experiment)
        try:
            with part_of("", self.path, lambda line: None):  # it is queued again, not typed
                return perform(module, self.config, self.path, self.checked)
        except Stopped as stopped:
            # The run has heard of it first, between two steps, and is saved. By now the signal is
            # submitit's again: it asks `checkpoint` what to requeue, and ends the process.
            signal.raise_signal(stopped.signal)
            raise

    def checkpoint(self) -> Any:
        """What is requeued where the machine is taken away: the same, which goes on from its files.

        Returns:
            A `submitit.helpers.DelayedSubmission`.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def executor(folder: Path, parameters: Mapping[str, Any], *, cluster: str = "slurm") -> Any:
    """submitit's executor.

    Args:
        folder: for scripts, logs and pickles.
        parameters: as `submitit.AutoExecutor.update_parameters` takes them: `timeout_min`,
            `gpus_per_node`, `slurm_partition`, …
        cluster: its name there.

    Raises:
        Refused: submitit is not installed, there is no such cluster here, or a parameter can't be.
    """
    try:
        import submitit
    except ImportError:
        raise Refused(
            "launcher='slurm': submitit is not installed; pip install 'svertka[slurm]'"
        ) from None
    try:
        made = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError:
        raise Refused("launcher='slurm': there is no srun here: this is no Slurm cluster") from None
    try:
        made.update_parameters(**{"timeout_min": MINUTES, "name": "svertka", **parameters})
    except Exception as error:
        raise Refused(f"slurm: {brief(error)}") from None
    return made


def run_all(
    jobs: Mapping[str, Job],
    path: Path,
    made: Any,
    *,
    say: Callable[[str], None],
    ended: Callable[[str], None],
) -> None:
    """Submit the jobs, but for those that still wait or run, and see all of them end.

    One that runs earlier seeds alone is followed by one of all of them, which does the rest. This
    process may be ended meanwhile: the jobs go on without it.

    Args:
        jobs: trial -> its job.
        path: of the sweep.
        made: see `executor`.
        say: takes a line for the user.
        ended: called with the name of a trial when a job of it has ended.
    """
    known = submitted(path)
    waiting: dict[str, Any] = {}

    def record(name: str, found: Submitted | None) -> None:
        known.pop(name, None)
        known.update({} if found is None else {name: found})
        workdir.write(path / JOBS, known)

    def submit(name: str) -> None:
        reopen(jobs[name].path)
        with importable():
            waiting[name] = found = made.submit(jobs[name])
        record(name, Submitted(str(found.job_id), tuple(jobs[name].config.seeds)))
        say(f"{name}: job {found.job_id}")

    def left(name: str) -> list[int]:
        """Seeds that the job does not run."""
        has = known[name].seeds or jobs[name].config.seeds
        return [seed for seed in jobs[name].config.seeds if seed not in has]

    for name in [*known]:
        if name not in jobs:  # a trial with nothing left to do
            record(name, None)
    for name in jobs:
        found = met(made, path / LOGS, known[name].job) if name in known else None
        if found is None or not waits(found):
            submit(name)
            continue
        waiting[name] = found
        then = f", then one for the seeds {', '.join(map(str, left(name)))}" if left(name) else ""
        say(f"{name}: job {found.job_id}, which is there{then}")
    while waiting:
        for name, found in [*waiting.items()]:
            if found.done():
                del waiting[name]
                close(jobs[name], found)
                ended(name)
                if left(name):
                    submit(name)
                else:
                    record(name, None)
        if waiting:
            time.sleep(EVERY)


def submitted(path: Path) -> dict[str, Submitted]:
    """Trial -> its job, of a sweep's jobs that are not known to have ended.

    Raises:
        Refused: they can't be read.
    """
    found = workdir.read(path, JOBS) or {}
    try:
        return {
            name: Submitted(one) if isinstance(one, str) else encoding.decoded(Submitted, one)
            for name, one in found.items()
        }
    except (encoding.Wrong, TypeError) as error:
        raise Refused(f"workdir={str(path)!r}: {JOBS} holds a wrong value: {error}") from None


def refuse_running(path: Path, made: Callable[[], Any]) -> None:
    """Refuse to run trials here that jobs of the sweep run, or will.

    Args:
        path: of the sweep.
        made: gives the executor, see `executor`.

    Raises:
        Refused: jobs have not ended, or it can't be asked whether they have.
    """
    known = submitted(path)
    if not known:
        return
    ids = ", ".join(one.job for one in known.values())
    try:
        cluster = made()
    except Refused as error:
        why = str(error).partition(": ")[2]
        raise Refused(
            f"launcher='local': the jobs {ids} of this ablation may still run, which can't be "
            f"asked ({why}); if they have ended, remove {path / JOBS}"
        ) from None
    running = []
    for name, one in known.items():
        found = met(cluster, path / LOGS, one.job)
        if waits(found) or not found.done():  # a state that is not known is no end
            running.append(name)
    if running:
        ids = " ".join(known[name].job for name in running)
        raise Refused(
            f"launcher='local': jobs of this ablation wait or run ({', '.join(running)}); "
            f"--launcher slurm waits for them, and scancel {ids} ends them"
        )


def met(made: Any, folder: Path, job_id: str) -> Any:
    """The job of an earlier process."""
    return getattr(made, "_executor", made).job_class(folder=folder, job_id=job_id)


def waits(found: Any) -> bool:
    """Whether a job is still to end."""
    return found.state.upper().split()[0] in WAITING


def close(job: Job, found: Any) -> None:
    """See that a job which has ended has an outcome: one that was killed has left none."""
    before = outcome_of(job.path)
    if before is not None and before.state != "stopped":
        return
    error = found.exception()
    lines = str(error).strip().splitlines() if error is not None else []
    text = lines[-1][:200] if lines else f"job {found.job_id} ended without a result"
    seconds = 0.0 if before is None else before.seconds
    workdir.make(job.path)
    failed = Outcome(state="failed", seconds=seconds, error=text, **job.checked._asdict())
    workdir.write(job.path / TRIAL, failed)


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Inside, a process that is started imports this checkout, as this one does."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
