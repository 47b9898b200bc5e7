"""The average head that the embedded cohort deforms, as three fields in millimetres.

nilearn carries the skull-stripped MNI152 T1 template with its grey- and white-matter probabilities inside its package,
so nothing is downloaded. Three questions are answered once for a whole cohort: which tissue is where, how far is the
brain's hull, which way do ventricle walls move. Source: Fonov, Evans, McKinstry, Almli and Collins, "Unbiased nonlinear
average age-appropriate brain templates from birth to adulthood", NeuroImage 47, 2009. Deviation: T1 and probabilities
are merged into one tissue level, because grey-matter probability alone paints a false rim around the ventricles.
"""

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from brainvq.data.fields import Field, single
from brainvq.errors import InputError

LOWEST, HIGHEST = -50.0, 80.0  # millimetres of template z that a slab of any allowed thickness can reach
COARSE = 2  # hull and ventricle walls are smooth: they are kept at 2 mm
PADDING = 24  # millimetres around the template, so that the scalp and the air have a distance too
T1_LANDMARKS = (0.32, 0.655, 0.87)  # median T1 of cerebrospinal fluid, grey and white matter in the template


@dataclass(frozen=True)
class Template:
    """Fields over the MNI152 space, axes (x, y, z), index = (millimetres - origin) / spacing.

    `tissue` (X, Y, Z) at 1 mm: 0 cerebrospinal fluid, 1 grey matter, 2 white matter, in between at borders.
    `hull` at 2 mm: signed distance to the smooth outside of the brain in mm, negative inside.
    `walls` at 2 mm: signed distance to the walls of the ventricles, negative inside. `outwards` (3, ...): its gradient.
    """

    tissue: Field
    hull: Field
    walls: Field
    outwards: Field
    origin: tuple[float, float, float]

    def sample(self, field: Field, millimetres: list[Field]) -> Field:
        """Values (K, R, C) of a field at template coordinates: a list x, y, z of (K, R, C), trilinear."""
        spacing = 1 if field.shape == self.tissue.shape else COARSE
        at = np.stack([(p - o) / spacing for p, o in zip(millimetres, self.origin, strict=True)])
        return single(ndimage.map_coordinates(field, at, order=1, mode="nearest", output=np.float32))


def _folder() -> Path:
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "The cohort is made from templates inside nilearn, which is not installed: pip install nilearn."
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _volume(kind: str) -> tuple[Field, tuple[float, float, float]]:
    path = _folder() / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        raise InputError(
            f"{path} is missing: this nilearn has no MNI152 {kind} template; install nilearn 0.12 or later."
        )
    image = nib.nifti1.Nifti1Image.from_filename(path)
    x, y, z = (float(v) for v in image.affine[:3, 3])
    slab = slice(round(LOWEST - z), round(HIGHEST - z))
    voxels = np.asarray(image.dataobj)[:, :, slab].astype(np.float32) / 255
    return np.pad(voxels, ((PADDING, PADDING), (PADDING, PADDING), (0, 0))), (x - PADDING, y - PADDING, LOWEST)


def _signed_distance(mask: NDArray[np.bool_]) -> Field:
    """Millimetres to the border of a mask on the coarse grid, negative inside."""
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    return single((outside - inside) * COARSE)


def _hull(brain: NDArray[np.bool_]) -> Field:
    """Signed distance to the brain closed over its sulci, which is where dura and skull lie."""
    closing = 10.0
    closed = _signed_distance(_signed_distance(brain) < closing) < -closing
    return single(ndimage.gaussian_filter(_signed_distance(closed | brain), 3.0))


def _walls(fluid: Field, hull: Field) -> Field:
    """Signed distance to inner fluid spaces: ventricles and cisterns, not sulci."""
    pieces, _ = ndimage.label((fluid > 0.5) & (hull < -22))
    sizes = np.bincount(pieces.ravel())[1:]
    inner = np.isin(pieces, 1 + np.flatnonzero(sizes >= 40))
    return single(ndimage.gaussian_filter(_signed_distance(inner), 0.7))


@lru_cache(maxsize=1)
def load_template() -> Template:
    """The MNI152 2009a symmetric template of the installed nilearn. Raises InputError when it is not there."""
    (t1, origin), (grey, _), (white, _) = (_volume(kind) for kind in ("t1", "gm", "wm"))
    by_t1 = np.interp(t1, T1_LANDMARKS, (0.0, 1.0, 2.0))
    tissue = single(0.6 * by_t1 + 0.4 * np.clip(grey + 2 * white, 0, 2))
    coarse = (slice(None, None, COARSE),) * 3
    hull = _hull((t1 > 0)[coarse])
    fluid = single(np.where(t1 > 0, np.clip(1 - tissue, 0, 1), 0)[coarse])
    walls = _walls(fluid, hull)
    return Template(tissue, hull, walls, single(np.gradient(walls, COARSE)), origin)
