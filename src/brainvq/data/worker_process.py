"""One worker process as the program sees it: started when first asked, ended when it hangs, replaced when it dies.

`worker.py` runs in it, a fresh interpreter with the `sys.path` of this one; `replies.py` is what passes through its
pipes.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from brainvq.data.replies import Answer, Reply, receive
from brainvq.errors import InputError

TICK = 0.1  # seconds
START = 60.0  # seconds a worker may take to start, on a busy machine
CLOCKS = [-getattr(signal, name) for name in ("SIGPROF", "SIGALRM") if hasattr(signal, name)]  # not on Windows
PATIENCE = 30 if CLOCKS else 1  # times `seconds` on the clock, for what waits and does not compute
CHILD = """
import sys
memory, seconds, *sys.path = sys.argv[1:]
from brainvq.data.worker import main
main(int(memory), float(seconds))
"""


class DecoderFailed(InputError):
    """The process that decoded a file did not survive it; a file that a reader refuses is a plain InputError."""


class WorkerProcess:
    """One worker process, or none yet. One thread asks at a time; any may end it."""

    def __init__(self, memory: int, seconds: float) -> None:
        self.peak, self.longest = 0, 0.0
        self._memory, self._seconds = memory, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock, self._closed = Lock(), False

    def ask(self, task: str, request: dict[str, Any]) -> Reply:
        line = json.dumps({"task": task, "folder": str(Path.cwd()), "request": request}).encode() + b"\n"
        path, served = request.get("path", task), self._process
        try:
            process = self._running()
            with _killed_after(process, self._seconds * PATIENCE) as late:
                answer = self._exchange(process, line)
        except BaseException:  # Ctrl-C: its answer is still to come, and must not be taken for the next one's
            self.end()
            raise
        if answer is None:
            reason = self._obituary(process, late)
            if process is served and not late.is_set() and process.returncode not in CLOCKS:
                return self.ask(task, request)  # it may have been dying before: a new process is the file's alone
            raise DecoderFailed(f"{path}: {reason}. Replace the file or remove it.")
        if answer.spent or late.is_set():
            self.end()
        return self._opened(answer, path)

    def end(self, for_good: bool = False) -> None:
        with self._lock:
            self._closed |= for_good
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # a request that could not be delivered
                    if pipe is not None:
                        pipe.close()

    def _running(self) -> subprocess.Popen[bytes]:
        """The process; a new one where there is none, or it has died since."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.end()
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers are closed")
            process = self._process = _start(self._memory, self._seconds)
        with _killed_after(process, START):
            answer = self._exchange(process, b"")
        if answer is None or answer.kind != "ready":
            self.end()
            raise RuntimeError(f"a worker process did not start (exit code {process.returncode}); stderr may say why")
        return process

    def _exchange(self, process: subprocess.Popen[bytes], line: bytes) -> Answer | None:
        """The answer to `line`; None where none came, or what came is none."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
            answer = receive(process.stdout, self._memory)
        except (OSError, EOFError, ValueError):
            return None
        self.peak, self.longest = max(self.peak, answer.peak), max(self.longest, answer.took)
        return answer

    def _opened(self, answer: Answer, path: str) -> Reply:
        if answer.kind == "reply":
            return answer.reply
        if answer.kind == "refused":
            raise InputError(answer.text)
        if answer.kind == "memory":
            raise DecoderFailed(f"{path}: the decoder ran out of memory. Replace the file or remove it.")
        raise RuntimeError(f"{path}: a worker failed by our own mistake\n{answer.text}")

    def _obituary(self, process: subprocess.Popen[bytes], late: Event) -> str:
        with suppress(subprocess.TimeoutExpired):
            process.wait(1)  # what it died of, before our own kill
        self.end()
        code = process.returncode
        if late.is_set() or code in CLOCKS:
            return f"the decoder took longer than {self._seconds:g} s"
        return f"the decoder crashed ({f'signal {-code}' if code < 0 else f'exit code {code}'})"


def _start(memory: int, seconds: float) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C and Ctrl-Z reach us alone. Its errors are shown until it is ready."""
    path = [str(Path(folder).absolute()) for folder in sys.path]
    command = [sys.executable, "-c", CHILD, str(memory), str(seconds), *path]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


@contextmanager
def _killed_after(process: subprocess.Popen[bytes], seconds: float) -> Iterator[Event]:
    """The event is set when it came to that. Ticks are counted: while we are suspended (Ctrl-Z) no time passes."""
    done, late = Event(), Event()

    def watch() -> None:
        for _ in range(max(1, round(seconds / TICK))):
            if done.wait(TICK):
                return
        late.set()
        process.kill()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield late
    finally:
        done.set()
        thread.join()
