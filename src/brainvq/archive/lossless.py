"""Lossless files: what the reconstruction misses of the very pixels is stored beside the codes.

Decoders of two machines differ in the last digits, so the reconstruction is computed in float64 and rounded as the file
says (`codec/lossless/`); the pixels have a hash, and others than those that were packed are never given back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq.codec.bitstream import Bitstream, Group
from brainvq.codec.entropy import EntropyModel
from brainvq.codec.header import Item
from brainvq.codec.lossless.coder import SPAN, unpack
from brainvq.codec.lossless.rounding import FARTHEST
from brainvq.codec.writer import Pixels
from brainvq.data.scan import Scan
from brainvq.data.transforms import Frame
from brainvq.errors import InputError
from brainvq.pipeline import Encoded, Pipeline

REMEDY = "Compress it without --lossless."


def pixels_of(scan: Scan, encoded: Encoded, pipeline: Pipeline) -> Pixels:
    """The very pixels of a scan, slice by slice, and what its codes are decoded to.

    Raises:
        InputError: they are not whole numbers of a range that a lossless file takes.
    """
    voxels = encoded.frame.cut(scan.voxels)
    low, high = (float(end) if voxels.dtype.kind == "f" else int(end) for end in (voxels.min(), voxels.max()))
    if high - low >= SPAN or max(-low, high) > FARTHEST:
        raise InputError(
            f"{scan.name}: has values from {low:,} to {high:,}; lossless are those that span less than {SPAN:,} (16 "
            f"bits) and lie within 2^53 of zero. {REMEDY}"
        )
    values = voxels.astype(np.int64)
    if not _same(values.astype(voxels.dtype), voxels):
        raise InputError(f"{scan.name}: has values that are no whole numbers; lossless are those alone. {REMEDY}")
    return Pixels(values, pipeline.unrounded(encoded.codes, encoded.frame, scan.name))


def values_of(
    group: Group, file: Bitstream, frames: list[Frame], pipeline: Pipeline, model: EntropyModel
) -> NDArray[np.int64]:
    """(slices, *S) pixels of a group.

    Raises:
        InputError: it does not hold them.
    """
    codes = file.codes(group, model)
    predicted, start, end = [], group.first, group.first + group.count
    while start < end:
        number = file.item_of(start)
        item, stop = file.items[number], min(end, int(file.starts[number + 1]))
        part = torch.from_numpy(codes[start - group.first : stop - group.first])
        levels = pipeline.spec.unflatten(part, item.size)
        predicted.append(pipeline.unrounded(levels, frames[number], item.name))
        start = stop
    if len({one.shape[1:] for one in predicted}) > 1:
        raise InputError("it holds slices of several sizes")
    return unpack(group.pixels, np.concatenate(predicted))


def scan_of(values: NDArray[np.int64], frame: Frame, item: Item) -> Scan:
    """The scan of these pixels, (slices, *S).

    Raises:
        InputError: they are beyond its dtype, as only a stranger's file has them.
    """
    voxels = np.empty(frame.shape, frame.dtype)
    frame.cut(voxels)[:] = values.astype(voxels.dtype)
    if not np.array_equal(frame.cut(voxels).astype(np.int64), values):
        raise InputError(f"{item.name}: its pixels are beyond {frame.dtype}")
    affine = None if frame.affine is None else np.array(frame.affine, np.float64)
    return Scan(voxels, affine, item.subject, item.name, frame.storage)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """To the bit, but for which NaN: there is none."""
    return np.array_equal(one, other) and (one.dtype.kind != "f" or np.array_equal(np.signbit(one), np.signbit(other)))
