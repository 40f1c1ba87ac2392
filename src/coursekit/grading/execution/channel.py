"""Messages between two processes: JSON values and raw buffers, with a limit in size and in time."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Sequence
from typing import Any

_HEAD = struct.Struct("!IQ")  # length of the JSON text, total length of the buffers


class ChannelClosed(Exception):
    """The other side is gone, or sent what is no message."""


class ReplyLate(Exception):
    """No whole message arrived in time."""


class Channel:
    """Both directions of a byte stream, by file descriptors.

    limit: bytes that a message may have; a longer one counts as a broken channel.
    """

    def __init__(self, read: int, write: int, limit: int = 2**29) -> None:
        self._read, self._write, self._limit = read, write, limit

    def send(self, message: dict[str, Any], buffers: Sequence[Any] = ()) -> None:
        """Send one message; ChannelClosed if nobody is there to read it."""
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        text = json.dumps([message, [view.nbytes for view in views]]).encode()
        head = _HEAD.pack(len(text), sum(view.nbytes for view in views))
        try:
            for part in (head + text, *views):
                _write_all(self._write, part)
        except OSError as error:
            raise ChannelClosed("the other side is gone") from error

    def receive(self, seconds: float | None = None) -> tuple[dict[str, Any], list[bytearray]]:
        """Wait for one message; ReplyLate after so many seconds, ChannelClosed where none can come."""
        end = None if seconds is None else time.monotonic() + seconds
        length, total = _HEAD.unpack(self._take(_HEAD.size, end))
        if length + total > self._limit:
            raise ChannelClosed(f"a message of {(length + total) / 2**20:.0f} MiB is larger than allowed")
        try:
            message, sizes = json.loads(bytes(self._take(length, end)))
            valid = isinstance(message, dict) and sum(sizes) == total and all(size >= 0 for size in sizes)
        except (ValueError, TypeError, RecursionError) as error:
            raise ChannelClosed("what arrived is no message") from error
        if not valid:
            raise ChannelClosed("what arrived is no message")
        return message, [self._take(size, end) for size in sizes]

    def close(self) -> None:
        """Close both ends; the other side notices."""
        for descriptor in {self._read, self._write}:
            try:
                os.close(descriptor)
            except OSError:
                pass

    def _take(self, size: int, end: float | None) -> bytearray:
        taken = bytearray(size)
        view, at = memoryview(taken), 0
        while at < size:
            if end is not None and not _readable(self._read, end - time.monotonic()):
                raise ReplyLate
            try:
                count = os.readv(self._read, [view[at:]])
            except OSError as error:
                raise ChannelClosed("the other side is gone") from error
            if not count:
                raise ChannelClosed("the other side is gone")
            at += count
        return taken


def _readable(descriptor: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _write_all(descriptor: int, data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
