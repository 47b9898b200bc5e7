"""The contract of an entropy model: which codes are likely, as integers that are the same on every machine.

An entropy coder needs the very same table where it writes and where it reads. Probabilities in floating point are not
that (an order of summation, a library or a processor changes their last bits), so a model here is made of integer
arrays, and its tables follow from them by integer arithmetic. The arrays have a hash, and a file names the hash of the
model that it was written with.

A kind is a file of this folder and a line in `KINDS`; the contract tests run over all of them.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save as packed

from brainvq.errors import InputError

PRECISION = 24
TOTAL = 1 << PRECISION
"""What the frequencies of all entries sum to."""
MOST_ENTRIES = 1 << 20
"""Of a codebook, so that every entry keeps a frequency and a table some precision."""
AT_ONCE = 1 << 22
"""Numbers of a table that a model should make at a time for one image: a pass of more is better given as several."""
LARGEST_FILE = 1 << 29
KINDS = {"uniform": "Uniform", "position": "Position", "context": "Context"}
"""The file of each kind in this folder, and its class."""

Arrays = Mapping[str, NDArray[Any]]
Grids = Sequence[Sequence[int]]
"""Of each level of an image's codes."""


class EntropyModel(ABC):
    """What is likely at each code of an image, given those of earlier passes and those of the slice before.

    The N codes of an image are numbered as `CodeSpec.flatten` orders them: coarse level first, each in row-major order.
    They may be on any grids, not only on those that the model learned.

    Args:
        entries: of each level's codebook.

    Raises:
        InputError: more entries than a table can hold.
    """

    kind: ClassVar[str]
    takes_previous: bool = False
    """Whether the codes of the slice before help."""

    def __init__(self, entries: Sequence[int]) -> None:
        self.entries = tuple(int(n) for n in entries)
        if not self.entries or not all(1 <= n <= MOST_ENTRIES for n in self.entries):
            raise InputError(f"codebooks of {list(self.entries)} entries; 1 to {MOST_ENTRIES:,} each are expected.")

    @abstractmethod
    def passes(self, grids: Grids) -> Sequence[NDArray[np.int64]]:
        """Numbers of the codes that are coded in pass 0, in pass 1, and so on, in the order of coding: a partition of
        0..N-1. The codes of one pass are all of one level, and independent of each other given the passes before."""

    @abstractmethod
    def tables(
        self, number: int, grids: Grids, known: NDArray[np.int64], previous: NDArray[np.int64]
    ) -> NDArray[np.uint32]:
        """Cumulative frequencies of the codes in pass `number` of B independent images: (B, codes, entries + 1), from 0
        to TOTAL, strictly increasing; entry k has the frequency [k + 1] - [k].

        An image's tables do not depend on the others of the batch. The first axis may be 1 where all images share them.

        Args:
            known: (B, N) codes, -1 where not yet decoded: in this pass and those after.
            previous: (B, N) codes of the slice before on the same grids, -1 in images that have none.
        """

    @property
    def numbers(self) -> int:
        """What `tables` holds in memory at a time, for each code of an image; a model that takes more says so."""
        return max(self.entries) + 1

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that the tables depend on besides `entries`, as integer arrays."""

    @classmethod
    @abstractmethod
    def from_arrays(cls, entries: Sequence[int], arrays: Arrays) -> Self:
        """What `arrays` gave, or a prior's `entropy`; the tables are then the very same.

        Raises:
            InputError: this kind cannot have given them, or their tables would not be exact.
        """

    @property
    def sha256(self) -> str:
        """Of `canonical`; it names the model in files."""
        return hashlib.sha256(canonical(self.kind, self.entries, self.arrays())).hexdigest()


def canonical(kind: str, entries: Sequence[int], arrays: Arrays) -> bytes:
    """An entropy model as bytes that do not depend on the machine: a line of JSON, then each array by name, as a line
    of JSON (name, type, shape) and its numbers in row-major order, the least significant byte first."""
    parts = [json.dumps([kind, list(entries)]).encode() + b"\n"]
    for name in sorted(arrays):
        array = arrays[name]
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        parts += [json.dumps([name, array.dtype.name, list(array.shape)]).encode() + b"\n", little.tobytes()]
    return b"".join(parts)


def build(kind: str, entries: Sequence[int], arrays: Arrays) -> EntropyModel:
    """The model of a kind from its integers.

    Raises:
        InputError: there is no such kind, or the arrays are none of it.
    """
    if kind not in KINDS:
        raise InputError(f"an entropy model of the kind {kind!r}; this version knows {', '.join(KINDS)}.")
    for name, array in arrays.items():
        if array.dtype.kind not in "iu":
            raise InputError(f"array {name} of an entropy model is {array.dtype}; integers are expected.")
    model: type[EntropyModel] = getattr(import_module(f"brainvq.codec.{kind}"), KINDS[kind])
    return model.from_arrays(entries, arrays)


def to_bytes(model: EntropyModel) -> bytes:
    """A safetensors file of the arrays; its metadata names kind and entries."""
    arrays = {name: np.ascontiguousarray(array) for name, array in model.arrays().items()}
    return packed(arrays, {"kind": model.kind, "entries": json.dumps(model.entries)})


def load(path: Path) -> EntropyModel:
    """The model of a file that `to_bytes` made.

    Raises:
        InputError: it is missing, damaged, or of another kind than this version knows.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"it has more than {LARGEST_FILE:,} bytes.")
        data = path.read_bytes()
        about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        return build(about["kind"], json.loads(about["entries"]), parse(data))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{path} is no entropy model ({str(error).removesuffix('.')}). Restore it, or train a new one."
        ) from error
