"""Launching: Slurm's script, what a job does when its machine is taken away, jobs that are met."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import submitit
import toy_detector
from toy_detector import Config

from train import launch
from train.launch import LOGS, Job, executor, run_all
from train.refusal import Refused
from train.stop import Stopped
from train.sweep import TRIAL, Checked, Outcome, outcome_of

CHECKED = Checked(10, "recall")
SHORT = Config(steps=20, seeds=(0,), devices=1)


def program(folder, name, text):
    """A command of a cluster, by a few lines of shell."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Slurm's commands: a job is given a number, and nothing runs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "srun", "exit 1")
    program(folder, "sbatch", f'cp "$1" {folder}/script; echo "Submitted batch job 71"')
    program(folder, "sacct", 'echo "JobID|State|NodeList"; echo "71|RUNNING|n1"')
    program(folder, "scontrol", f'echo "$@" > {folder}/requeued')
    program(folder, "scancel", f"kill -USR2 $(cat {folder}/pid)")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def job(path, experiment="toy_detector", config=SHORT):
    return Job(experiment, config, path / "trials" / "one", CHECKED)


def test_the_script_that_slurm_is_given(cluster, tmp_path):
    made = executor(
        tmp_path / LOGS,
        {"timeout_min": 90, "gpus_per_node": 1, "slurm_partition": "short"},
    )
    found = made.submit(job(tmp_path))
    assert found.job_id == "71"
    lines = (cluster / "script").read_text().splitlines()
    for one in ("--time=90", "--gpus-per-node=1", "--partition=short", "--signal=USR2@90"):
        assert f"#SBATCH {one}" in lines
    assert "#SBATCH --job-name=svertka" in lines
    (command,) = [line for line in lines if line.startswith("srun ")]
    assert "submitit.core._submit" in command
    assert found.submission().function == job(tmp_path)  # what the job will unpickle


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"partition": "x"}, "partition"), ({"slurm_gpu": 1}, "gpu"), ({"mem_gb": "much"}, "mem_gb")],
)
def test_parameters_that_it_does_not_take_are_refused(cluster, tmp_path, parameters, said):
    with pytest.raises(Refused) as refused:
        executor(tmp_path, parameters)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_cluster_or_submitit_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="no srun here"):
        executor(tmp_path, {})
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(Refused, match=r"submitit is not installed; pip install 'svertka\[slurm\]'"):
        executor(tmp_path, {})


def test_a_stopped_job_gives_the_signal_to_submitit_and_is_requeued_as_it_is(tmp_path, monkeypatch):
    def stop(config):
        raise Stopped(signal.SIGUSR2)

    monkeypatch.setattr(toy_detector, "main", stop)
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with pytest.raises(Stopped):
            job(tmp_path)()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2]
    assert outcome_of(job(tmp_path).path).state == "stopped"
    again = job(tmp_path).checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function == job(tmp_path)


class Jobs:
    """An executor that runs what it is given when it is asked about it."""

    def __init__(self, state="UNKNOWN"):
        self.submitted, self.state = [], state

    def submit(self, function):
        self.submitted.append(function)
        return self.job_class(None, str(len(self.submitted)), function)

    def job_class(self, folder, job_id, function=None):
        def done():
            if function is not None:
                function()
            return True

        error = RuntimeError("line 1\nthe node is gone")
        return SimpleNamespace(job_id=job_id, state=self.state, done=done, exception=lambda: error)


def test_every_job_is_submitted_and_met(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "EVERY", 0.0)
    monkeypatch.setattr(toy_detector, "main", lambda config: None)
    jobs = {name: replace(job(tmp_path), path=tmp_path / name) for name in ("a", "b")}
    said, ended, made = [], [], Jobs()
    run_all(jobs, tmp_path, made, say=said.append, ended=ended.append)
    assert made.submitted == [*jobs.values()]
    assert (said, ended) == (["a: job 1", "b: job 2"], ["a", "b"])
    assert json.loads((tmp_path / "jobs.json").read_text()) == {}  # none that may still run
    assert outcome_of(tmp_path / "a").state == "finished"


def test_a_job_that_still_runs_is_not_submitted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(toy_detector, "main", lambda config: None)
    (tmp_path / "jobs.json").write_text('{"one": "5"}')
    made, one = Jobs("RUNNING"), job(tmp_path)
    run_all({"one": one}, tmp_path, made, say=print, ended=print)
    assert made.submitted == []
    assert json.loads((tmp_path / "jobs.json").read_text()) == {}
    # And it was killed: what the cluster says of it is the row's error.
    assert outcome_of(one.path).error == "the node is gone"
    (tmp_path / "jobs.json").write_text('{"one": "5"}')
    over = Jobs("CANCELLED by 0")
    run_all({"one": one}, tmp_path, over, say=print, ended=print)
    assert over.submitted == [one]


