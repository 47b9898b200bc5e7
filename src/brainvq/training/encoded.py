"""A split of images as codes: what a prior learns from. Encoded once for each tokenizer and data set, then kept.

The file is keyed by the hash of the tokenizer's weights and the fingerprint of the data, so that neither can change
unseen.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import Codes
from brainvq.data.cache import cache_folder, make_cache_folder
from brainvq.data.loader import Cache
from brainvq.models import Model
from brainvq.tokenizers.base import Tokenizer
from brainvq.training.variants import mirrored_axis, varied
from brainvq.writing import atomic

FORMAT = 1
BATCH = 32
MIRRORED = {None: "", -1: "m", -2: "l"}
"""By axis, in the names of what is kept of variants."""
Progress = Callable[[int, int], None]


class EncodedSplit:
    """The codes of every image of a split.

    `codes`: each level (N, *grid), of the smallest type that holds its entries. `subjects`: one an image.
    `fingerprint`: of the images. `orders`: for each level the entries that occur, from the one under whose codes the
    pixels are darkest on average to the brightest, LongTensor (live entries,).
    """

    def __init__(self, tensors: dict[str, Tensor], cache: Cache, device: torch.device) -> None:
        levels = range(len(tensors) // 2)
        self.codes = tuple(tensors[f"codes_{level}"] for level in levels)
        self.orders = tuple(tensors[f"order_{level}"] for level in levels)
        self.subjects, self.fingerprint, self.size, self.device = cache.subjects, cache.fingerprint, cache.size, device

    def __len__(self) -> int:
        return len(self.subjects)

    def batch(self, indices: Tensor | NDArray[np.int64] | Sequence[int]) -> Codes:
        """Each level (B, *grid) int64 on `device`."""
        picks = torch.as_tensor(indices, dtype=torch.int64)
        return tuple(code.index_select(0, picks).to(self.device, torch.int64) for code in self.codes)

    def batches(self, size: int = 256) -> list[NDArray[np.int64]]:
        """Indices that go through the whole split once."""
        return np.split(np.arange(len(self)), range(size, len(self), size))


def encode_split(model: Model, cache: Cache, progress: Progress | None = None, *, variant: int = 0) -> EncodedSplit:
    """All images of `cache` as codes of `model`, in float32; from the cache on the disk where they are there.

    `variant`: of the images, as `variants.py` has them; 0 for themselves.

    Raises:
        InputError: the images' size does not fit the tokenizer, or the cache cannot be written.
    """
    device, mirrored = model.tokenizer.device, mirrored_axis(model.config) if variant else None
    kind = f"-v{variant}{MIRRORED[mirrored]}" if variant else ""
    name = f"{model.weights_sha256[:40]}-{cache.fingerprint[:40]}{kind}-{FORMAT}"
    path = cache_folder() / "codes" / f"{name}.safetensors"
    tensors = _stored(path)
    if tensors is None:
        tensors = _encode(model.tokenizer, cache, progress or (lambda done, count: None), variant, mirrored)
        make_cache_folder()
        path.parent.mkdir(exist_ok=True)
        with atomic(path) as file:
            file.write(save(tensors, {"checksum": _checksum(tensors)}))
    return EncodedSplit(tensors, cache, device)


@torch.no_grad()
def _encode(
    tokenizer: Tokenizer, cache: Cache, progress: Progress, variant: int, mirrored: int | None
) -> dict[str, Tensor]:
    tokenizer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = tokenizer.spec
    found: list[list[Tensor]] = [[] for _ in spec.entries]
    greys = [torch.zeros(entries, dtype=torch.float64) for entries in spec.entries]
    counts = [torch.zeros(entries, dtype=torch.float64) for entries in spec.entries]
    for start in range(0, len(cache), BATCH):
        part = slice(start, min(start + BATCH, len(cache)))
        x = varied(cache.batch(np.arange(part.start, part.stop)), cache.subjects[part], variant, mirrored)
        for level, code in enumerate(tokenizer.encode(x)):
            under = F.interpolate(x, size=code.shape[1:], mode="area").flatten().cpu().double()
            flat = code.flatten().cpu()
            greys[level].index_add_(0, flat, under)
            counts[level] += torch.bincount(flat, minlength=len(counts[level]))
            found[level].append(code.cpu().to(_smallest(spec.entries[level])))
        progress(min(start + BATCH, len(cache)), len(cache))
    tensors: dict[str, Tensor] = {}
    for level, (grey, count) in enumerate(zip(greys, counts, strict=True)):
        live = count.nonzero().flatten()
        tensors[f"codes_{level}"] = torch.cat(found[level])
        tensors[f"order_{level}"] = live[torch.argsort((grey / count)[live], stable=True)]
    return tensors


def _smallest(entries: int) -> torch.dtype:
    return torch.uint8 if entries <= 1 << 8 else torch.int16 if entries <= 1 << 15 else torch.int32


def _stored(path: Path) -> dict[str, Tensor] | None:
    """None where there is no file, or it is damaged."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, Any] = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return tensors if metadata.get("checksum") == _checksum(tensors) else None


def _checksum(tensors: dict[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().numpy().data, zlib.crc32(name.encode(), value))
    return str(value)
