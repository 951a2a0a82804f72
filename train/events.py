"""TensorBoard events: scalars in a file that TensorBoard reads, written without TensorFlow."""

import math
import pathlib
import time
from collections.abc import Mapping

from tensorboardX import RecordWriter
from tensorboardX.proto import event_pb2, summary_pb2


class Events:
    """One event file in `directory`.

    Written in the caller's thread: tensorboardX's own `SummaryWriter` hands events to a queue and
    a thread, and what they still hold is lost when the process is killed.
    """

    def __init__(self, directory: pathlib.Path, *, purge_step: int):
        """A new file; TensorBoard hides what earlier files say of `purge_step` and later."""
        directory.mkdir(parents=True, exist_ok=True)
        # In nanoseconds: a run resumed within the second must not overwrite its earlier file.
        path = directory / f"events.out.tfevents.{time.time_ns():019d}"
        self._records = RecordWriter(str(path))
        self._write(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step=purge_step, session_log=start)
        self._records.flush()

    def scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        """Tag -> value at `step`; a value that is not finite is left out.

        On the disk when this returns, 2 ms later: TensorBoard hides what lies beyond a resume, so
        what a killed process had held back would be missing for good.
        """
        summary = summary_pb2.Summary(
            value=[
                summary_pb2.Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items()
                if math.isfinite(value)
            ]
        )
        self._write(step=step, summary=summary)
        self._records.flush()

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def _write(self, **fields) -> None:
        event = event_pb2.Event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())
