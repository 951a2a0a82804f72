"""Accuracy misleads where one class is rare: six metrics over the share of positives.

python experiments/imbalance.py --out runs/imbalance.png

"Is it an 8?", asked of the embedded digits. A logistic regression learns from the 1,262 training
images, one in ten an 8, and answers at two thresholds; beside it stands who always says no. All are
measured on the largest sets of a given share of eights that the other 535 images allow, each number
the mean over 50 draws. Some seconds on one core; the same numbers every time.

At 1 in 100, always-no is right 99.0 % of the time and has found none; the regression at 20 % is
right 94.9 % and has found 86 %. Accuracy, precision and F1 change with the share; recall, balanced
accuracy and ROC-AUC belong to the classifier.
"""

import argparse
import pathlib
import sys
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

if __name__ == "__main__":  # what it imports stands beside it, whatever is installed
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    from train.stop import end_quietly

    end_quietly()  # before the other imports, which take seconds

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from train.cli import at_home
from train.data.digits import digits
from train.files import write
from train.legible import legible
from train.metrics.confusion import accuracy, balanced_accuracy, f1, precision, recall
from train.metrics.ranking import roc_auc
from train.report.figures import png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASKED = 8
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DRAWS = 50
METRICS = ("accuracy", "balanced accuracy", "precision", "recall", "F1", "ROC-AUC")


class Classifier(NamedTuple):
    """Says yes where its score, (N,) of the images that measure, is above its threshold."""

    name: str
    scores: np.ndarray
    threshold: float
    colour: str
    line: str
    marker: str


def pixels(*splits: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, 64) from 0 to 1, and whether each is an 8."""
    sources = [digits(split) for split in splits]
    examples = [source[i] for source in sources for i in range(len(source))]
    images = np.stack([one["image"] for one in examples]).reshape(-1, 8, 4, 8, 4)
    labels = np.array([one["label"] for one in examples])
    return images.mean((2, 4)).reshape(-1, 64) / 255, labels == ASKED


def measured(classifier: Classifier, truth: np.ndarray, drawn: np.ndarray) -> list[float]:
    """The six, yes being the class that is looked for; `drawn` are places in `truth`."""
    truth, scores = truth[drawn], classifier.scores[drawn]
    matrix = np.bincount(2 * truth + (scores > classifier.threshold), minlength=4).reshape(2, 2)
    of_yes = [metric(matrix)[1] for metric in (precision, recall, f1)]
    return [accuracy(matrix), balanced_accuracy(matrix), *of_yes, roc_auc(truth, scores)]


def subset(truth: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Places of the largest random set of which that share is true."""
    yes, no = np.flatnonzero(truth), np.flatnonzero(~truth)
    size = min(len(yes) / share, len(no) / (1 - share))
    count = round(size * share)
    return np.r_[rng.choice(yes, count, False), rng.choice(no, round(size) - count, False)]


def draw(found: np.ndarray, classifiers: list[Classifier]) -> "Figure":
    """A panel a metric; `found` is (classifiers, shares, metrics)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    drawn = Figure(figsize=(9.5, 5.6), layout="constrained")
    for place, (axes, metric) in enumerate(zip(drawn.subplots(2, 3).flat, METRICS, strict=True)):
        for one, values in zip(classifiers, found[:, :, place], strict=True):
            axes.plot(SHARES, values, one.line, color=one.colour, marker=one.marker, label=one.name)
        axes.set(title=metric, xscale="log", ylim=(-0.04, 1.04))
        axes.set_xticks(SHARES, [f"{share:.0%}" for share in SHARES])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(True, color="#E6E6E6", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    drawn.supxlabel(f"share of images that show an {ASKED}")
    lines = drawn.axes[0].get_lines()
    drawn.legend(handles=lines, loc="outside upper center", ncols=3, frameon=False)
    return drawn


def main(out: pathlib.Path) -> np.ndarray:
    """Measure, print and draw; (classifiers, shares, metrics)."""
    images, labels = pixels("train")
    model = LogisticRegression(max_iter=1000).fit(images, labels)
    images, truth = pixels("validation", "test")
    scores, never = model.predict_proba(images)[:, 1], np.zeros(len(truth))
    classifiers = [  # in colours of Okabe and Ito's, distinct to colour-blind readers
        Classifier("always no", never, 0.5, "#D55E00", "-", "x"),
        Classifier("regression, yes above 50%", scores, 0.5, "#0072B2", "-", "o"),
        Classifier("regression, yes above 20%", scores, 0.2, "#009E73", "--", "s"),
    ]
    rng = np.random.default_rng(0)
    sets = [[subset(truth, share, rng) for _ in range(DRAWS)] for share in SHARES]
    each = [[[measured(one, truth, d) for d in draws] for draws in sets] for one in classifiers]
    found = np.mean(each, axis=2)
    table = Table("share", "classifier", *METRICS, title=f'"Is it an {ASKED}?"')
    for place, share in enumerate(SHARES):
        for one, values in zip(classifiers, found[:, place], strict=True):
            table.add_row(f"{share:.0%}", one.name, *(f"{value:.3f}" for value in values))
        table.add_section()
    Console(width=110).print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, png(partial(draw, found, classifiers)))
    print(legible(str(out)))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=at_home, required=True, help="a PNG")
    main(parser.parse_args().out)
