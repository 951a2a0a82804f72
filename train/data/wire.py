"""What goes from one process to another through a socket; arrays go as memory, not as bytes.

The arrays of a message lie in one anonymous file of memory whose descriptor is sent along: the
receiver maps it. It has no name that could be left behind: the system frees it with the last
process that holds it, however that one ends.
"""

import mmap
import os
import pickle
import socket
import struct
import tempfile
from typing import Any

ALIGNED = 64
"""Bytes; at such places XLA takes arrays of a CPU without a copy."""
HEADER = struct.Struct("<QQ")
"""Bytes of the pickle, bytes of the memory."""


def send(connection: socket.socket, item: Any) -> None:
    """Send anything that pickles.

    Raises:
        OSError: nobody is there to receive it, or there is no memory for its arrays.
    """
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(item, protocol=5, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    places, total = [], 0
    for part in parts:
        places.append((total, part.nbytes))
        total += -(-part.nbytes // ALIGNED) * ALIGNED
    body = pickle.dumps((pickled, places))
    header = HEADER.pack(len(body), total)
    if not total:
        connection.sendall(header + body)
        return
    memory = _memory()
    try:
        os.ftruncate(memory, total)
        for (at, _), part in zip(places, parts, strict=True):
            _write(memory, part, at)
        socket.send_fds(connection, [header], [memory])
    finally:
        os.close(memory)
    connection.sendall(body)


def receive(connection: socket.socket) -> Any:
    """What `send` sent; its arrays are memory of their own, which goes when they do.

    Raises:
        EOFError: the other side has ended.
        OSError: the system doesn't give what it takes.
    """
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    header, descriptors, _, _ = socket.recv_fds(connection, HEADER.size, 1, flags)
    try:
        header += exactly(connection, HEADER.size - len(header)) if header else b""
        if not header:
            raise EOFError
        length, total = HEADER.unpack(header)
        pickled, places = pickle.loads(exactly(connection, length))
        if not total:
            return pickle.loads(pickled, buffers=[b""] * len(places))
        if not descriptors:  # the system drops one that this process has no room for
            raise OSError("too many open files")
        memory = memoryview(mmap.mmap(descriptors[0], total))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return pickle.loads(pickled, buffers=[memory[at : at + size] for at, size in places])


def exactly(connection: socket.socket, length: int) -> bytearray:
    """So many bytes.

    Raises:
        EOFError: the other side ended before.
    """
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return data


def _memory() -> int:
    """The descriptor of a file without a name; off Linux it lies on the disk."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("svertka")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, part: memoryview, at: int) -> None:
    while part:  # the system writes 2 GB at once, at most
        count = os.pwrite(descriptor, part, at)
        part, at = part[count:], at + count
