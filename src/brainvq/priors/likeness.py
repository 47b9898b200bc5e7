"""What entries of a codebook have in common: features of their vectors, so that a prior treats near ones alike.

To a prior codes are names, and of a thousand names most are rare: what was learned of one says nothing of its
neighbour, though both stand for nearly the same patch. The vectors tell. Of each come its coordinates along the main
axes of the codebook and their products: weights on these make the logarithm of a Gaussian density, so that a network
can say "about here" with a few numbers, beside what it says of each entry by itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

AXES = 8
"""At most so many of the main axes of the vectors."""
FEATURES = AXES + AXES * (AXES + 1) // 2
FURTHEST = 4.0  # deviations; beyond, an entry is as far as that


def likeness(vectors: Tensor, live: Tensor) -> Tensor:
    """Vectors of entries (K, D), and those that occur (n,) -> features (K, 44), of mean 0 and deviation 1 over these.

    Entries that never occur have zeros; so has everything where there are too few to have axes.
    """
    found = torch.zeros(len(vectors), FEATURES)
    used = vectors.cpu()[live.cpu()].double()
    if len(used) < 2:
        return found
    used = used - used.mean(0)
    _, lengths, axes = torch.linalg.svd(used, full_matrices=False)
    kept = axes[:AXES][lengths[:AXES] > 1e-6 * lengths[0].clamp_min(1e-12)]
    if not len(kept):
        return found
    along = _standard(used @ kept.T)
    rows, columns = torch.triu_indices(len(kept), len(kept))
    both = torch.cat([along, _standard(along[:, rows] * along[:, columns])], dim=1)
    found[live.cpu(), : both.shape[1]] = both.float()
    return found


def _standard(x: Tensor) -> Tensor:
    """(n, F), each column of mean 0 and deviation 1, or 0 throughout."""
    x = x - x.mean(0)
    return (x / x.std(0).clamp_min(1e-9)).clamp(-FURTHEST, FURTHEST)
