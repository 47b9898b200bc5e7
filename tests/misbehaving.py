"""Tasks for workers that do what broken files make decoders do. `test_workers.py` shows them as brainvq.misbehaving."""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from brainvq.data import workers
from brainvq.data.replies import Reply
from brainvq.errors import InputError

kept: list[np.ndarray] = []


def echo(request: dict[str, Any]) -> Reply:
    return Reply(request)


def where(request: dict[str, Any]) -> Reply:
    return Reply({"pid": os.getpid(), "folder": os.getcwd(), "modules": sorted(sys.modules)})  # noqa: PTH109


def nested(request: dict[str, Any]) -> Reply:
    return Reply({**workers.shared().one("brainvq.misbehaving:where", {}).facts, "own": os.getpid()})


def clocks(request: dict[str, Any]) -> Reply:
    return Reply({"left": signal.getitimer(signal.ITIMER_PROF)[0]})


def refuse(request: dict[str, Any]) -> Reply:
    raise InputError(f"{request['path']}: is no image. Remove it.")


def mistake(request: dict[str, Any]) -> Reply:
    return Reply(request["no such key"])


def no_json(request: dict[str, Any]) -> Reply:
    return Reply({"a": np.float32(1)})


def fault(request: dict[str, Any]) -> Reply:
    return Reply({"read": ctypes.string_at(0)})


def fault_once(request: dict[str, Any]) -> Reply:
    mark = Path(request["mark"])
    if not mark.exists():
        mark.touch()
        fault(request)
    return Reply({})


def leave(request: dict[str, Any]) -> Reply:
    os._exit(3)


def hang(request: dict[str, Any]) -> Reply:
    while True:
        pass


def sleep(request: dict[str, Any]) -> Reply:
    time.sleep(request["seconds"])
    return Reply()


def sleep_unclocked(request: dict[str, Any]) -> Reply:
    signal.setitimer(signal.ITIMER_REAL, 0)
    return sleep(request)


def eat(request: dict[str, Any]) -> Reply:
    return Reply({"sum": int(np.ones(request["bytes"], np.uint8)[::4096].sum())})


def give(request: dict[str, Any]) -> Reply:
    return Reply({"pid": os.getpid()}, {"ones": np.ones(request["bytes"], np.uint8)})


def leak(request: dict[str, Any]) -> Reply:
    kept.append(np.ones(request["bytes"], np.uint8))
    return Reply({"pid": os.getpid()})


def garbage(request: dict[str, Any]) -> Reply:
    os.write(request["pipe"], b"\xff\x00 no answer\n")
    return sleep({"seconds": 60})


def chatter(request: dict[str, Any]) -> Reply:
    print("printed")  # noqa: T201
    for stream in (1, 2):
        os.write(stream, b"written\n" * 100)
    return Reply({"input": sys.stdin.read()})
