"""A volume as a stack of slices, whatever way its file stores the axes.

Files differ in the order and direction of their axes; the affine says which. Here a volume is turned to the canonical
orientation (first axis to the right, second to the front, third to the top: RAS+), and cut along one of its axes.
Nothing is interpolated: a slice of an oblique volume lies along the file's own axes, those nearest to the canonical
ones. An axial slice has its rows towards the right and its columns towards the front: a head lies on its side, as in
the OASIS slices, so that weights trained there serve here.
"""

# mypy: allow-untyped-calls

from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from brainvq.errors import InputError

Plane = Literal["axial", "coronal", "sagittal"]
THICK = 2  # times the next largest spacing: no scanner of volumes does that
AXES: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}


def as_slices(voxels: NDArray[Any], affine: NDArray[np.float64], plane: Plane) -> NDArray[Any]:
    """(X, Y, Z) in the file's order -> (slices, H, W), a view: what is written into it is written into `voxels`.

    Slices ascend to the right, to the front or to the top; H and W are the other two axes in that order.

    Raises:
        InputError: the affine does not tell three axes apart.
    """
    turns = nib.orientations.io_orientation(affine)
    if voxels.ndim != 3 or turns.shape != (3, 2) or np.isnan(turns).any():
        raise InputError(f"an affine of {affine.tolist()} orients no volume of {voxels.ndim} axes.")
    canonical = nib.orientations.apply_orientation(voxels, turns)
    return np.moveaxis(canonical, AXES[plane], 0)


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Millimetres between voxels along each axis of the file."""
    x, y, z = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def spacing_along(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Millimetres between slices to the right, to the front and to the top."""
    axes = nib.orientations.io_orientation(affine)[:, 0].astype(int)
    x, y, z = (length for _, length in sorted(zip(axes, spacing_of(affine), strict=True)))
    return x, y, z


def acquired_in(affine: NDArray[np.float64]) -> Plane | None:
    """The plane in whose slices a volume was acquired, where these lie much farther apart than their pixels."""
    lengths = spacing_along(affine)
    return next((plane for plane, axis in AXES.items() if lengths[axis] >= THICK * sorted(lengths)[1]), None)


def orientation_of(affine: NDArray[np.float64]) -> str:
    """Where the axes of the file lead: "LAS" is to the left, to the front, to the top."""
    return "".join(nib.orientations.aff2axcodes(affine))
