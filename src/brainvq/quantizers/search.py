"""The nearest entry of a codebook, without a table of all distances.

|z - e|^2 = |z|^2 - 2 z.e + |e|^2, and |z|^2 is the same for every entry: one matrix product and one comparison for each
chunk of vectors. A chunk holds at most 2^20 scores (4 MiB), so that they stay in the processor's cache and the memory
does not grow with the number of vectors. Both sides are taken from the codebook's mean, or an offset that all entries
share would drown their differences in rounding: what is left loses at most some 1e-6 of the squared spread.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORES = 2**20


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry, Euclidean: vectors (N, D), codebook (K, D) -> LongTensor (N,). Float32 inside."""
    with torch.autocast(vectors.device.type, enabled=False):
        mean = codebook.float().mean(0)
        codebook = codebook.float() - mean
        half_norms = codebook.square().sum(1) / 2
        chunks = torch.split(vectors, max(1, SCORES // len(codebook)))
        found = [torch.addmm(half_norms, chunk.float() - mean, codebook.T, alpha=-1).argmin(1) for chunk in chunks]
    return torch.cat(found) if found else vectors.new_empty(0, dtype=torch.long)
