"""The nearest entry of a codebook, up to ties within float32's rounding, without a table of all distances.

`_Plain` computes |z - e|^2 = |z|^2 - 2 z.e + |e|^2 in float32, where |z|^2 is the same for every entry. `_Screen` is
faster on a CPU for more than a few entries: it rules most of them out in few bits and compares what is left exactly.

1. Vectors and entries are rounded to bfloat16, which processors multiply several times faster. That moves a vector by
   r_z and an entry by at most r_e, both known. So if the nearest rounded entry is d away from the rounded vector, the
   nearest entry proper, when rounded, is at most d + 2 (r_z + r_e) away: whatever is further is out.
2. q = |z - e|^2 / 2 = |z|^2 / 2 + |e|^2 / 2 - z.e of the rounded ones is one product of matrices: the halves are six
   more columns, each number split into three bfloat16. Summing some D products in float32, there and for the norms,
   puts q off by less than (D + 8) 2^-23 s^2 with s = |z| + max |e|. As much is added, so that q is not negative and its
   bits order as integers do. Stored in bfloat16 it is off by another half of `eps`, relatively.
3. Halving finds the least q of blocks of entries (in integers, twice as fast); only blocks within the bound are looked
   into. Among up to FEW entries the distances proper decide, from differences in float32. A vector for which more
   are left, or one that is not finite, is searched plainly.

So a code depends on its vector alone, up to ties within rounding. The scores of a chunk stay in the processor's cache,
and none are kept. Both ways start from the codebook's mean, or an offset common to all entries would drown their
differences in rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

SCORES = 2**21  # computed at once
ROWS = 2**13  # vectors searched at once
SMALL = 256  # entries below which the plain search is as fast
FEW = 8
_screened = ContextVar("screened", default=True)


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest entry, Euclidean: vectors (N, D), codebook (K, D) -> LongTensor (N,)."""
    with torch.autocast(vectors.device.type, enabled=False):
        codebook = codebook.float()
        screened = codebook.is_cpu and len(codebook) >= SMALL and _screened.get()
        search = _Screen(codebook) if screened else _Plain(codebook)
        return torch.cat([search(part.float()) for part in torch.split(vectors, ROWS)])


@contextmanager
def plain() -> Iterator[None]:
    """Inside, every search is the plain one, whose work does not depend on the vectors: to count it."""
    token = _screened.set(False)
    try:
        yield
    finally:
        _screened.reset(token)


class _Plain:
    def __init__(self, codebook: Tensor) -> None:
        self.mean = codebook.mean(0)
        self.entries = codebook - self.mean
        self.half_norms = self.entries.square().sum(1) / 2

    def __call__(self, vectors: Tensor) -> Tensor:
        parts = torch.split(vectors - self.mean, max(1, SCORES // len(self.entries)))
        return torch.cat([torch.addmm(self.half_norms, part, self.entries.T, alpha=-1).argmin(1) for part in parts])


class _Screen:
    """In float32 where bfloat16 is not native: halving alone is faster than an argmin."""

    def __init__(self, codebook: Tensor) -> None:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        self.dtype, self.bits = (torch.bfloat16, torch.int16) if native else (torch.float32, torch.int32)
        self.rounding = 1 + 0.51 * torch.finfo(self.dtype).eps + 2**-20
        self.slack = 2**-23 * (codebook.shape[1] + 8)
        self.codebook, self.plain = codebook, _Plain(codebook)
        self.halvings = (len(codebook).bit_length() - 1) // 2
        entries, moved, norms = self._rounded(self.plain.entries)
        self.moved, self.reach = moved.max(), norms.max()
        entries[:, :-6].neg_()
        entries[:, -6:-3] = self._split(norms.square() / 2)
        entries[:, -3:] = 1
        padding = entries.new_zeros(-len(codebook) % 2**self.halvings, entries.shape[1])
        padding[:, -6] = torch.inf
        self.entries = torch.cat([entries, padding])

    def __call__(self, vectors: Tensor) -> Tensor:
        rounded, moved, norms = self._rounded(vectors - self.plain.mean)
        s = norms + self.reach
        slack = self.slack * s.square() + 2**-100  # a processor may take the smallest numbers for zero
        rounded[:, -6:-3] = 1
        rounded[:, -3:] = self._split(norms.square() / 2 + slack)
        moved = 2.02 * (moved + self.moved) + 2**-21 * s
        size = max(1, SCORES // len(self.entries))
        parts = [torch.split(each, size) for each in (rounded, moved, slack)]
        found = [self._candidates(*part) for part in zip(*parts, strict=True)]
        row = torch.cat([row + i * size for i, (row, _) in enumerate(found)])
        return self._decide(vectors, row, torch.cat([entry for _, entry in found]))

    def _candidates(self, rounded: Tensor, moved: Tensor, slack: Tensor) -> tuple[Tensor, Tensor]:
        """All pairs (row, entry) within the bound, as two LongTensors; none of some rows with more than FEW."""
        q, n = self.entries @ rounded.T, len(rounded)
        least = q.view(self.bits)
        for _ in range(self.halvings):
            least = torch.minimum(*least.chunk(2))  # in the end least[i] is that of q[i], q[i + len(least)], ...
        blocks = least.view(self.dtype).float()
        nearest = (2 * self.rounding * blocks.amin(0)).sqrt()
        limit = ((nearest + moved).square() / 2 + 2 * slack) * self.rounding
        at = _few((blocks <= limit).flatten().nonzero()[:, 0], n)
        inside = at + torch.arange(2**self.halvings)[:, None] * blocks.numel()
        near = q.flatten().index_select(0, inside.flatten()).view_as(inside) <= limit.index_select(0, at % n)
        at = _few(inside.flatten().index_select(0, near.flatten().nonzero()[:, 0]), n)
        entry = at // n
        return at - entry * n, entry

    def _decide(self, vectors: Tensor, row: Tensor, entry: Tensor) -> Tensor:
        count = torch.bincount(row, minlength=len(vectors))
        decided = (count > 0) & (count <= FEW)
        left = (~decided).nonzero()[:, 0]
        if len(left):
            row, entry = row[decided[row]], entry[decided[row]]
        difference = vectors.index_select(0, row).sub_(self.codebook.index_select(0, entry))
        distance = torch.linalg.vector_norm(difference, dim=1)
        order = distance.view(torch.int32).long() * 2**32 + entry  # by distance, then by index
        found = torch.full_like(count, 2**63 - 1).scatter_reduce_(0, row, order, "amin") % 2**32
        if len(left):
            found[left] = self.plain(vectors[left])
        return found

    def _rounded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (N, D) rounded, with six columns to fill (N, D + 6); how far that moved each; norms of the rounded."""
        wide = x.new_empty(len(x), x.shape[1] + 6, dtype=self.dtype)
        wide[:, :-6] = x
        back = wide[:, :-6].float()
        return wide, torch.linalg.vector_norm(x - back, dim=1), torch.linalg.vector_norm(back, dim=1)

    def _split(self, x: Tensor) -> Tensor:
        """x (N,) as three numbers of fewer bits that sum up to it, (N, 3)."""
        high = x.to(self.dtype)
        middle = (x - high).to(self.dtype)
        return torch.stack([high, middle, (x - high - middle).to(self.dtype)], 1)


def _few(at: Tensor, n: int) -> Tensor:
    """Positions in a table of n columns; where too many would be kept, without the columns that have more than FEW."""
    if len(at) <= FEW * n:
        return at
    column = at % n
    return at[(torch.bincount(column, minlength=n) <= FEW)[column]]
