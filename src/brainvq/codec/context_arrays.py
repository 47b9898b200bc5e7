"""The integer arrays of a context model: what belongs there, and that no sum over them can be too large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.errors import InputError

LIMIT = 1 << 24
"""Below it float32 holds every whole number; as in `networks/whole.py`, which learns under the same bounds."""
MOST_ENTRIES = 1 << 14
"""So that masses in int64 do not overflow."""
LARGEST_HIDDEN = 255
SMALL = ("embedding", "near", "before", "above_embedding", "above", "position", "place", "layers", "head", "table")
SHIFTS = "shifts"
SHAPES = {
    "embedding": ("rows", "dim"),
    "near": ("passes", "width", "near"),
    "before": ("width", "before"),
    "above_embedding": ("above_rows", "dim"),
    "above": ("width", "above"),
    "position": ("positions", "dim"),
    "place": ("width", "dim"),
    "bias": ("passes", "width"),
    "layers": ("layers", "width", "width"),
    "layer_bias": ("layers", "width"),
    "head": ("entries", "width"),
    "head_bias": ("entries",),
    "table": ("positions", "entries"),
    "grid": ("axes",),
    "near_offsets": ("passes", "near_places", "axes"),
    "before_offsets": ("before_places", "axes"),
    "above_offsets": ("above_places", "axes"),
}
"""Of the arrays of a level: equal words are equal numbers."""
TYPES = {
    **dict.fromkeys(SMALL, np.int8),
    **dict.fromkeys(("bias", "layer_bias", "head_bias", "grid"), np.int32),
    **dict.fromkeys(("near_offsets", "before_offsets", "above_offsets"), np.int8),
    "phases": np.uint8,
}

Arrays = Mapping[str, NDArray[Any]]


def of_level(arrays: Arrays, level: int) -> dict[str, NDArray[Any]]:
    """Those of one level, by their names within it."""
    return {name: arrays[f"{name}_{level}"] for name in TYPES}


def check(entries: Sequence[int], arrays: Arrays) -> None:
    """Raises InputError unless these are the arrays of a context model whose sums are exact."""
    wanted = {SHIFTS, *(f"{name}_{level}" for level in range(len(entries)) for name in TYPES)}
    if odd := sorted(wanted ^ set(arrays)):
        raise InputError(f"a context model of {len(entries)} levels of codes: {', '.join(odd)} missing or not known.")
    shifts = arrays[SHIFTS]
    if shifts.shape != (4,) or shifts.dtype != np.uint8 or not all(1 <= int(shift) <= 16 for shift in shifts):
        raise InputError(f"shifts of a context model are {shifts.tolist()}; expected four from 1 to 16.")
    for n, count in enumerate(entries):
        level = of_level(arrays, n)
        _check_shapes(level, {"entries": count, "above_rows": entries[n - 1] + 1 if n else 0})
        if (largest := _largest_sum(level, [int(shift) for shift in shifts])) >= LIMIT:
            raise InputError(
                f"sums of level {n} of a context model may reach {largest:,}; exact are those to {LIMIT:,}."
            )


def _check_shapes(level: Mapping[str, NDArray[Any]], known: dict[str, int]) -> None:
    """Raises InputError unless types and shapes are those of a level, and fit each other."""
    for name, kind in TYPES.items():
        if level[name].dtype != kind:
            raise InputError(f"array {name} of a context model is {level[name].dtype}; expected {np.dtype(kind)}.")
    phases = level["phases"]
    sizes = {**known, "rows": known["entries"] + 1, "passes": phases.size, "axes": phases.ndim}
    for name, words in SHAPES.items():
        shape = level[name].shape
        expected = [f"{word}={sizes[word]}" if word in sizes else word for word in words]
        if len(shape) != len(words) or any(
            sizes.setdefault(word, n) != n for word, n in zip(words, shape, strict=True)
        ):
            raise InputError(f"array {name} of a context model has shape {shape}; expected ({', '.join(expected)}).")
    numbers = all(sizes[name] == sizes[f"{name}_places"] * sizes["dim"] for name in ("near", "before", "above"))
    whole = 0 < phases.ndim < 4 and set(phases.shape) == {len(phases)} and phases.size <= 256
    if not numbers or not whole or sorted(phases.ravel().tolist()) != list(range(phases.size)):
        raise InputError("the arrays of a context model do not fit each other.")
    grid = [int(n) for n in level["grid"]]
    if min(grid) < 1 or math.prod(grid) != sizes["positions"]:
        raise InputError(f"a context model of a grid {grid} and {sizes['positions']:,} positions, which do not agree.")
    if not 1 <= sizes["entries"] <= MOST_ENTRIES:
        raise InputError(
            f"a context model of {sizes['entries']:,} entries; at most {MOST_ENTRIES:,} have exact tables. Use a "
            "histogram, or a tokenizer of a smaller codebook."
        )


def _largest_sum(level: Mapping[str, NDArray[Any]], shifts: Sequence[int]) -> int:
    """What no sum can exceed, whatever the codes are."""
    first_shift, layer_shift, _, table_shift = shifts
    first = _norms(level["near"], level["embedding"]) + _norms(level["before"], level["embedding"])
    first = first + _norms(level["above"], level["above_embedding"]) + _norms(level["place"], level["position"])
    first = first + _largest(level["bias"]) + (1 << first_shift)
    hidden = np.array(LARGEST_HIDDEN)
    layers = _norms(level["layers"], hidden) + (LARGEST_HIDDEN << layer_shift) + _largest(level["layer_bias"])
    head = _norms(level["head"], hidden) + (_largest(level["table"]) << table_shift) + _largest(level["head_bias"])
    return max(_largest(first), _largest(layers) + (1 << layer_shift), _largest(head))


def _norms(weight: NDArray[Any], values: NDArray[Any]) -> NDArray[np.int64]:
    """The largest absolute sum of each row of weights (..., n) over such values."""
    found: NDArray[np.int64] = np.abs(weight.astype(np.int64)).sum(-1) * _largest(values)
    return found


def _largest(values: NDArray[Any]) -> int:
    return int(np.abs(values.astype(np.int64)).max(initial=0))
