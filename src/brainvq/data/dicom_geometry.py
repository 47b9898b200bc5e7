"""Slices in order, and the affine of the volume that they make; or why they make none.

Source: DICOM PS3.3 C.7.6.2.1.1 (equation C.7.6.2.1-1). Order and distance come from the positions of the slices,
never from names, instance numbers or slice thickness. Slices that shift evenly within their plane (a tilted gantry)
give a sheared affine: nothing is resampled.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from brainvq.data.dicom_guard import Refused
from brainvq.data.dicom_header import Frame

FEWEST = 3  # slices of a volume
SAME_PLACE = 1e-3  # mm
UNEVEN = 0.05  # of the distance of slices: files may round positions; a slice that is missing shifts by half or more
ALIKE = 1e-3  # of direction cosines, and relatively of spacing
STEEPEST = 2.0  # mm from slice to slice for each mm across them: 60 degrees of tilt
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def depths(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Of each slice, in mm along the normal of the first: columns x rows, so that a volume is right-handed."""
    return np.array([frame.position for frame in frames]) @ _normal(frames[0])


def places(frames: Sequence[Frame]) -> int:
    """How many different places the slices lie at."""
    return 1 + int((np.diff(np.sort(depths(frames))) > SAME_PLACE).sum())


def arrange(frames: Sequence[Frame]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The order of the slices by position, and the affine (column, row, slice) -> mm in RAS+. Raises Refused."""
    if len(frames) == 1:
        raise Refused(f"one slice; a volume has {FEWEST} or more. Give the folder that holds all slices.")
    if len(frames) < FEWEST:
        raise Refused(f"{len(frames)} slices; a volume has {FEWEST} or more. Add the missing ones or remove it.")
    if _range([frame.orientation for frame in frames]) > ALIKE:
        raise Refused("its slices lie at angles to each other (a localiser?). Give each direction by itself.")
    if _range(np.log([frame.spacing for frame in frames])) > ALIKE:
        raise Refused("its slices have pixels of different size. Give each size by itself.")
    if places(frames) < len(frames):
        raise Refused(
            f"slices: {len(frames)}, positions: {places(frames)} (echoes, phases or time points?). Give one of them by"
            " itself."
        )
    order = np.argsort(depths(frames))
    positions = np.array([frames[n].position for n in order])
    step = (positions[-1] - positions[0]) / (len(frames) - 1)
    _check_even(positions, step, _normal(frames[0]))
    return order, _affine(frames[order[0]], step)


def _normal(frame: Frame) -> NDArray[np.float64]:
    return np.cross(frame.orientation[:3], frame.orientation[3:])


def _range(values: object) -> float:
    return float(np.ptp(np.asarray(values, dtype=np.float64), axis=0).max())


def _check_even(positions: NDArray[np.float64], step: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    off = np.linalg.norm(positions - (positions[0] + np.arange(len(positions))[:, None] * step), axis=1)  # mm
    if off.max() > UNEVEN * usual:
        at = int(np.abs(gaps - usual).argmax())
        missing = round(float(gaps[at]) / usual) - 1
        if missing > 0:
            which = f"{missing} slice{'s are' if missing > 1 else ' is'} missing"
            raise Refused(
                f"{which} between the {at + 1}. and the {at + 2}. by position, {gaps[at]:.2f} mm apart where others are"
                f" {usual:.2f}. Add them or remove the series."
            )
        raise Refused(
            f"its slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart and lie up to {off.max():.2f} mm off an even"
            " stack. Resample it to an even one with another tool."
        )
    if np.linalg.norm(step) > STEEPEST * (step @ normal):
        raise Refused("its slices are tilted by more than 60 degrees. Resample it with another tool.")


def _affine(first: Frame, step: NDArray[np.float64]) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, 0] = np.multiply(first.orientation[:3], first.spacing[1])
    affine[:3, 1] = np.multiply(first.orientation[3:], first.spacing[0])
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return np.asarray(LPS_TO_RAS @ affine) + 0.0  # no negative zeros
