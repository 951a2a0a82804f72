"""A trained network for other programs: StableHLO, weights, and a loader of 20 lines.

    python experiments/export.py RUN                 into RUN/export
    python experiments/export.py RUN --out DIR
    python experiments/export.py RUN/checkpoints/STEP   into RUN/export-step-STEP
    python experiments/export.py STUDY               the mean of what its seeds predict

What is written runs on CPUs, NVIDIA GPUs and TPUs, for batches of any size, and needs jax, numpy
and flatbuffers alone (`load.py` beside it). It takes pixels or signals as the run's evaluation sees
them: files are decoded and resized outside. `export.json` says how, and names keys and classes.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import tyro
from rich.console import Console

from train import cli
from train.averaged import averaged, named, of_checkpoint
from train.exported.folder import FILES, write_folder
from train.opened import opened
from train.terminal import Terminal

FOLDER = "export"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is exported.

    Attributes:
        run: the directory of a run, or of several seeds; or a checkpoint in that of a run.
        out: the folder that is written; by default "export" in that of the run, with the step of
            a checkpoint that is named.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    out: Path | None = None


def main(config: Config) -> Path:
    """Export, and say what was written.

    Raises:
        Refused: there is no such run, or it can't be exported.
    """
    path = cli.at_home(config.run)
    runs = [opened(one.path, step=one.step, backend="xla") for one in named(path)]
    terminal = Terminal(Console(), 0)
    for run in runs:
        terminal.say(
            f"{run.config.model} on {run.config.data}, step {run.step}: {run.config.workdir}"
        )
    run_of = of_checkpoint(path)
    out = path / FOLDER if run_of is None else run_of / f"{FOLDER}-step-{path.name}"
    out = out if config.out is None else cli.at_home(config.out)
    found = write_folder(averaged(runs), out)
    for key, x in found.inputs.items():
        terminal.say(f"  takes {key}: {x.dtype} ({', '.join(map(str, x.shape))})")
    terminal.say(f"  {out}: {', '.join(FILES)}")
    return out


if __name__ == "__main__":
    sys.exit(cli.command(Config, main, __doc__))
