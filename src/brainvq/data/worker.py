"""The process in which strangers' files are decoded: one request a line on its input, one answer each on its output.

Started by `worker_process.py` alone. What a decoder prints goes nowhere, since the output belongs to the answers. Where
the system can, the address space is limited, clocks of the kernel's end what hangs (also when the program that asked is
gone), and a crash leaves no core file.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from brainvq.data import workers
from brainvq.data.replies import Packed, find, pack, send
from brainvq.data.worker_process import PATIENCE
from brainvq.errors import InputError

if sys.platform != "win32":
    import resource

PROC = Path("/proc/self")  # of Linux; elsewhere memory is not limited, and no peak is told


def main(memory: int, seconds: float) -> None:
    """Answer until the input ends. `memory` and `seconds`: as of `workers.Workers`."""
    requests, answers = _pipes()
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    workers.be_inside()
    at_start: dict[str, int] = {}  # bytes of address space, once the code of a task is there
    with suppress(BrokenPipeError):  # whoever asked is gone
        send(answers, pack("ready"), _peak())
        for line in requests:
            order, began = json.loads(line), time.process_time()
            packed = _work(order, at_start, memory, seconds)
            took = time.process_time() - began
            lost = _address_space() - at_start.get(order["task"], sys.maxsize) - sum(map(len, packed[1]))
            send(answers, packed, _peak(), took, packed[0]["kind"] == "memory" or lost > memory // 2)
            del packed  # a volume, perhaps, beside which the next one would not find room
    os._exit(0)  # at once: closing an answer that nobody reads would only complain


def _pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Input and output, hidden from libraries: they find an empty input, and print to nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(nowhere, stream)
    return requests, answers


def _work(order: dict[str, Any], at_start: dict[str, int], memory: int, seconds: float) -> Packed:
    """The packed answer to one request."""
    try:
        os.chdir(order["folder"])
        task = find(order["task"])
        most = at_start.setdefault(order["task"], _address_space()) + memory
        with _limits(most, seconds):
            return pack("reply", reply=task(order["request"]))
    except InputError as error:
        return pack("refused", str(error))
    except MemoryError:
        return pack("memory")
    except Exception:
        return pack("mistake", traceback.format_exc())


@contextmanager
def _limits(most: int, seconds: float) -> Iterator[None]:
    """`most` bytes of address space, `seconds` of computing: then a signal that nobody handles here, and so the end."""
    if sys.platform == "win32":
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        if PROC.exists():
            resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds * PATIENCE + 1)  # the program that asked comes first, if it lives
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _address_space() -> int:
    """Bytes in use, 0 where the system does not tell."""
    with suppress(OSError):
        return int((PROC / "statm").read_text().split()[0]) * resource.getpagesize()
    return 0


def _peak() -> int:
    """Bytes of memory at most so far. Not `getrusage`: its peak is inherited from the program that started us."""
    with suppress(OSError):
        lines = (PROC / "status").read_text().splitlines()
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
    return 0
