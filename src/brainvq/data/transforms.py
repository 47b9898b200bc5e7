"""Scan <-> tensor: orientation, intensity window and padding, and the Frame that undoes all three.

A model sees float32 in [-1, 1]. The window is that of `windows.py`, one a scan. A volume is given to a model of slices
as one batch (`planes.py`), its slices padded alike.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, NonNegativeInt, PositiveInt, TypeAdapter, ValidationError
from torch import Tensor

from brainvq.data.planes import Plane, as_slices, spacing_of
from brainvq.data.scan import EXACT_INTEGERS, Scan, Storage
from brainvq.data.windows import LEVELS_8, Ends, fraction, from_fraction, volume_window, window_of
from brainvq.errors import InputError

DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
"""What `scan.read` gives."""


@dataclass(frozen=True)
class Frame:
    """What undoes the preprocessing of one scan: shape of the file, (before, after) padding per axis of the model, the
    window (low, high) and the reach (least, most) of `windows.py` in the file's units, the dtype's name, the affine as
    nested lists; of a volume cut into slices their plane; of volumes how the file held them.

    Raises:
        InputError: `to_scan` could not undo it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    shape: tuple[PositiveInt, ...]
    padding: tuple[tuple[NonNegativeInt, NonNegativeInt], ...]
    window: Ends
    dtype: str
    affine: list[list[float]] | None
    reach: Ends | None = None
    plane: Plane | None = None
    storage: Storage | None = None

    def __post_init__(self) -> None:
        (low, high), (least, most) = self.window, self.reach or self.window
        if not (least <= low < high <= most and math.isfinite(most - least)):
            raise InputError(
                f"the window is {low} to {high}, reaching from {least} to {most}; finite values in order are expected."
            )
        if self.dtype not in DTYPES:
            raise InputError(f"the dtype is {self.dtype!r}; one of {', '.join(DTYPES)} is expected.")
        if self.affine is not None and [len(row) for row in self.affine] != [4] * 4:
            raise InputError("the affine is not 4 x 4.")
        if self.plane is not None and (len(self.shape) != 3 or self.affine is None):
            raise InputError(f"slices of a shape of {len(self.shape)} axes need three axes and an affine.")
        if len(self.image) != len(self.padding):
            raise InputError(f"{len(self.padding)} axes are padded of a shape of {len(self.image)}.")

    @property
    def stack(self) -> tuple[int, ...]:
        """(slices, H, W) of a volume that is cut, (1, *S) of any other scan; without padding."""
        return self.cut(np.broadcast_to(np.uint8(0), self.shape)).shape

    @property
    def image(self) -> tuple[int, ...]:
        """(H, W) of a slice, or S, without padding."""
        return self.stack[1:]

    def cut(self, voxels: NDArray[Any]) -> NDArray[Any]:
        """The view of the file's voxels in which a model sees them."""
        return voxels[None] if self.plane is None else as_slices(voxels, np.array(self.affine), self.plane)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> "Frame":
        """Raises InputError, with the field, for what `to_json` cannot have given."""
        try:
            return _frames().validate_json(json.dumps(values))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(["frame", *(str(part) for part in first["loc"])])
            raise InputError(f"{where}: {first['msg'].removeprefix('Value error, ').removesuffix('.')}.") from error


@cache
def _frames() -> TypeAdapter[Frame]:
    """Made once: that takes longer than what it does."""
    return TypeAdapter(Frame)


def scale(levels: Tensor, most: int) -> Tensor:
    """Integers 0..`most` to float32 in [-1, 1]; one expression for training and inference: they agree to the bit."""
    return levels.to(torch.float32).mul_(2.0 / most).sub_(1.0)


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