def test_a_job_of_earlier_seeds_is_followed_by_one_of_the_others(tmp_path, monkeypatch):
    made, ran = Jobs("RUNNING"), []
    monkeypatch.setattr(toy_detector, "main", lambda config: ran.append(config.seeds))
    monkeypatch.setattr(launch, "EVERY", 0.0)
    one = job(tmp_path, config=replace(SHORT, seeds=(0, 1, 2)))
    known = {"one": {"job": "5", "seeds": [0, 1]}, "finished": {"job": "4", "seeds": [0]}}
    (tmp_path / "jobs.json").write_text(json.dumps(known))
    one.path.mkdir(parents=True)
    launch.workdir.write(one.path / TRIAL, outcome("finished"))  # by then, of 0 and 1
    said, ended = [], []
    run_all({"one": one}, tmp_path, made, say=said.append, ended=ended.append)
    assert said == ["one: job 5, which is there, then one for the seeds 2", "one: job 1"]
    assert (made.submitted, ran, ended) == ([one], [(0, 1, 2)], ["one", "one"])
    assert json.loads((tmp_path / "jobs.json").read_text()) == {}
    # The time is that of both jobs.
    assert outcome_of(one.path).state == "finished"
    assert 100 <= outcome_of(one.path).seconds < 110


def outcome(state):
    return Outcome(state=state, seconds=100.0, error="", **CHECKED._asdict())


@pytest.mark.parametrize("state", ["stopped", "failed", "finished"])
def test_the_time_of_a_trial_is_that_of_all_its_jobs(tmp_path, monkeypatch, state):
    monkeypatch.setattr(toy_detector, "main", lambda config: None)
    monkeypatch.setattr(launch, "EVERY", 0.0)
    one = job(tmp_path)
    one.path.mkdir(parents=True)
    launch.workdir.write(one.path / TRIAL, replace(outcome(state), error="x" * (state == "failed")))
    made = Jobs()
    run_all({"one": one}, tmp_path, made, say=print, ended=print)
    found = outcome_of(one.path)
    assert (found.state, found.error) == ("finished", "")
    assert 100 <= found.seconds < 110


def test_a_job_that_is_killed_again_leaves_its_own_error_and_all_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "EVERY", 0.0)
    one = job(tmp_path)
    one.path.mkdir(parents=True)
    launch.workdir.write(one.path / TRIAL, replace(outcome("failed"), error="an earlier one"))
    made = Jobs()
    made.submit = lambda function: made.job_class(None, "9")  # it ends, and has done nothing
    run_all({"one": one}, tmp_path, made, say=print, ended=print)
    found = outcome_of(one.path)
    assert (found.state, found.error, found.seconds) == ("failed", "the node is gone", 100.0)


def test_a_jobs_file_that_is_none_is_refused(tmp_path):
    for text in ('{"one": 5}', '{"one": {"job": 5}}', '{"one": {"id": "5"}}'):
        (tmp_path / "jobs.json").write_text(text)
        with pytest.raises(Refused, match=r"jobs.json holds a wrong value"):
            launch.submitted(tmp_path)


@pytest.mark.slow
def test_a_preempted_job_goes_on_from_its_files(cluster, tmp_path):
    config = replace(SHORT, steps=1000, save_every=50, evaluate_every=1000)
    one = job(tmp_path, config=config)
    found = executor(tmp_path / LOGS, {}).submit(one)
    paths = [str(launch.ROOT), str(launch.ROOT / "tests" / "making")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "71",
    }

    def start():
        words = [sys.executable, "-m", "submitit.core._submit", str(tmp_path / LOGS)]
        process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
        (cluster / "pid").write_text(str(process.pid))
        return process

    process, seed = start(), one.path / "seed_0"
    limit = time.monotonic() + 300
    while not list((seed / "checkpoints").glob("[0-9]*")):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.1)
    found._interrupt(timeout=True)
    assert process.wait(300) == 255
    assert (cluster / "requeued").read_text() == "requeue 71\n"
    assert outcome_of(one.path).state == "stopped"
    assert start().wait(600) == 0
    assert outcome_of(one.path).state == "finished"
    assert found.result().state == "finished"
    assert "resumed" in json.loads((seed / "provenance.json").read_text())
