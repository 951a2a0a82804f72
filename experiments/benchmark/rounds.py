"""What every process of `experiments.benchmark` that takes turns does, whoever computes in it.

PyTorch's interpreter reads this file too: it needs Python alone.
"""

import json
import sys
import time

WARMUP = 3
"""Steps before the first that counts."""


def answer(start, before=0):
    """Say as a line of JSON what runs; then answer each line that comes with `{"rate": images/s}`.

    Args:
        start: (specification) -> (facts, step, wait): what to say of it; a step; and what waits
            until all steps are done. The specification is the JSON of the one argument; its
            `batch_size` is that of a step, its `seconds` about those of a round.
        before: steps at the beginning of each round that don't count, being made ready while others
            had their turn. Such a round ends by the clock: what a step took that was ready says
            nothing of the next.
    """
    try:
        spec = json.loads(sys.argv[1])
        facts, step, wait = start(spec)

        def seconds(steps):
            """Of a step, over that many."""
            began = time.perf_counter()
            for _ in range(steps):
                step()
            wait()
            return (time.perf_counter() - began) / steps

        def ready(before):
            """Of a step, over as many as fill the round, after those that don't count."""
            for _ in range(before):
                step()
            began, steps = time.perf_counter(), 0
            while time.perf_counter() < began + spec["seconds"] or not steps:
                step()
                steps += 1
            return (time.perf_counter() - began) / steps

        for _ in range(WARMUP):
            took = seconds(1)
        print(json.dumps(facts), flush=True)
        for _ in sys.stdin:
            if before:
                took = ready(before)
            else:
                took = seconds(max(1, round(spec["seconds"] / took)))
            print(json.dumps({"rate": spec["batch_size"] / took}), flush=True)
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
