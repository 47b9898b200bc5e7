"""Batches for training and evaluation, from decoded images: an epoch never decodes an image again.

The order of the data is a pure function of seed and step, so that a resumed run, or one on more processes, sees the
same batches. Images stay 8 (or 16) bit until their batch is asked for, on the training device itself where they fit.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from brainvq.data.cache import Facts, Images, Progress, open_images
from brainvq.data.slicing import AS_IT_IS, Slicing
from brainvq.data.sources import Source
from brainvq.data.transforms import pad, padding_for, scale
from brainvq.data.windows import LEVELS_8
from brainvq.errors import InputError

SHARE = 0.25  # of a device's free memory that the images may take


class Cache:
    """Decoded images of a source: its files, or slices of its volumes.

    `images` (N, H, W): uint8, or uint16 where any file is not 8 bit; 0 is -1 and the largest level is 1 for the model.
    `names`, `subjects`: one a image; a slice of a volume is called NAME:INDEX. `mean`, `variance`: of all pixels in
    [-1, 1], without padding to `multiple`, exact.
    """

    def __init__(self, source: Source, opened: Images, multiple: tuple[int, int], device: torch.device) -> None:
        images, facts = opened.array, opened.facts
        self.images, self.device, self.levels = images, device, facts.levels
        self.names = [item.name for item in source.items]
        self.subjects = [item.subject for item in source.items]
        if opened.places is not None:
            volumes = opened.places[:, 0].tolist()
            self.names = [f"{self.names[n]}:{k}" for n, k in zip(volumes, opened.places[:, 1].tolist(), strict=True)]
            self.subjects = [self.subjects[n] for n in volumes]
        self.root, self.fingerprint = Path(source.root), source.fingerprint
        self.padding = padding_for(images.shape[1:], multiple)
        # torch's uint16 lacks most operations: int16 of the same bits, put right in `batch`
        host = torch.from_numpy(images if self.levels == LEVELS_8 else images.view(np.int16))
        self.held = host.to(device) if _fits(host, device) else host
        self.mean, self.variance = _moments(facts)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of a batch, padding included."""
        (_, below), (_, right) = self.padding
        return self.images.shape[1] + below, self.images.shape[2] + right

    def batch(self, indices: Tensor | NDArray[np.int64] | Sequence[int]) -> Tensor:
        """x (B, 1, H, W) float32 in [-1, 1] on `device`, padded at the end to `multiple` with -1."""
        picks = torch.as_tensor(indices, dtype=torch.int64, device=self.held.device)
        levels = self.held.index_select(0, picks).to(self.device)
        if self.levels != LEVELS_8:
            levels = levels.to(torch.int32).bitwise_and_(0xFFFF)
        return pad(scale(levels, self.levels)[:, None], self.padding)


def open_cache(
    source: Source,
    *,
    multiple: tuple[int, int] = (1, 1),
    slicing: Slicing = AS_IT_IS,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Cache:
    """The decoded images of `source`, built on first use; see `cache.py`.

    Raises InputError for an image that cannot be read, for mixed sizes, or where the cache cannot be written.
    """
    if not len(source):
        raise InputError(f"{source.root}: no images to load.")
    return Cache(source, open_images(source, slicing, progress), multiple, torch.device(device))


def order(n: int, batch: int, seed: int, step: int) -> NDArray[np.int64]:
    """Indices (batch,) of the global batch at `step` among `n` images.

    Epochs are seeded permutations laid end to end, and batches run across their borders: in every n consecutive draws
    from an epoch's start each index occurs once. A pure function of its arguments.
    """
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epochs, places = positions // n, positions % n
    indices = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        indices[epochs == epoch] = _permutation(n, seed, int(epoch))[places[epochs == epoch]]
    return indices


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Ranks of a raw counter-based stream (Philox; Salmon et al., 2011): NumPy keeps raw streams the same for ever, and
    says of `Generator.permutation` that it may change."""
    words = np.random.Philox(key=((seed % (1 << 64)) << 64) | epoch).random_raw(n)
    return np.argsort(words, kind="stable")


def _moments(facts: Facts) -> tuple[float, float]:
    """Mean and variance on [-1, 1] from integer sums: one rounding, at the division."""
    count = facts.shape[0] * facts.shape[1] * facts.shape[2]
    mean = (2 * facts.total - count * facts.levels) / (count * facts.levels)
    variance = 4 * (count * facts.squares - facts.total**2) / (count * facts.levels) ** 2
    return mean, variance


def _fits(images: Tensor, device: torch.device) -> bool:
    """On the CPU the map onto the file serves as it is: the system holds it in memory, once for all processes."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return images.nbytes < SHARE * free
    if device.type == "mps":
        return images.nbytes < SHARE * torch.mps.recommended_max_memory()
    return True
