"""Processes of their own for what decodes strangers' files: a crash, a hunger for memory or a hang is an InputError.

    with Workers(processes=4) as workers:
        for reply in workers.map("brainvq.data.workers:scan_task", requests):
            ...

Decoders of TIFF, JPEG 2000 and the like are native code; a malformed file may end the process that runs them. Not
`multiprocessing`: it pickles, and wants `if __name__ == "__main__"` in the user's script. A process from outside is
`worker_process.py`, from inside `worker.py`.
"""

import atexit
import os
import queue
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from brainvq.data import scan as scans
from brainvq.data.replies import Reply, find
from brainvq.data.scan import Scan, Storage
from brainvq.data.worker_process import DecoderFailed as DecoderFailed
from brainvq.data.worker_process import WorkerProcess
from brainvq.errors import InputError

MOST_SHARED = 8  # processes
MEMORY, SECONDS = 4 << 30, 60.0  # that a single file, which may be a series of a thousand slices, may take

_inside = False
_shared: dict[int, "Workers"] = {}


class Workers:
    """At most `processes` workers, each started when it is first needed and replaced when it dies.

    `memory`: bytes that a task may use beyond what a worker needs at its start; enforced on Linux. `seconds`: of a
    processor, and thirty times that on the clock, so that a busy machine refuses no good file (Windows: on the clock).
    A task is "module:function" of this package, a function from a dictionary of JSON values to a `Reply`. Threads may
    share one object. Inside a worker a task is called directly.
    """

    def __init__(self, processes: int = 1, memory: int = 1 << 30, seconds: float = 10.0) -> None:
        self._children = [WorkerProcess(memory, seconds) for _ in range(processes)]
        self._idle: queue.LifoQueue[WorkerProcess] = queue.LifoQueue()  # the last that was busy first: it is warm
        for child in self._children:
            self._idle.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    @property
    def peak(self) -> int:
        """Bytes of memory that a worker has had at most, of those that lived to tell; 0 where the system does not."""
        return max(child.peak for child in self._children)

    @property
    def longest(self) -> float:
        """Seconds of a processor that an answer has taken at most."""
        return max(child.longest for child in self._children)

    def close(self) -> None:
        """End all, also what they are at. Only a new object can be asked again."""
        for child in self._children:
            child.end(for_good=True)

    def one(self, task: str, request: dict[str, Any]) -> Reply:
        """Raises InputError: the task's own, or one with request["path"] where the worker did not survive it."""
        if _inside:
            return find(task)(request)
        child = self._idle.get()
        try:
            return child.ask(task, request)
        finally:
            self._idle.put(child)

    def map(self, task: str, requests: Iterable[dict[str, Any]]) -> Iterator[Reply | InputError]:
        """What `one` gives or raises for each request, in order; `requests` are drawn a few ahead of what is taken."""
        if _inside:
            yield from (self._settled(task, request) for request in requests)
            return
        waiting: deque[Future[Reply | InputError]] = deque()
        pool = ThreadPoolExecutor(len(self._children))
        try:
            for request in requests:
                waiting.append(pool.submit(self._settled, task, request))
                if len(waiting) >= 2 * len(self._children):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _settled(self, task: str, request: dict[str, Any]) -> Reply | InputError:
        try:
            return self.one(task, request)
        except InputError as error:
            return error


def be_inside() -> None:
    """This process is a worker."""
    global _inside
    _inside = True


def inside() -> bool:
    """Whether this process is a worker."""
    return _inside


def shared() -> Workers:
    """For single files: one for the whole program, closed at its end. A forked process gets its own."""
    found = _shared.get(os.getpid())
    if found is None:
        found = _shared.setdefault(os.getpid(), Workers(min(MOST_SHARED, os.cpu_count() or 1), MEMORY, SECONDS))
        atexit.register(found.close)
    return found


def read(path: str | Path, *, files: Sequence[Path] = (), name: str | None = None, subject: str | None = None) -> Scan:
    """`scan.read` in the shared worker; besides its errors, one for a file that the decoder does not survive."""
    request = {"path": str(Path(path)), "files": [str(file) for file in files], "name": name, "subject": subject}
    return scan_of(shared().one("brainvq.data.workers:scan_task", request))


def scan_task(request: dict[str, Any]) -> Reply:
    """`scan.read` as a task; the request holds its arguments."""
    files = [Path(file) for file in request.get("files", ())]
    scan = scans.read(request["path"], files=files, name=request.get("name"), subject=request.get("subject"))
    arrays = {"voxels": scan.voxels} if scan.affine is None else {"voxels": scan.voxels, "affine": scan.affine}
    storage = None if scan.storage is None else asdict(scan.storage)
    return Reply({"name": scan.name, "subject": scan.subject, "storage": storage}, arrays)


def scan_of(reply: Reply) -> Scan:
    """What `scan_task` has read."""
    facts, arrays = reply.facts, reply.arrays
    storage = None if facts["storage"] is None else Storage(**facts["storage"])
    return Scan(arrays["voxels"], arrays.get("affine"), facts["subject"], facts["name"], storage)
