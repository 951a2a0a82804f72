"""In flight: how many steps may have been dispatched that the devices have not computed."""

from collections import deque
from typing import Any

import jax

IN_FLIGHT = 16
"""Enough for a device never to wait for the host.

On CPUs XLA lets 32 programs wait for a device. One more waits in a thread of the pool that computes
them, which has as many threads as there are devices: all may wait for each other then, for ever.
"""


class InFlight:
    """What a loop has dispatched."""

    def __init__(self) -> None:
        self._results: deque[Any] = deque()

    def push(self, result: Any) -> None:
        """Another step was dispatched; returns when no more than `IN_FLIGHT` are not computed.

        Args:
            result: arrays of it that nothing donates.
        """
        self._results.append(result)
        if len(self._results) > IN_FLIGHT:
            jax.block_until_ready(self._results.popleft())
