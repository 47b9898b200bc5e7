"""How much of a volume a reconstruction keeps, in the volume's own units: what a reader of the images asks.

Errors and medians are taken of values (slope x stored + intercept), inside the head of `head.py` and inside its core,
the voxels deeper than 20 mm below the head's surface, which in a head are brain. A median that drifts is a bias, which
SSIM does not show. SSIM is that of `metrics`, slice by slice on 8-bit images of the window, over slices that show any
head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainvq.data.planes import spacing_of
from brainvq.data.scan import Scan
from brainvq.data.transforms import Frame, tensor_of
from brainvq.head import head_in_volume
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
    spacing = spacing_of(original.affine)
    head = head_in_volume(original.voxels, spacing)
    core = ndimage.distance_transform_edt(np.pad(head, 1), sampling=spacing)[1:-1, 1:-1, 1:-1] > DEPTH
    difference = _values(copy, head) - _values(original, head)
    ssim, foreground = _likeness(original, copy, frame)
    return Fidelity(
        mae=float(np.abs(difference).mean()) if difference.size else None,
        rmse=float(np.sqrt(np.square(difference).mean())) if difference.size else None,
        median_head=_medians(original, copy, head),
        median_core=_medians(original, copy, core),
        ssim=ssim,
        ssim_foreground=foreground,
    )


def _values(scan: Scan, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    slope, intercept = (scan.storage.slope, scan.storage.intercept) if scan.storage else (1.0, 0.0)
    return np.asarray(scan.voxels[mask].astype(np.float64) * slope + intercept)


def _medians(original: Scan, copy: Scan, mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    if not mask.any():
        return None
    return float(np.median(_values(original, mask))), float(np.median(_values(copy, mask)))


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
