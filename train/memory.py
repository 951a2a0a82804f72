"""Memory: pages that a step has used stay with the process for the next one.

XLA on a CPU takes a step's buffers from malloc and gives them back at its end. Blocks of that size
glibc maps anew each time, and the kernel clears every page at its first touch: up to a third of a
step. Kept, they are there at once. (Huge pages alone, GLIBC_TUNABLES=glibc.malloc.hugetlb=1, gain
less, must be set before the process starts, and add nothing to this.)
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # malloc.h
LARGEST = 2**31 - 1


def keep_pages() -> bool:
    """From here on, freed memory stays with the process; whether its allocator took the request.

    That is glibc's; what it holds is the most that was in use at one time.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # No block of its own mapping, nothing handed back, and one heap: those of other threads are
    # limited to 64 MB, beyond which they map.
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_ARENA_MAX, 1))
    taken = [mallopt(name, value) for name, value in settings]
    return all(taken)
