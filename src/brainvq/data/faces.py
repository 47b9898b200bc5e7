"""Whether a volume of a head still shows a face: a rule of thumb, to ask before data are given away, and no proof.

Between 110 and 150 mm below the highest point of the head lie nose, cheeks and mouth in front, cerebellum, brainstem
and neck behind. Of the head there (`head.py`), the front third of its length holds more than a fifth of every section
where there is a face, and next to nothing where the brain was cut out or the face cut off. At least two centimetres of
these must be in the picture. The limit was set on five real volumes, of which one shows a face.

Not seen are faces that were blurred or replaced (which are not theirs), ears, and volumes whose affine is wrong.
"""

import numpy as np
from numpy.typing import NDArray

LEVELS = 110, 150  # mm below the top of the head
UPPER = 90  # mm below the top, above the face: where the length of the head is measured
LEAST_SEEN = 20  # mm of the levels
SHARE = 0.2  # of a section, in its front third


def shows_face(head: NDArray[np.bool_], up: float) -> bool:
    """`head`: the mask as axial slices (upwards, right, front), `up` mm apart."""
    return front_share(head, up) > SHARE


def front_share(head: NDArray[np.bool_], up: float) -> float:
    """Median share of the front third in the sections at the levels of the face; 0 where these are not in view."""
    shown = np.flatnonzero(head.any(axis=(1, 2)))
    top = int(shown[-1]) if shown.size else 0
    face = head[max(0, top - round(LEVELS[1] / up)) : max(0, top - round(LEVELS[0] / up) + 1)]
    if len(face) * up < LEAST_SEEN:
        return 0.0
    front = np.flatnonzero(head[max(0, top - round(UPPER / up)) :].any(axis=(0, 1)))
    third = int(front[-1] - (front[-1] - front[0]) / 3)
    return float(np.median(face[:, :, third:].sum(axis=(1, 2)) / np.maximum(face.sum(axis=(1, 2)), 1)))
