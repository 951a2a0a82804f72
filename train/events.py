"""TensorBoard events: scalars in a file that TensorBoard reads, written without TensorFlow."""

import math
import pathlib
import struct
import time
from collections.abc import Callable, Mapping

from train.files import Growing, writing


class Events:
    """One event file in `directory`.

    Written in the caller's thread: tensorboardX's own `SummaryWriter` hands events to a queue and
    a thread, and what they still hold is lost when the process is killed. Its `RecordWriter` holds
    back what a full disk did not take, and writes half an event.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        purge_step: int,
        say: Callable[[str], None] = lambda text: None,
    ):
        """A new file; TensorBoard hides what earlier files say of `purge_step` and later.

        Args:
            directory: made where it is missing.
            purge_step: the first step that is logged from here on.
            say: as `train.files.Growing` takes it.

        Raises:
            train.files.WriteFailed: here and in `scalars`, where it can't be written.
        """
        from tensorboardX.proto import event_pb2  # late: half a second

        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
        # In nanoseconds: a run resumed within the second must not overwrite its earlier file.
        name = f"events.out.tfevents.{time.time_ns():019d}"
        self._file = Growing(directory / name, say=say, own_folder=True)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        try:
            self._write(file_version="brain.Event:2")
            self._write(step=purge_step, session_log=start)
        except BaseException:
            self.close()
            raise

    def scalars(self, step: int, values: Mapping[str, float | int]) -> None:
        """Tag -> value at `step`; a value that is not finite is left out.

        On the disk when this returns, 2 ms later: TensorBoard hides what lies beyond a resume, so
        what a killed process had held back would be missing for good.
        """
        from tensorboardX.proto import summary_pb2

        summary = summary_pb2.Summary(
            value=[
                summary_pb2.Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items()
                if math.isfinite(value)
            ]
        )
        self._write(step=step, summary=summary)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, **fields) -> None:
        """One event as a TFRecord: length, its masked CRC, the event, its masked CRC."""
        from tensorboardX.proto import event_pb2
        from tensorboardX.record_writer import masked_crc32c

        event = event_pb2.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(event))
        checks = [struct.pack("<I", masked_crc32c(data)) for data in (length, event)]
        self._file.add(b"".join((length, checks[0], event, checks[1])), durable=True)
