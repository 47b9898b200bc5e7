"""How much of a volume a reconstruction keeps, in the volume's own units: what a reader of the images asks.

Errors and medians are taken of values (slope x stored + intercept), inside the head of `head.py` and inside its core,
the voxels deeper than 20 mm below the head's surface, which in a head are brain. A median that drifts is a bias, which
SSIM does not show. SSIM is that of `metrics`, slice by slice on 8-bit images of the window, over slices that show any
head.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.planes import acquired_in, spacing_of
from brainvq.data.scan import Scan, Storage
from brainvq.data.transforms import Frame, tensor_of
from brainvq.head import head_and_core
from brainvq.metrics.distortion import WINDOW, distortion

DEPTH = 20.0  # millimetres
TOGETHER = 16  # slices measured at once


@dataclass(frozen=True)
class Fidelity:
    """`mae`, `rmse`: inside the head, in the scan's units. `median_head`, `median_core`: (original, reconstruction);
    None where there is no such place. `ssim`, `ssim_foreground`: means over slices; None where no slice can be
    measured."""

    mae: float | None
    rmse: float | None
    median_head: tuple[float, float] | None
    median_core: tuple[float, float] | None
    ssim: float | None
    ssim_foreground: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fidelity(original: Scan, copy: Scan, frame: Frame) -> Fidelity:
    """Of a volume and its reconstruction, both in the geometry of the file; `frame` is the original's."""
    assert original.affine is not None
    head, core = head_and_core(original.voxels, spacing_of(original.affine), DEPTH)
    mae, rmse = _errors(original, copy, head)
    ssim, foreground = _likeness(original, copy, frame)
    return Fidelity(
        mae=mae,
        rmse=rmse,
        median_head=_medians(original, copy, head),
        median_core=_medians(original, copy, core),
        ssim=ssim,
        ssim_foreground=foreground,
    )


def too_narrow(original: Scan, frame: Frame) -> str | None:
    """Why SSIM cannot be taken of this volume's slices, where that is so."""
    if min(frame.image) >= WINDOW or original.affine is None:
        return None
    high, wide = frame.image
    acquired = acquired_in(original.affine)
    helps = f"; its own slices are {acquired}: train a model with data.plane={acquired}" if acquired else ""
    return (
        f"no SSIM, which needs {WINDOW} pixels a side: the model takes {frame.plane} slices, of {high} x {wide} pixels "
        f"here (height x width){helps}"
    )


def _errors(original: Scan, copy: Scan, mask: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    """Mean absolute error and root of the mean squared one, plane by plane for memory's sake."""
    count, total, squares = 0, 0.0, 0.0
    for z in range(mask.shape[2]):
        before, after = (scan.voxels[..., z][mask[..., z]].astype(np.float64) for scan in (original, copy))
        error = np.abs(after - before)
        count, total, squares = count + error.size, total + error.sum(), squares + np.square(error).sum()
    slope = original.storage.slope if original.storage else 1.0
    return (slope * float(total) / count, slope * math.sqrt(squares / count)) if count else (None, None)


def _medians(original: Scan, copy: Scan, mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    return (_median(original, mask), _median(copy, mask)) if mask.any() else None


def _median(scan: Scan, mask: NDArray[np.bool_]) -> float:
    """Of values: that of the voxels as stored, which are never copied as float64, scaled."""
    storage = scan.storage or Storage("nifti1")
    return storage.slope * float(np.median(scan.voxels[mask])) + storage.intercept


def _likeness(original: Scan, copy: Scan, frame: Frame) -> tuple[float | None, float | None]:
    """Mean SSIM and foreground SSIM of the slices that show any head."""
    if min(frame.image) < WINDOW:
        return None, None
    found: list[NDArray[np.float64]] = []
    for start in range(0, frame.stack[0], TOGETHER):
        part = slice(start, start + TOGETHER)
        x, x_hat = (tensor_of(scan, frame, part) for scan in (original, copy))
        height, width = frame.image
        measured = distortion(x[..., :height, :width], x_hat[..., :height, :width])
        found.append(np.stack([measured.ssim.numpy(), measured.ssim_foreground.numpy()]))
    both = np.concatenate(found, axis=1)
    both = both[:, np.isfinite(both[1])]
    return (float(both[0].mean()), float(both[1].mean())) if both.size else (None, None)
