"""Grain: the fine detail that a decoder cannot know, added to sampled images as noise of the right size.

A decoder that was trained for likeness gives the mean of all images of a code, and in the mean fine detail cancels;
sharpening gives back some of it only. What is missing looks like noise, so noise takes its place: in bands of half an
octave, as strong as what real images have beyond their reconstructions where these are as bright and as steep. It is
measured once for a tokenizer, on its training images. Where a reconstruction is black there is nothing to measure, and
nothing is added.

It is for looking and for sampled images alone. Nothing anatomical is added, and no reconstruction gets any: beside an
original, invented detail is an error.

Source: A. Norkin, N. Birkbeck, Film Grain Synthesis for AV1 Video Codec, 2018 (measure what coding took away, add noise
like it after decoding, stronger or weaker by brightness). We differ: bands in the place of an autoregressive filter,
steepness beside brightness, and the noise is a function of the codes, so that the same codes give the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt
from scipy import fft
from scipy.ndimage import gaussian_filter, uniform_filter

from brainvq.codes import Codes
from brainvq.config import Config

CENTRES = (0.12, 0.17, 0.24, 0.34, 0.48)  # of the bands, in cycles a pixel; the last has all above its own too
WIDE = 0.5  # octaves from the centre of a band to where it ends
BLACK = 1.0  # grey levels; what is darker in the mean has no grain
BRIGHTNESS = (BLACK, 4, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224)  # borders between places, in grey levels
STEEPNESS = (1, 2, 4, 6, 9, 13, 18, 25)  # the same, in grey levels a pixel
BANDS, STEPS = len(CENTRES), len(STEEPNESS) + 1
PLACES = (len(BRIGHTNESS) + 1) * STEPS
AROUND = 5  # pixels of a window, twice, over which brightness and its slope are told
FEW = 200  # pixels; a place with fewer is taken to have less
SOFT = 1.0  # pixels, deviation of the Gaussian that levels the border between two places
HIGHEST = 64.0  # grey levels; no stored deviation is larger

Plane = NDArray[np.floating[Any]]
Deviation = Annotated[NonNegativeFloat, Field(le=HIGHEST)]
Row = Annotated[tuple[Deviation, ...], Field(min_length=PLACES, max_length=PLACES)]


class Grain(Config):
    """Of one tokenizer.

    Args:
        weights_sha256: of the tokenizer.
        fingerprint: of the images that it was measured on.
        images: how many.
        deviations: of the noise of each band at each place, in grey levels.
    """

    format: Literal[1] = 1
    weights_sha256: str
    fingerprint: str
    images: PositiveInt
    deviations: Annotated[tuple[Row, ...], Field(min_length=BANDS, max_length=BANDS)]

    @property
    def sha256(self) -> str:
        """Of what it says."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def onto(self, images: Plane, codes: Codes) -> NDArray[np.uint8]:
        """Decoded images (B, H, W) in grey levels, and the codes that they were decoded from -> with grain, 8-bit."""
        return np.stack([self._onto(image, seed) for image, seed in zip(images, _seeds(codes), strict=True)])

    def _onto(self, image: Plane, seed: int) -> NDArray[np.uint8]:
        noise = np.random.default_rng(seed).standard_normal(image.shape, np.float32)
        spectrum, place, found = fft.rfft2(noise), _places(image), image.astype(np.float32)
        there = place >= STEPS
        for band, deviations in zip(_bands(*image.shape), self.deviations, strict=True):
            strength = gaussian_filter(np.array(deviations, np.float32)[place], SOFT) * there
            found += strength * fft.irfft2(spectrum * (band / _deviation(band, image.shape)), s=image.shape)
        return np.asarray(found.clip(0, 255).round().astype(np.uint8))


def measured(pairs: Iterable[tuple[Plane, Plane]]) -> tuple[tuple[float, ...], ...]:
    """The deviations of a grain: from real images (H, W) in grey levels, each with its reconstruction."""
    missing, pixels = np.zeros((BANDS, PLACES)), np.zeros(PLACES)
    for real, made in pairs:
        place = _places(made).ravel()
        pixels += np.bincount(place, minlength=PLACES)
        spectra = fft.rfft2(real), fft.rfft2(made)
        for power, band in zip(missing, _bands(*real.shape), strict=True):
            has, lacks = (fft.irfft2(spectrum * band, s=real.shape) for spectrum in spectra)
            power += np.bincount(place, (has**2 - lacks**2).ravel(), PLACES)
    deviations = np.sqrt((missing / np.maximum(pixels, FEW)).clip(0, HIGHEST**2))
    deviations[:, :STEPS] = 0  # black: what stands there rings from elsewhere
    return tuple(tuple(round(float(each), 3) for each in row) for row in deviations)


@lru_cache(maxsize=8)
def _bands(height: int, width: int) -> tuple[Plane, ...]:
    """What takes each band out of an image, (H, W / 2 + 1) each; together they are 1 above the first centre. Each rises
    and falls slowly, so that an edge does not ring through the image."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1e-9
    found = []
    for n, centre in enumerate(CENTRES):
        away = np.log2(frequency / centre) / WIDE
        if n == BANDS - 1:
            away = away.clip(max=0)
        found.append(np.asarray(np.cos(np.pi / 2 * away.clip(-1, 1)) ** 2, np.float32))
    return tuple(found)


def _deviation(band: Plane, size: tuple[int, ...]) -> float:
    """Of white noise of deviation 1 once it went through a band."""
    twice = np.full(band.shape[1], 2.0)  # `rfft2` leaves the mirror images out
    twice[0] = 1.0
    if size[1] % 2 == 0:
        twice[-1] = 1.0
    return float(np.sqrt((band**2 * twice).sum() / (size[0] * size[1])))


def _places(image: Plane) -> NDArray[np.int64]:
    """How bright and how steep it is at each pixel, as one number below `PLACES`, (H, W); below `STEPS` for black."""
    smooth = uniform_filter(uniform_filter(image.astype(np.float32), AROUND), AROUND)
    steep = np.hypot(*np.gradient(smooth))
    return np.asarray(np.digitize(smooth, BRIGHTNESS) * STEPS + np.digitize(steep, STEEPNESS))


def _seeds(codes: Codes) -> Sequence[int]:
    """A number of each image that its codes decide."""
    rows = zip(*(level.cpu().numpy().astype("<i8") for level in codes), strict=True)
    return [int.from_bytes(hashlib.sha256(b"".join(level.tobytes() for level in row)).digest()[:8]) for row in rows]
