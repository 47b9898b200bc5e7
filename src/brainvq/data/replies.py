"""What passes between a program and its workers: a task by its name, and its answer as a line of JSON and raw arrays.

No pickle, which runs a stranger's code: a worker that a broken file has taken over can send numbers and text, no more.
Arrays keep their dtype and their order in memory and are not copied on the way. What arrives is checked before anything
is allocated for it.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import IO, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

TASK = re.compile(r"(brainvq(?:\.\w+)*):(\w+)", re.ASCII)
LONGEST = 1 << 24  # bytes of a line: of facts, or of a request

Kind = Literal["ready", "reply", "refused", "memory", "mistake"]
Packed = tuple[dict[str, Any], list[memoryview]]


@dataclass(frozen=True, eq=False)
class Reply:
    """What a task gives: `facts` are plain JSON values, `arrays` numbers of any shape."""

    facts: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answer:
    """What came from a worker. `text`: of an InputError ("refused") or a traceback ("mistake", which is our own).

    `peak`: bytes of memory that the worker has had at most so far, 0 where the system does not tell. `took`: seconds of
    its processor. `spent`: it has lost memory on the way and is better replaced.
    """

    kind: Kind
    text: str
    reply: Reply
    peak: int
    took: float
    spent: bool


def find(task: str) -> Callable[[dict[str, Any]], Reply]:
    """The function "module:function"; only those of this package have names."""
    parts = TASK.fullmatch(task)
    if parts is None:
        raise ValueError(f"{task!r} is no function of brainvq")
    function: Callable[[dict[str, Any]], Reply] = getattr(import_module(parts[1]), parts[2])
    return function


def pack(kind: Kind, text: str = "", reply: Reply | None = None) -> Packed:
    """The line, without what `send` adds to it, and the bytes that follow."""
    reply = Reply() if reply is None else reply
    arrays = [(name, array if _is_packed(array) else array.copy()) for name, array in reply.arrays.items()]
    shapes = [[name, array.dtype.str, array.shape, _order(array)] for name, array in arrays]
    line = {"kind": kind, "text": text, "facts": reply.facts, "arrays": shapes}
    json.dumps(line)  # a fact that is no JSON is a mistake of the task, and told before half an answer is on its way
    return line, [_flat(array).data for _, array in arrays]


def send(stream: IO[bytes], packed: Packed, peak: int = 0, took: float = 0.0, spent: bool = False) -> None:
    line, contents = packed
    stream.write(json.dumps({**line, "peak": peak, "took": took, "spent": spent}).encode() + b"\n")
    for content in contents:
        stream.write(content)
    stream.flush()


def receive(stream: IO[bytes], most: int) -> Answer:
    """The next answer, of at most `most` bytes of arrays.

    Raises EOFError where the stream ends before it does, ValueError for anything that `send` would not have sent.
    """
    text = stream.readline(LONGEST)
    if not text.endswith(b"\n"):
        raise EOFError
    try:
        line = json.loads(text)
        if line["kind"] not in get_args(Kind):
            raise ValueError(line["kind"])
        arrays = dict(_arrays(stream, line["arrays"], most))
        reply = Reply(dict(line["facts"]), arrays)
        peak, took, spent = int(line["peak"]), float(line["took"]), bool(line["spent"])
        return Answer(line["kind"], str(line["text"]), reply, peak, took, spent)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("not an answer of a worker") from error


def _arrays(stream: IO[bytes], shapes: list[list[Any]], most: int) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, dtype_name, shape, order in shapes:
        dtype = np.dtype(str(dtype_name))
        if dtype.kind not in "biufc" or min(shape, default=0) < 0:
            raise ValueError(f"an array of {dtype} of {shape}")
        most -= math.prod(shape) * dtype.itemsize
        if most < 0:
            raise ValueError("more than a worker can hold")
        array = np.empty(shape, dtype, order=order)
        content = _flat(array).data
        while content:
            count = stream.readinto(content)  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            content = content[count:]
        yield str(name), array


def _is_packed(array: NDArray[Any]) -> bool:
    return array.flags.c_contiguous or array.flags.f_contiguous


def _order(array: NDArray[Any]) -> str:
    return "C" if array.flags.c_contiguous else "F"


def _flat(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The bytes of a packed array as they lie in memory, not copied."""
    return (array if array.flags.c_contiguous else array.T).reshape(-1).view(np.uint8)
