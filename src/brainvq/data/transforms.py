"""Scan <-> tensor: the intensity window, the padding, and the Frame that undoes both.

A model sees float32 in [-1, 1]. 8-bit images take the window (0, 255) always, so that a slice is trained on, measured
and written back as the same 256 levels. Other images have no fixed scale (65,535 is the type's limit, not the
scanner's), so each scan gets a window of its own:

- low is 0 where no value is negative (zero is air in a magnitude image), else the 0.1 percentile with the headroom
  below;
- high is the 99.9 percentile of the values above low, and a quarter of the window more as headroom, but never beyond
  the largest value: moderate outliers are kept, a capsule at the rim or a hot pixel cannot darken the brain.

What lies outside the window is clipped, and comes back as the window's edge. Inside it the round trip is exact for
types of up to 16 bit and within 2^-23 of the window for wider ones. A constant scan gets a window of width above zero.
"""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from torch import Tensor

from brainvq.data.scan import EXACT_INTEGERS, Scan
from brainvq.errors import InputError

HEADROOM = 0.25
LEVELS_8, LEVELS_16 = 255, 65535
DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
"""What `scan.read` gives."""


@dataclass(frozen=True)
class Frame:
    """What undoes the preprocessing of one scan: shape before padding, (before, after) padding per axis, the window
    (low, high) in the file's units, the dtype's name, the affine as nested lists.

    Raises:
        InputError: `to_scan` could not undo it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    shape: tuple[PositiveInt, ...]
    padding: tuple[tuple[NonNegativeInt, NonNegativeInt], ...]
    window: tuple[float, float]
    dtype: str
    affine: list[list[float]] | None

    def __post_init__(self) -> None:
        low, high = self.window
        if not (low < high and math.isfinite(high - low)):
            raise InputError(f"the window is {low} to {high}; two finite values, the lower one first, are expected.")
        if len(self.shape) != len(self.padding):
            raise InputError(f"{len(self.padding)} axes are padded of a shape of {len(self.shape)}.")
        if self.dtype not in DTYPES:
            raise InputError(f"the dtype is {self.dtype!r}; one of {', '.join(DTYPES)} is expected.")
        if self.affine is not None and [len(row) for row in self.affine] != [4] * 4:
            raise InputError("the affine is not 4 x 4.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Frame":
        """Raises InputError, with the field, for what `to_json` cannot have given."""
        try:
            return TypeAdapter(cls).validate_json(json.dumps(values))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["frame", *(str(part) for part in first["loc"])])
            raise InputError(f"{where}: {first['msg'].removeprefix('Value error, ').removesuffix('.')}.") from error


def window_of(voxels: NDArray[Any]) -> tuple[float, float]:
    """(low, high) as the module's docstring defines it, high > low."""
    if voxels.dtype == np.uint8:
        return 0.0, 255.0
    values = voxels.ravel().astype(np.float64)
    least, most = float(values.min()), float(values.max())
    low = 0.0 if least >= 0 else float(np.percentile(values, 0.1))
    above = values[values > low]
    high = float(np.percentile(above, 99.9)) if above.size else low
    headroom = HEADROOM * (high - low)
    low = low if least >= 0 else max(least, low - headroom)
    high = min(most, high + headroom)
    return (low, high) if high > low else (low, low + max(1.0, abs(low)))


def scale(levels: Tensor, most: int) -> Tensor:
    """Integers 0..`most` to float32 in [-1, 1]; one expression for training and inference: they agree to the bit."""
    return levels.to(torch.float32).mul_(2.0 / most).sub_(1.0)


def fraction(voxels: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float64]:
    """Where each value lies in the window: 0 at low, 1 at high, clipped."""
    low, high = window
    return np.clip((voxels.astype(np.float64) - low) / (high - low), 0.0, 1.0)


def padding_for(shape: tuple[int, ...], multiple: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(0, after) per axis, up to the next multiple."""
    if len(shape) != len(multiple):
        raise InputError(f"a scan of {len(shape)} axes {shape} was given to a model of {len(multiple)} axes.")
    return tuple((0, -n % m) for n, m in zip(shape, multiple, strict=True))


def pad(x: Tensor, padding: tuple[tuple[int, int], ...]) -> Tensor:
    """(B, 1, *S) with -1 added at the end of each axis; x itself where there is nothing to add."""
    if not any(after for _, after in padding):
        return x
    flat = [n for pair in reversed(padding) for n in pair]
    return torch.nn.functional.pad(x, flat, value=-1.0)


def to_model(scan: Scan, multiple: tuple[int, ...]) -> tuple[Tensor, Frame]:
    """x (1, 1, *S) float32 in [-1, 1], S padded at the end to `multiple` with -1, and the Frame for `to_scan`."""
    voxels = scan.voxels
    window, padding = window_of(voxels), padding_for(voxels.shape, multiple)
    if voxels.dtype == np.uint8:
        x = scale(torch.from_numpy(voxels.copy()), LEVELS_8)
    else:
        x = torch.from_numpy((2.0 * fraction(voxels, window) - 1.0).astype(np.float32))
    affine = None if scan.affine is None else scan.affine.tolist()
    frame = Frame(tuple(voxels.shape), padding, window, voxels.dtype.name, affine)
    return pad(x[None, None], padding), frame


def to_scan(x: Tensor, frame: Frame, name: str, subject: str | None) -> Scan:
    """The inverse of `to_model` for x (1, 1, *S): unpadded, clipped to the window, in units and dtype of the file.

    Raises InputError for NaN or infinity in x.
    """
    expected = tuple(n + before + after for n, (before, after) in zip(frame.shape, frame.padding, strict=True))
    if tuple(x.shape) != (1, 1, *expected):
        raise ValueError(f"x has shape {tuple(x.shape)}; this frame expects {(1, 1, *expected)}.")
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(frame.shape, frame.padding, strict=True))
    values = x.detach().to("cpu", torch.float64).numpy()[0, 0][inside]
    if not np.isfinite(values).all():
        raise InputError(
            f"{name}: the model returned NaN or infinite values; finite ones are expected. Its weights may be damaged: "
            "train it again, or restore the run from a copy."
        )
    low, high = frame.window
    voxels = low + (np.clip(values, -1.0, 1.0) + 1.0) / 2.0 * (high - low)
    dtype = np.dtype(frame.dtype)
    if dtype.kind == "f":
        voxels = np.clip(voxels, np.finfo(dtype).min, np.finfo(dtype).max)
    else:
        limits = np.iinfo(dtype)
        voxels = np.clip(np.rint(voxels), max(limits.min, -EXACT_INTEGERS), min(limits.max, EXACT_INTEGERS))
    affine = None if frame.affine is None else np.array(frame.affine, dtype=np.float64)
    return Scan(voxels.astype(dtype), affine, subject, name)
