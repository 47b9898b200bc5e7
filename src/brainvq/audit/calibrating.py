"""What an audit is read by, measured once for a tokenizer and a data set, then kept: scores without images or names.

Held-out slices and copies made on purpose all go through the tokenizer, as samples did.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainvq.data.cache import cache_folder, make_cache_folder
from brainvq.data.loader import Cache
from brainvq.data.reopen import numbered
from brainvq.grain import Grain
from brainvq.metrics.copies import COPIES, HALF, HARDER, planted
from brainvq.metrics.generation import spread_over_subjects
from brainvq.metrics.memorisation import Calibration, Scored
from brainvq.metrics.slice_search import TrainingSlices
from brainvq.pipeline import Pipeline
from brainvq.writing import atomic

FORMAT = 1  # raise it when scores or copies change
PLANTED = 128  # training slices that are copied, of as many subjects as there are
HELD_OUT = 4096  # held-out slices at most, of all subjects alike
KINDS = [*COPIES, *HARDER, HALF]
BATCH = 16
Advance = Callable[[int], object]


class Calibrating:
    """Of one tokenizer, training split and held-out split, with that `grain` or without; nothing is done before
    `calibration`."""

    def __init__(self, pipeline: Pipeline, train: Cache, held_out: Cache, grain: Grain | None) -> None:
        self.pipeline, self.train, self.held_out, self.grain = pipeline, train, held_out, grain
        hashes = (pipeline.weights_sha256, train.fingerprint, held_out.fingerprint)
        name = "-".join([*(each[:40] for each in hashes), *([grain.sha256[:8]] if grain else []), str(FORMAT)])
        self.path = cache_folder() / "audits" / f"{name}.json"
        self.subjects, self.held_out_subjects = _nameless(train), _nameless(held_out)
        self.copied = spread_over_subjects(self.subjects, min(PLANTED, len(train)))
        self.tried = np.sort(spread_over_subjects(self.held_out_subjects, min(HELD_OUT, len(held_out))))
        self.stored = self._stored()

    @property
    def work(self) -> int:
        """Images that must be compared first."""
        return 0 if self.stored else len(self.tried) + len(KINDS) * len(self.copied)

    def calibration(self, training: TrainingSlices, advance: Advance) -> Calibration:
        """From the cache, or measured and put there.

        Raises:
            InputError: fewer than two held-out subjects, or the cache cannot be written.
        """
        if self.stored is None:
            self.stored = self._measured(training, advance)
            make_cache_folder()
            self.path.parent.mkdir(exist_ok=True)
            with atomic(self.path) as file:
                file.write(json.dumps(self.stored).encode())
        copied = [self.subjects[i] for i in self.copied]
        return Calibration(
            Scored(np.array(self.stored["held_out"]), [self.held_out_subjects[i] for i in self.tried]),
            {kind: Scored(np.array(scores), copied) for kind, scores in self.stored["planted"].items()},
        )

    def _measured(self, training: TrainingSlices, advance: Advance) -> dict[str, Any]:
        def scores(images: NDArray[np.uint8]) -> list[float]:
            return [round(float(score), 6) for score in training.nearest(images, advance=advance).score]

        held_out = [score for part in _parts(self.tried) for score in scores(self._through(self.held_out, part))]
        through = np.concatenate([self._through(self.train, part) for part in _parts(self.copied)])
        return {
            "held_out": held_out,
            "planted": {kind: scores(images) for kind, images in planted(through).items()},
        }

    def _through(self, cache: Cache, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images of a cache as the tokenizer would sample them, without padding."""
        height, width = cache.images.shape[1:]
        return self.pipeline.through(cache.batch(indices), grain=self.grain is not None)[:, :height, :width]

    def _stored(self) -> dict[str, Any] | None:
        """None where nothing is kept, or it is damaged."""
        try:
            found = json.loads(self.path.read_bytes())
            rows = [(len(self.tried), found["held_out"])] + [(len(self.copied), found["planted"][k]) for k in KINDS]
            sound = list(found["planted"]) == KINDS and all(
                len(row) == length and np.isfinite(np.array(row, dtype=float)).all() for length, row in rows
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return dict(found) if sound else None


def _nameless(cache: Cache) -> list[str]:
    """Its subjects by number: what is drawn must not depend on names, which a reopened cache lacks."""
    return [f"{number:08}" for number in numbered(cache.subjects)]


def _parts(indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [indices[start : start + BATCH] for start in range(0, len(indices), BATCH)]
