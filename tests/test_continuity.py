"""Flicker and standstill of heads both lie away from what a head that changes smoothly shows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brainvq.metrics.continuity import continuity
from heads import heads

SLICES = 6


def smooth(seed: int) -> NDArray[np.uint8]:
    """From one slice to another, step by step, (SLICES, H, W)."""
    first, last = heads(2, seed=seed).astype(float)
    return np.stack([first + (last - first) * t for t in np.linspace(0, 0.5, SLICES)]).round().astype(np.uint8)


def test_heads_that_flicker_or_stand_still_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    whole = np.concatenate([smooth(seed) for seed in range(4)])
    subjects = [str(n // SLICES) for n in range(len(whole))]
    brightened = np.clip(whole * rng.uniform(0.7, 1.3, (len(whole), 1, 1)), 0, 255).astype(np.uint8)
    strangers = np.concatenate([smooth(seed)[:1] for seed in range(len(whole))])
    still = np.repeat(whole[::SLICES], SLICES, axis=0)
    real = continuity(whole, subjects)
    assert real.ssim.shape == real.flicker.shape == (4,)
    assert (continuity(brightened, subjects).flicker > 3 * real.flicker + 0.01).all()
    assert (continuity(strangers, subjects).ssim < real.ssim).all()
    frozen = continuity(still, subjects)
    assert frozen.ssim.tolist() == pytest.approx([1.0] * 4)
    assert (real.ssim < 0.999).all()
    assert frozen.flicker.tolist() == [0.0] * 4


def test_heads_are_measured_each_by_itself() -> None:
    whole = np.concatenate([smooth(0), smooth(1)])
    both = continuity(whole, ["a"] * SLICES + ["b"] * SLICES)
    assert both.ssim[1] == pytest.approx(continuity(whole[SLICES:], ["b"] * SLICES).ssim[0])
    with pytest.raises(ValueError, match="2 slices; at least 3"):
        continuity(whole[:2], ["a", "a"])
    assert np.isfinite(continuity(np.zeros((3, 64, 64), np.uint8), ["a"] * 3).flicker).all()