def frame_of(scan: Scan, multiple: tuple[int, ...], plane: Plane = "axial") -> Frame:
    """How `scan` is given to a model whose images are multiples of `multiple`: a volume as its slices along `plane`
    where the model takes slices.

    Raises:
        InputError: the axes do not fit the model.
    """
    voxels = scan.voxels
    cut = voxels.ndim == 3 and len(multiple) == 2 and scan.affine is not None
    image = voxels.shape
    if cut:
        assert scan.affine is not None
        image = as_slices(voxels, scan.affine, plane).shape[1:]
        window, reach = volume_window(voxels, spacing_of(scan.affine))
    else:
        window, reach = window_of(voxels), None
    return Frame(
        shape=tuple(voxels.shape),
        padding=padding_for(image, multiple),
        window=window,
        dtype=voxels.dtype.name,
        affine=None if scan.affine is None else scan.affine.tolist(),
        reach=reach,
        plane=plane if cut else None,
        storage=scan.storage,
    )


def tensor_of(scan: Scan, frame: Frame, part: slice = slice(None)) -> Tensor:
    """x (B, 1, *S) float32 in [-1, 1] on the CPU, padded with -1: the slices `part` of a volume, or the whole scan."""
    voxels = frame.cut(scan.voxels)[part]
    if voxels.dtype == np.uint8:
        x = scale(torch.from_numpy(voxels.copy()), LEVELS_8)
    else:
        x = torch.from_numpy((2.0 * fraction(voxels, frame.window, frame.reach) - 1.0).astype(np.float32))
    return pad(x[:, None], frame.padding)


def to_model(scan: Scan, multiple: tuple[int, ...]) -> tuple[Tensor, Frame]:
    """The whole of `scan` as x (B, 1, *S), and the Frame for `to_scan`; B is 1, or the slices of a volume."""
    frame = frame_of(scan, multiple)
    return tensor_of(scan, frame), frame


def to_scan(x: Tensor | Iterable[Tensor], frame: Frame, name: str, subject: str | None) -> Scan:
    """The inverse of `to_model`: unpadded, clipped to the window, in orientation, units and dtype of the file.

    `x`: (B, 1, *S), or its parts in order, so that a volume never lies in memory twice.

    Raises:
        InputError: NaN or infinity in x.
    """
    voxels = np.empty(frame.shape, frame.dtype)
    view, done = frame.cut(voxels), 0
    for part in (x,) if isinstance(x, Tensor) else x:
        expected = tuple(n + sum(ends) for n, ends in zip(frame.image, frame.padding, strict=True))
        if tuple(part.shape[1:]) != (1, *expected) or done + len(part) > len(view):
            raise ValueError(f"x has shape {tuple(part.shape)}; this frame expects {(len(view), 1, *expected)}.")
        view[done : done + len(part)] = _stored(part, frame, name)
        done += len(part)
    if done != len(view):
        raise ValueError(f"x has {done} slices; this frame expects {len(view)}.")
    affine = None if frame.affine is None else np.array(frame.affine, dtype=np.float64)
    return Scan(voxels, affine, subject, name, frame.storage)


def in_units(x: Tensor, frame: Frame, name: str) -> NDArray[np.float64]:
    """x (B, 1, *S) as (B, *S) in units of the file, without padding and clipped to the window, before rounding.

    Raises:
        InputError: NaN or infinity in x.
    """
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(frame.image, frame.padding, strict=True))
    values = x.detach()[:, 0].to("cpu", torch.float64).numpy()[(slice(None), *inside)]
    if not np.isfinite(values).all():
        raise InputError(
            f"{name}: the model returned NaN or infinite values; finite ones are expected. Its weights may be damaged: "
            "train it again, or restore the run from a copy."
        )
    return from_fraction((np.clip(values, -1.0, 1.0) + 1.0) / 2.0, frame.window, frame.reach)


def _stored(x: Tensor, frame: Frame, name: str) -> NDArray[Any]:
    """(B, *S) in units and dtype of the file, without padding."""
    voxels = in_units(x, frame, name)
    dtype = np.dtype(frame.dtype)
    if dtype.kind == "f":
        return np.clip(voxels, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    limits = np.iinfo(dtype)
    most = min(limits.max, EXACT_INTEGERS)
    return np.clip(np.rint(voxels), max(limits.min, -EXACT_INTEGERS), most).astype(dtype)
