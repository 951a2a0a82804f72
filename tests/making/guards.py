"""What every loop of the tests runs under: nothing crosses unasked, nothing is traced anew.

`import guards` in a test; `conftest.py` puts them on.
"""

import contextlib
import functools

import jax


def guarded(fit):
    """`train.loop.fit`, which raises where a number goes to or from a device unasked from its
    second step on, and where a step is traced more than once for each of its shapes.
    """

    @functools.wraps(fit)
    def run(state, *, step, loader, **how):
        shapes, compiled = set(), jitted(step)
        before = compiled._cache_size() if hasattr(compiled, "_cache_size") else 0
        with contextlib.ExitStack() as guard:

            def counted(state, data, payload):
                # By the payload: which step it is of is known to the loop alone.
                shapes.add(str(jax.tree.map(lambda x: (x.shape, str(x.dtype)), payload)))
                out = step(state, data, payload)
                if not guard._exit_callbacks:
                    guard.enter_context(jax.transfer_guard("disallow"))
                return out

            try:
                return fit(state, step=counted, loader=loader, **how)
            finally:
                if hasattr(compiled, "_cache_size"):
                    traced = compiled._cache_size() - before
                    assert traced <= len(shapes), f"{traced} traces of {len(shapes)} shapes"

    return run


def jitted(step):
    """The compiled function below what wraps it."""
    while (inner := getattr(step, "_step", None)) is not None:
        step = inner
    return step
