"""Fixtures that several test files share."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from brainvq import cli

torch.set_num_threads(1)  # tests are small; several threads would only wait for each other


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data, $BRAINVQ_SHARED or ../shared; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("BRAINVQ_SHARED") or Path(__file__).parents[2] / "shared")
    if not (folder / "oasis").is_dir():
        pytest.skip(f"no real data in {folder}; set BRAINVQ_SHARED")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder that BRAINVQ_CACHE names."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("BRAINVQ_CACHE", str(folder))
    return folder


@pytest.fixture
def slices_folder(tmp_path: Path) -> Path:
    """A tiny data set in the OASIS layout: 3, 2 and 2 subjects of 4 noisy ellipses, 32 x 24, with tissue masks."""
    root = tmp_path / "keras_png_slices_data"
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:32j, -1:1:24j]
    for split, subjects in {"train": (1, 2, 3), "validate": (401, 402), "test": (441, 442)}.items():
        images, masks = root / f"keras_png_slices_{split}", root / f"keras_png_slices_seg_{split}"
        images.mkdir(parents=True)
        masks.mkdir()
        for subject in subjects:
            radius = rng.uniform(0.6, 0.9)
            for n in range(4):
                r = np.hypot(y, x * rng.uniform(1, 1.2)) / radius
                tissue = np.digitize(r, [1.0, 0.7, 0.4]).astype(np.uint8) * 85
                image = (0.8 * tissue * (r < 1) + rng.rayleigh(6, r.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(image).save(images / f"case_{subject:03d}_slice_{n}.nii.png")
                Image.fromarray(tissue).save(masks / f"seg_{subject:03d}_slice_{n}.nii.png")
    return root


@pytest.fixture
def call(monkeypatch, capsys):
    """call(words...) -> exit code, stdout, stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["brainvq", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
