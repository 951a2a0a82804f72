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

from train import workdir
from train.files import brief
from train.refusal import Refused
from train.stop import Stopped
from train.sweep import TRIAL, Checked, Outcome, outcome_of, perform

JOBS, LOGS = "jobs.json", "jobs"
"""Trial -> id of its job; the folder of what submitit keeps of them."""
EVERY = 2.0
"""Seconds between two looks at the jobs; submitit asks the cluster itself less and less often."""
WAITING = {"PENDING", "RUNNING", "REQUEUED", "CONFIGURING", "COMPLETING", "SUSPENDED", "PREEMPTED"}
"""States of a job that is still to end."""
ROOT = Path(__file__).resolve().parents[1]

MINUTES = 24 * 60
"""Of a job, unless `timeout_min` says otherwise; one that takes longer is requeued and goes on."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A trial as submitit runs it: in another process, on another machine.

    Attributes:
        experiment: name of its module.
        config: of the trial.
        path: its directory, absolute, on a disk that all machines share.
        checked: see `train.sweep.check`.
    """

    experiment: str
    config: Any
    path: Path
    checked: Checked

    def __call__(self) -> Outcome:
        """Run the trial, or go on with it."""
        module = importlib.import_module(self.experiment)
        try:
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

    This process may be ended meanwhile: the jobs go on without it.

    Args:
        jobs: trial -> its job.
        path: of the sweep.
        made: see `executor`.
        say: takes a line for the user.
        ended: called with the name of each trial that has ended.
    """
    known = workdir.read(path, JOBS) or {}
    waiting: dict[str, Any] = {}
    for name, job in jobs.items():
        found = still_there(made, path / LOGS, known.get(name))
        if found is None:
            (job.path / TRIAL).unlink(missing_ok=True)  # of an earlier, failed attempt
            with importable():
                found = made.submit(job)
            known[name] = str(found.job_id)
            workdir.write(path / JOBS, known)
        waiting[name] = found
        say(f"{name}: job {found.job_id}")
    while waiting:
        for name, found in [*waiting.items()]:
            if found.done():
                del waiting[name]
                close(jobs[name], found)
                ended(name)
        if waiting:
            time.sleep(EVERY)


def still_there(made: Any, folder: Path, job_id: str | None) -> Any | None:
    """The job of an earlier process, while it waits or runs."""
    if job_id is None:
        return None
    found = getattr(made, "_executor", made).job_class(folder=folder, job_id=job_id)
    return found if found.state.upper().split()[0] in WAITING else None


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
