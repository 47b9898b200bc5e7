"""Errors as tokens with some bits besides: small ones have a token each, larger ones share one by their leading bits.

So that a table has few entries whatever the range (JPEG XL, ISO/IEC 18181-1, does likewise): 2 bits after the leading
one are in the token, and the rest are as good as random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
DIRECT = 8
"""From this size on errors share tokens."""
MIDDLE = 2 * DIRECT - 1


@dataclass(frozen=True, eq=False)
class Tokens:
    """`extra`: of each the bits besides, of which there are `width`."""

    token: Integers
    extra: Integers
    width: Integers


def tokens_of(errors: Integers) -> Tokens:
    sizes = np.abs(errors)
    width = np.maximum(np.frexp(sizes.astype(np.float64))[1].astype(np.int64) - 3, 0)
    large = sizes >= DIRECT
    place = 4 * (width - 1) + ((sizes >> width) & 3)
    token = np.where(large, MIDDLE + 2 * place + (errors < 0), errors + DIRECT - 1)
    return Tokens(token, np.where(large, sizes & ((1 << width) - 1), 0), np.where(large, width, 0))


def widths(token: Integers) -> Integers:
    """Bits besides, of each token."""
    return np.where(token < MIDDLE, 0, (token - MIDDLE) // 8 + 1)


def errors_of(token: Integers, extra: Integers) -> Integers:
    """The inverse of `tokens_of`."""
    place, width = (token - MIDDLE) // 2, widths(token)
    size = ((4 + place % 4) << width) + extra
    return np.where(token < MIDDLE, token - DIRECT + 1, np.where((token - MIDDLE) % 2, -size, size))


def count(span: int) -> int:
    """Tokens of errors from -`span` to `span`, 15 at least."""
    return max(MIDDLE, int(tokens_of(np.array([-span])).token[0]) + 1)
