"""All measures of a prior: bits of the codes of unseen images, and samples held against real images.

Bits stand beside those of a histogram by position that has seen the same train codes. Whatever is measured of samples
is measured of as many real held-out images too, after they went through the same tokenizer: its blur alone moves every
similarity, so original images would be the wrong bar. The result is plain JSON (format 1). `bits.py` has the bits,
`neighbours.py` the real images and which of them come nearest; here the rest is measured, and all laid out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.data.loader import Cache
from brainvq.errors import InputError
from brainvq.evaluate_prior.bits import Advance, Range, bits_of, parts, ranges
from brainvq.evaluate_prior.heads import HEADS, heads_of, makes_heads
from brainvq.evaluate_prior.neighbours import EightBit, Pools, told
from brainvq.evaluate_prior.realistic import WORK, can_measure, realism_of
from brainvq.metrics import generation
from brainvq.metrics.definitions import GENERATION, WHOLE_HEADS
from brainvq.pipeline import Generator
from brainvq.training.encoded import EncodedSplit
from brainvq.training.labelled import LabelledSplit

FORMAT = 1
SAMPLES = 64


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The result, and what a report draws without computing it again.

    `codes`, `real_codes`: each level (n, *grid), of samples 0 .. n - 1 and of the real held-out images beside them.
    `images`, `real_images`: what they decode to, (n, H, W) uint8 without padding. `nearest`: for each sample the
    training image that `per_sample` names, at most `LOOKED` of them, (m, H, W) uint8.
    """

    result: dict[str, Any]
    codes: Codes
    images: NDArray[np.uint8]
    real_codes: Codes
    real_images: NDArray[np.uint8]
    nearest: NDArray[np.uint8]


