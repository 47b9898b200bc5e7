"""A head of eleven ellipses for diagrams, in the manner of L. Shepp and B. Logan, The Fourier reconstruction of a head
section, 1974; grey levels and ventricles are our own, those of a T1-weighted slice."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def head(pixels: int) -> NDArray[np.float64]:
    """(pixels, pixels) in [0, 1]: scalp, skull, brain, ventricles, as ellipses."""
    y, x = np.mgrid[1 : -1 : pixels * 1j, -1 : 1 : pixels * 1j]
    image = np.zeros((pixels, pixels))
    for value, cx, cy, rx, ry, turn in _ELLIPSES:
        c, s = math.cos(turn), math.sin(turn)
        u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
        image[(u / rx) ** 2 + (v / ry) ** 2 < 1] = value
    return image


_ELLIPSES = (  # grey level, centre, radii, turn; later ones lie on top
    (0.95, 0.0, 0.0, 0.70, 0.88, 0.0),
    (0.12, 0.0, 0.0, 0.65, 0.83, 0.0),
    (0.52, 0.0, 0.0, 0.60, 0.78, 0.0),
    (0.72, -0.27, 0.02, 0.24, 0.60, 0.05),
    (0.72, 0.27, 0.02, 0.24, 0.60, -0.05),
    (0.45, -0.15, 0.0, 0.11, 0.20, 0.3),
    (0.45, 0.15, 0.0, 0.11, 0.20, -0.3),
    (0.10, -0.10, 0.22, 0.06, 0.22, 0.35),
    (0.10, 0.10, 0.22, 0.06, 0.22, -0.35),
    (0.10, -0.16, -0.30, 0.06, 0.20, -0.35),
    (0.10, 0.16, -0.30, 0.06, 0.20, 0.35),
)
