"""SIGINT and SIGTERM during a training: finish the step, write a checkpoint, then stop. A pause is no training time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(Exception):
    """Asked to stop by the signal `signum`; the message says what is kept and how to go on."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum


@contextmanager
def listening(tell: Callable[[], None], wake: Callable[[], None]) -> Iterator[list[int]]:
    """A list whose one element is the last signal that came, or 0. `tell` is called then; a second stops at once.

    `wake` is called when the process goes on after it was suspended (Ctrl-Z, `kill -STOP`).
    """
    seen = [0]

    def remember(signum: int, frame: FrameType | None) -> None:
        if seen[0]:
            raise KeyboardInterrupt
        seen[0] = signum
        tell()

    handlers: dict[int, Callable[[int, FrameType | None], None]] = {signal.SIGINT: remember, signal.SIGTERM: remember}
    if hasattr(signal, "SIGCONT"):  # not on Windows
        handlers[signal.SIGCONT] = lambda signum, frame: wake()
    try:
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # not the main thread: whoever owns that one handles signals
        before = {}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