def evaluate_prior(
    generator: Generator,
    train: EncodedSplit,
    held_out: EncodedSplit,
    train_images: Cache,
    held_out_images: Cache,
    *,
    split: str,
    model: Mapping[str, Any],
    labelled: LabelledSplit | None = None,
    n: int = SAMPLES,
    seed: int = 0,
    anonymous: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Measure a prior: bits of every held-out image, and the samples 0 .. n - 1 of the sequence of `seed`; of a prior
    that makes whole heads, the slices of its first heads, and what is measured of them counts heads, as of subjects.

    `labelled`: the held-out split with what is known of its images, for a prior that takes conditions. `model`: what
    names it in the result; `anonymous`: leave out what tells whose an image is beside its subject's alias;
    `progress(done, total)` counts images, samples and pairs of images.

    Raises:
        InputError: nothing to measure on; images or codes of another size than the prior's; a prior or a decoder that
            gives NaN.
    """
    started = time.perf_counter()
    _check(generator, train_images, held_out_images, n)
    real = generation.spread_over_subjects(held_out.subjects, min(n, len(held_out)), seed=seed)
    pools = Pools(EightBit(train_images), EightBit(held_out_images), train.subjects, held_out.subjects)
    whole = makes_heads(generator)
    looks = can_measure(n, pools, math.ceil(n / len(generator.slices)) if whole else None)
    grain = generator.pipeline.grain is not None
    total = _work(generator, train, held_out, n, len(real)) + looks * (WORK + 4 * grain + 2 * whole) * n
    advance = _counter(progress, total)
    size = held_out_images.images.shape[1:]
    bits = None
    if generator.prior.has_bound:
        labelled = labelled or LabelledSplit(held_out, torch.zeros(len(held_out), 0), previous=False)
        bits = bits_of(generator.prior, train, labelled, math.prod(size), advance)
    codes, drawn, seconds = (_heads if whole else _sample)(generator, n, seed, advance)
    heads = [f"head {i // len(generator.slices)}" for i in range(n)] if whole else None
    real_codes = held_out.batch(real)

    def shown(codes: Codes, grain: bool = True) -> NDArray[np.uint8]:
        return _decode(generator, codes, grain)[:, : size[0], : size[1]]

    drawn = drawn[:, : size[0], : size[1]]
    images, real_images = drawn[:n], shown(real_codes)
    own = [held_out.subjects[i] for i in real]
    looked, beside = (
        min(n, generation.LOOKED),
        np.linspace(0, len(real) - 1, min(len(real), generation.LOOKED)).round().astype(np.int64),
    )
    beside_own = [own[i] for i in beside]
    found = pools.nearest(
        np.concatenate([images[:looked], real_images[beside]]), beside_own, seed=seed, advance=advance
    )
    result = {
        "format": FORMAT,
        "kind": "prior",
        "split": split,
        "model": dict(model),
        **_facts(generator, train, held_out, size),
        "bits": bits,
        "samples": {"n": n, "seed": seed, "seconds_each": seconds, "heads": len(set(heads)) if heads else None},
        "real": {"n": len(real), "subjects": len(set(own))},
        "measures": {
            "described_ssim": asdict(generation.described_ssim(images, pools.train, advance=advance)),
            "real_described_ssim": asdict(generation.described_ssim(real_images, pools.train, advance=advance)),
            **_similarities(found, (heads or [str(i) for i in range(n)])[:looked], beside_own),
            "diversity": {
                "samples": generation.mean_pairwise_ssim(images, subjects=heads, seed=seed, advance=advance),
                "real": generation.mean_pairwise_ssim(real_images, subjects=own, seed=seed, advance=advance),
            },
            "live_entries": {
                "samples": generation.live_share(codes, train.orders),
                "real": generation.live_share(real_codes, train.orders),
            },
        },
        "realism": realism_of(images, heads, codes, shown, grain, train, pools, seed, advance) if looks else None,
        "heads": heads_of(drawn, len(generator.slices), held_out, shown, seed) if whole else None,
        "per_sample": [
            {
                "nearest_train": told(found["nearest_train"], i, train.subjects, anonymous=anonymous),
                "nearest_validate": told(found["nearest_validate"], i, held_out.subjects, anonymous=anonymous),
            }
            for i in range(looked)
        ],
        "definitions": {
            name: measure.definition for name, measure in (GENERATION | (WHOLE_HEADS if whole else {})).items()
        },
        "wall_time_s": round(time.perf_counter() - started, 2),
        "threads": torch.get_num_threads(),
    }
    advance(total)
    nearest = pools.train[found["nearest_train"].index[:looked]]
    return Evaluated(result, codes, images, real_codes, real_images, nearest)


def _check(generator: Generator, train: Cache, held_out: Cache, n: int) -> None:
    if n < 1:
        raise InputError(f"{n} samples were asked for; at least 1 is needed.")
    if not len(train) or not len(held_out):
        raise InputError("there are no images to measure on: a prior needs a train split and a held-out one.")
    for cache in (train, held_out):
        if tuple(cache.size) != tuple(generator.prior.size):
            raise InputError(
                f"images have {cache.size[0]} x {cache.size[1]} pixels with padding; this prior was trained on "
                f"{' x '.join(map(str, generator.prior.size))}. Evaluate on images of that size."
            )
    if train.images.shape[1:] != held_out.images.shape[1:]:
        raise InputError(
            f"train images are {train.images.shape[1:]} and held-out ones {held_out.images.shape[1:]}; "
            "they are compared pixel by pixel. Give images of one size."
        )


def _facts(generator: Generator, train: EncodedSplit, held_out: EncodedSplit, size: tuple[int, ...]) -> dict[str, Any]:
    """By which tokenizer and on which images."""
    return {
        "tokenizer": {
            "preset": generator.pipeline.config.get("preset"),
            "weights_sha256": generator.pipeline.weights_sha256,
            "grain_sha256": generator.pipeline.grain.sha256 if generator.pipeline.grain else None,
        },
        "data": {
            "images": len(held_out),
            "subjects": len(set(held_out.subjects)),
            "fingerprint": held_out.fingerprint,
            "train_images": len(train),
            "train_subjects": len(set(train.subjects)),
            "size": list(size),
        },
    }


def _work(generator: Generator, train: EncodedSplit, held_out: EncodedSplit, n: int, real: int) -> int:
    """Images, samples and pairs, about: a pool of few images has fewer pairs."""
    described = sum(len(train) // k * k for k in (min(16, n, len(train)), min(16, real, len(train))))
    pairs = sum(min(generation.PAIRS, k * (k - 1) // 2) for k in (n, real))
    drawn = _count(generator, n) * len(generator.slices) if makes_heads(generator) else n
    return (
        len(held_out) * generator.prior.has_bound
        + drawn
        + described
        + 3 * generation.CANDIDATES * (min(n, generation.LOOKED) + min(real, generation.LOOKED))
        + pairs
    )


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Advance:
    done = 0

    def advance(units: int) -> None:
        nonlocal done
        done = min(done + units, total)
        if progress is not None:
            progress(done, total)

    return advance


def _sample(generator: Generator, n: int, seed: int, advance: Advance) -> tuple[Codes, NDArray[np.uint8], float]:
    """Codes of the samples, their images with padding, and the seconds that one took from seed to image."""
    codes, images, seconds = [], [], 0.0
    for part in parts(n, generator.prior):
        started = time.perf_counter()
        codes.append(generator.codes(len(part), seed=seed, first=int(part[0])))
        images.append(generator.images(codes[-1]))
        seconds += time.perf_counter() - started
        advance(len(part))
    return tuple(torch.cat(level) for level in zip(*codes, strict=True)), np.concatenate(images), seconds / n


def _heads(generator: Generator, n: int, seed: int, advance: Advance) -> tuple[Codes, NDArray[np.uint8], float]:
    """As `_sample`, of as many whole heads as hold n slices; the images of all of these, each head's in turn."""
    codes, images, seconds, each = [], [], 0.0, len(generator.slices)
    for part in parts(_count(generator, n), generator.prior):
        started = time.perf_counter()
        codes.append(generator.heads(part.tolist(), seed=seed))
        images.append(_decode(generator, codes[-1]))
        seconds += time.perf_counter() - started
        advance(len(part) * each)
    drawn = np.concatenate(images)
    found: Codes = tuple(torch.cat(level)[:n] for level in zip(*codes, strict=True))
    return found, drawn, seconds / len(drawn)


def _count(generator: Generator, n: int) -> int:
    """Heads that are made for n slices, so many at least that how they go on can be told."""
    return max(HEADS, math.ceil(n / len(generator.slices)))


def _decode(generator: Generator, codes: Codes, grain: bool = True) -> NDArray[np.uint8]:
    each = parts(len(codes[0]), generator.prior)
    return np.concatenate([generator.images(tuple(level[part] for level in codes), grain=grain) for part in each])


def _similarities(
    found: Mapping[str, generation.Neighbours], draws: Sequence[str], own: Sequence[str]
) -> dict[str, Range]:
    """SSIM to the nearest. `draws`: by which draw each sample came; real images are draws of subjects."""
    n = len(draws)
    samples = {name: neighbours.ssim[:n] for name, neighbours in found.items()}
    real = {f"real_{name}": neighbours.ssim[n:] for name, neighbours in found.items() if len(neighbours.ssim) > n}
    return ranges(samples, draws) | ranges(real, own)
