"""Where the transformed convolution is faster than the direct one: python -m \
experiments.benchmark.fft_speed --out docs/fft_crossover.png

Both forms of `models.layers.definition.convolve`, of n values with k, in turns; the fastest of each
counts. Prints the ratio of the times and draws it. On 2 cores of a CPU it takes a minute.
"""

import argparse
import time

import jax
import numpy as np
from jax import Array
from matplotlib.figure import Figure

from models.layers import definition

LONG = (1024, 8192, 65536, 262144)
SHORT = (16, 64, 256, 512, 1024, 4096)


def seconds(n: int, k: int, *, turns: int = 15) -> tuple[float, float]:
    """Of the direct form and of the transformed one."""
    rng = np.random.default_rng(0)
    f, g = (jax.device_put(rng.normal(size=size).astype(np.float32)) for size in (n, k))
    forms = [
        jax.jit(lambda f, g, method=method: definition.convolve(f, g, method=method))
        for method in ("direct", "fft")
    ]
    for form in forms:
        form(f, g).block_until_ready()
    best = [np.inf, np.inf]
    for _ in range(turns):
        for i, form in enumerate(forms):
            best[i] = min(best[i], once(form, f, g))
    return best[0], best[1]


def once(form, f: Array, g: Array) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    form(f, g).block_until_ready()
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="fft_crossover.png", help="the picture")
    chosen = parser.parse_args()
    times = np.full((len(SHORT), len(LONG), 2), np.nan)
    for (row, k), (column, n) in ((a, b) for a in enumerate(SHORT) for b in enumerate(LONG)):
        if k <= n:
            times[row, column] = seconds(n, k)
    ratio = times[..., 0] / times[..., 1]
    print("direct / fft  " + "".join(f"n={n:<8}" for n in LONG))
    for k, line in zip(SHORT, ratio, strict=True):
        print(f"k={k:<12}" + "".join(f"{value:<10.2f}" for value in line))
    draw(ratio, chosen.out)


def draw(ratio: np.ndarray, path: str) -> None:
    """How many times as long the direct form takes."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(np.log2(ratio), origin="lower", cmap="RdBu_r", vmin=-6, vmax=6)
    for (row, column), value in np.ndenumerate(ratio):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.2g}", ha="center", va="center")
    axes.set_xticks(range(len(LONG)), [f"{n:,}" for n in LONG])
    axes.set_yticks(range(len(SHORT)), [f"{k:,}" for k in SHORT])
    axes.set(xlabel="n, values of f", ylabel="k, values of g", title="time of direct / time of FFT")
    figure.colorbar(shown, label="log2")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
