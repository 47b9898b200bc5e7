"""What is kept of a scan once it was read in full: a few numbers that tell what is wrong, alone and beside others.

A look is small, holds no pixel and names nobody, so that `look_cache.py` may remember it. What to make of it is decided
in `check/`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.cache import to_levels
from brainvq.data.faces import shows_face
from brainvq.data.labels import Evidence, evidence
from brainvq.data.planes import AXES, Plane, as_slices, orientation_of, spacing_along, spacing_of
from brainvq.data.scan import Scan, Storage
from brainvq.data.windows import LEVELS_8, LEVELS_16
from brainvq.head import head_in_volume, head_mask

THICK = 0.8  # of the largest spacing: along such an axis slices may have been taken one by one
FAINTEST = 1000  # the largest factor that is told, as of a black slice


@dataclass(frozen=True)
class Tone:
    """Of a picture, as a model sees it. `total`, `squares`: sums of its `levels`, 0..255 or 0..65535, and of their
    squares; `brightness`: mean inside the head mask, 0..1, 0 where there is no head; `head`: pixels of that mask."""

    levels: int
    total: int
    squares: int
    brightness: float
    head: int


@dataclass(frozen=True)
class Jump:
    """Between the slices `index` and `index` + 1 of a plane, counted as `Slicing` counts, the brightness of the head
    changes by the factor `ratio` >= 1 more than it does around them. Slices with less than half of the largest head,
    as at the vertex, are not compared."""

    plane: Plane
    index: int
    ratio: float


@dataclass(frozen=True)
class Space:
    """Of a volume. `affine`: 4x4, voxel -> mm in RAS+; `jump`: the largest between neighbouring slices, None where no
    two show enough of the head; `face`: whether one can be seen (`faces.py`)."""

    affine: tuple[tuple[float, ...], ...]
    storage: Storage
    jump: Jump | None
    face: bool

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array."""
        return np.array(self.affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxels to the right, to the front and to the top, along the nearest axes of the file."""
        return spacing_along(self.matrix)

    @property
    def orientation(self) -> str:
        """Where the axes of the file lead: "LAS" is to the left, to the front, to the top."""
        return orientation_of(self.matrix)

    @property
    def tilt(self) -> float:
        """Degrees by which the axes are off right angles, at most: of a tilted gantry."""
        axes = self.matrix[:3, :3] / spacing_of(self.matrix)
        between = np.abs(axes.T @ axes)[np.triu_indices(3, 1)].max()
        return float(np.degrees(np.arcsin(min(1.0, between))))

    @property
    def sides_known(self) -> bool:
        """Whether the file itself says which side is left: Analyze has no field for it, NIfTI codes that may be 0."""
        coded = self.storage.qform > 0 or self.storage.sform > 0
        return self.storage.format == "dicom" or (self.storage.format != "analyze" and coded)


@dataclass(frozen=True)
class Look:
    """`shape` (H, W) or (X, Y, Z) of the file; `low`, `high`: its values, scaled where the file says so; `digest`: of
    type, shape and voxels; `labels`: whether it may be a label map. `tone`: of a picture, `space`: of a volume."""

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    digest: str
    labels: Evidence
    tone: Tone | None
    space: Space | None

    @property
    def constant(self) -> bool:
        return self.low == self.high

    @property
    def size(self) -> str:
        """Height x width of a picture, the sides of a volume in the order of its file."""
        return " x ".join(map(str, self.shape))


def look(scan: Scan) -> Look:
    """The numbers of one scan."""
    voxels, storage = scan.voxels, scan.storage or Storage("nifti1")
    return Look(
        shape=voxels.shape,
        dtype=voxels.dtype.name,
        low=storage.slope * float(voxels.min()) + storage.intercept,
        high=storage.slope * float(voxels.max()) + storage.intercept,
        digest=_digest(voxels),
        labels=evidence(voxels),
        tone=_tone(voxels) if scan.affine is None else None,
        space=None if scan.affine is None else _space(voxels, scan.affine, storage),
    )


def _digest(voxels: NDArray[Any]) -> str:
    """SHA-256, of a volume with its first axis fastest, as it lies in memory."""
    flat = np.ascontiguousarray(voxels.T if voxels.ndim == 3 else voxels)
    whole = hashlib.sha256(f"{voxels.dtype} {voxels.shape} ".encode())
    whole.update(flat.data)
    return whole.hexdigest()


def _tone(voxels: NDArray[Any]) -> Tone:
    most = LEVELS_8 if voxels.dtype == np.uint8 else LEVELS_16
    levels = to_levels(voxels, most)
    head = head_mask((levels >> (most.bit_length() - 8)).astype(np.uint8)[None])[0]
    wide = levels.astype(np.int64)
    return Tone(
        levels=most,
        total=int(wide.sum()),
        squares=int((wide * wide).sum()),
        brightness=float(wide[head].mean()) / most if head.any() else 0.0,
        head=int(head.sum()),
    )


def _space(voxels: NDArray[Any], affine: NDArray[np.float64], storage: Storage) -> Space:
    head = head_in_volume(voxels, spacing_of(affine))
    return Space(
        affine=tuple(tuple(row) for row in affine.tolist()),
        storage=storage,
        jump=_jump(voxels, head, affine),
        face=shows_face(as_slices(head, affine, "axial"), spacing_along(affine)[2]),
    )


def _jump(voxels: NDArray[Any], head: NDArray[np.bool_], affine: NDArray[np.float64]) -> Jump | None:
    """In any plane whose slices may have been taken one by one."""
    lengths = spacing_along(affine)
    above = np.where(head, voxels.astype(np.float32) - np.float32(min(0, voxels.min())), 0)
    found = []
    for plane, axis in AXES.items():
        if lengths[axis] < THICK * max(lengths):
            continue
        area = as_slices(head, affine, plane).sum(axis=(1, 2))
        total = as_slices(above, affine, plane).sum(axis=(1, 2), dtype=np.float64)
        told = np.flatnonzero(2 * area >= max(area.max(), 1))
        if len(told) > 1:
            start, stop = int(told[0]), int(told[-1]) + 1
            at, ratio = largest_jump(total[start:stop] / np.maximum(area[start:stop], 1))
            found.append(Jump(plane, start + at, ratio))
    return max(found, key=lambda jump: jump.ratio, default=None)


def largest_jump(brightness: NDArray[np.float64]) -> tuple[int, float]:
    """Of neighbours (n >= 2): after which one, and by what factor >= 1, apart from what anatomy does.

    Anatomy changes the mean steadily, most at the ends; what counts is by how much a step differs from the median of
    itself and the steps before and after. So the first and the last step count for nothing.
    """
    logs = np.log(np.maximum(brightness, (brightness.max() or 1.0) / FAINTEST))
    steps = np.diff(logs)
    around = np.stack([np.roll(steps, 1), steps, np.roll(steps, -1)])
    around[:, [0, -1]] = steps[[0, -1]]
    odd = np.minimum(np.abs(steps), np.abs(steps - np.median(around, axis=0)))
    at = int(odd.argmax())
    return at, float(np.exp(odd[at]))
