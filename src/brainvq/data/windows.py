"""The intensity window: which grey values of a file a model sees as [-1, 1], and the way back.

8-bit images take (0, 255) always, so that a slice is trained on, measured and written back as the same 256 levels.
Other images have no fixed scale (65,535 is the type's limit, not the scanner's), so each scan gets a window of its own.
Its low end is 0 where no value is negative (zero is air in a magnitude image), else the 0.1 percentile.

- **Slices**: the high end is the 99.9 percentile of the values above low, and each end gets a quarter of the window
  more as headroom, but never beyond the values themselves. What lies outside is clipped.
- **Volumes**: one window for all slices. The high end is the 99.9 percentile inside the head. What lies outside is
  kept: all values beyond an end share a sixteenth of the range (`reach`), so that a vessel or a marker comes back,
  coarsely, and darkens nothing.

Inside the window the way back is exact for types of up to 16 bit, and within 2^-23 of it for wider ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.head import head_in_volume

LEVELS_8, LEVELS_16 = 255, 65535  # the largest level of a cache of 8-bit images, and of any others
HEADROOM = 0.25
SHARE = 1 / 16  # of [0, 1], for all values beyond one end of the window
BLOCK = 1 << 22  # values mapped at once: a volume is large, and float64 larger
Ends = tuple[float, float]


def window_of(voxels: NDArray[Any]) -> Ends:
    """(low, high) of a slice, high > low."""
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
    return _wide(low, high)


def volume_window(voxels: NDArray[Any], spacing: tuple[float, float, float]) -> tuple[Ends, Ends | None]:
    """(low, high) of a volume (X, Y, Z), and its (least, most) where any value lies beyond, else None."""
    if voxels.dtype == np.uint8:
        return (0.0, 255.0), None
    least, most = float(voxels.min()), float(voxels.max())
    low = 0.0 if least >= 0 else float(np.percentile(voxels, 0.1))
    inside = voxels[head_in_volume(voxels, spacing)]
    inside = inside[inside > low]
    high = float(np.percentile(inside, 99.9)) if inside.size else most
    low, high = _wide(low, most if most - low <= (high - low) / (1 - SHARE) else high)
    return (low, high), (min(least, low), max(most, high)) if least < low or most > high else None


def _wide(low: float, high: float) -> Ends:
    """A constant scan gets a window of width above zero."""
    return (low, high) if high > low else (low, low + max(1.0, abs(low)))


def fraction(voxels: NDArray[Any], window: Ends, reach: Ends | None = None) -> NDArray[np.float64]:
    """Where each value lies: 0 at the least that the window holds, 1 at the most; clipped."""
    values, places = _knots(window, reach)
    return _map(voxels, values, places)


def from_fraction(fractions: NDArray[Any], window: Ends, reach: Ends | None = None) -> NDArray[np.float64]:
    """The inverse of `fraction`."""
    values, places = _knots(window, reach)
    return _map(fractions, places, values)


def _knots(window: Ends, reach: Ends | None) -> tuple[list[float], list[float]]:
    """Values, and the fractions that they map to; straight lines between."""
    (low, high), (least, most) = window, reach or window
    below, above = least < low, most > high
    values = [*([least] if below else []), low, high, *([most] if above else [])]
    places = [*([0.0] if below else []), SHARE * below, 1 - SHARE * above, *([1.0] if above else [])]
    return values, places


def _map(x: NDArray[Any], knots: list[float], targets: list[float]) -> NDArray[np.float64]:
    flat, found = np.ravel(x), np.empty(x.size, np.float64)
    for start in range(0, flat.size, BLOCK):
        found[start : start + BLOCK] = _lines(flat[start : start + BLOCK].astype(np.float64), knots, targets)
    return found.reshape(x.shape)


def _lines(x: NDArray[np.float64], knots: list[float], targets: list[float]) -> NDArray[np.float64]:
    """Each x on the line of its piece. One expression, so that a window without a reach is what it always was."""
    x = np.clip(x, knots[0], knots[-1])
    piece = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2) if len(knots) > 2 else 0
    left, first = np.take(knots, piece), np.take(targets, piece)
    width, rise = np.take(np.diff(knots), piece), np.take(np.diff(targets), piece)
    return np.asarray(first + (x - left) / width * rise)
