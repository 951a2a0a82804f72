"""LeNet-5 on MNIST (LeCun et al. 1998), in its own form or in today's, or on what data there is.

python experiments/lenet_mnist.py                        MNIST if prepared, else digits
python experiments/lenet_mnist.py --model lenet5_1998    squashing, subsampling, table of C3, codes
python experiments/lenet_mnist.py --data fashion_mnist   any set that `classify.py` takes
python experiments/lenet_mnist.py --workdir DIR          goes on with the run in DIR

Images of 28x28 stand in the middle of 32x32, as in the paper; smaller ones are resized.
"""

import sys
from dataclasses import replace
from pathlib import Path

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

from experiments.classify import (
    DIGITS,
    FINE_TUNED,
    KNOWN,
    OWN_PICTURES,
    Config,
    build,
    fitted,
    splits,
)
from train import cli
from train.recipes import of_set, resolved
from train.run import run
from train.tasks.task import Summary

__all__ = ["Config", "build", "main", "recipe", "splits"]
NAME = f"experiments.{Path(__file__).stem}"

MNIST = Config(
    data="mnist", model="lenet5", size=32, by="pad", steps=9_400, batch_size=128, mirror="no"
)
"""22 passes over the 54,000 images that train, from random crops. The paper's 20 over all 60,000 \
gave 99.05 %, and 99.2 % from distorted images."""

SMALL = replace(DIGITS, size=32, mirror="no")

OWN = replace(OWN_PICTURES, size=32, by="pad", mirror="no", crop="pad")
"""Pictures of somebody's own are taken for digits or letters, shrunk and not cropped."""

NOTE = """\
This run trains on the embedded digits (scikit-learn's 1,797 handwritten digits of 8x8), not on \
MNIST. Prepare MNIST with make prepare DATA=mnist."""


def recipe(
    data: str = "auto",
    model: str = MNIST.model,
    optimizer: str = MNIST.optimizer,
    init_from: str = "",
) -> Config:
    """The recipe for a data set, a form, an optimiser, and random or trained weights."""
    known = {**dict.fromkeys(KNOWN, MNIST), "digits": SMALL}
    own = replace(OWN, epochs=FINE_TUNED.epochs) if init_from else OWN
    config = of_set(resolved(data, "mnist"), known, own)
    return fitted(config, model, optimizer, tenth=bool(init_from) and config.epochs is not None)


def main(config: Config) -> Summary:
    """Train and report."""
    return run(sys.modules[__name__], config, note=NOTE if config.data == "digits" else "")


if __name__ == "__main__":
    sys.exit(cli.command_line(NAME))
