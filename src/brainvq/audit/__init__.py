"""Are samples copies of training subjects? The question put to files: samples, data and tokenizer in, an answer out.

    OUT/audit.json      shares with intervals, the ROC, the score of every sample, the closest pairs
    OUT/pairs.png       the ten closest pairs

The arithmetic is `metrics.slice_search` (what is near) and `metrics.memorisation` (what is too near); what the answer
is worth is measured by copies that are made on purpose (`metrics.copies`). An answer is never that there is no copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import brainvq
from brainvq import run as runs
from brainvq.audit.calibrating import Calibrating
from brainvq.audit.opening import HELD_OUT, grain_in, open_data, refuse_other, reopened, tokenizer_of
from brainvq.audit.pairs import Pair, draw_pairs
from brainvq.audit.samples import Samples, read_samples
from brainvq.data.loader import Cache
from brainvq.data.reopen import remember
from brainvq.errors import InputError
from brainvq.evaluate_prior.neighbours import EightBit
from brainvq.grain import Grain
from brainvq.metrics.memorisation import FALSE_ALARMS, Audit, Scored, audit, refuse_one_subject
from brainvq.metrics.slice_search import Nearest, TrainingSlices
from brainvq.pipeline import Generator, Pipeline, load
from brainvq.training.devices import keep_freed_memory
from brainvq.writing import refuse_file

FORMAT = 1
CLOSEST = 10
Progress = Callable[[int, int], None]
NOTHING: Mapping[str, Path] = MappingProxyType({})


def audit_samples(
    samples: Path,
    data: str,
    *,
    tokenizer: Path | None = None,
    out: Path | None = None,
    planted: Mapping[str, Path] = NOTHING,
    progress: Progress = lambda done, count: None,
) -> dict[str, Any]:
    """Hold the images of a folder against the train split of `data`; written to `out` (SAMPLES/audit), and returned.

    The calibration is made of the validate split. It is kept in the cache, so that the next audit by the same tokenizer
    and data takes a fraction of the time.

    Args:
        samples: a folder that `brainvq sample` wrote, or any folder of images.
        tokenizer: what decoded them; for samples of a shipped one that need not be said.
        planted: further kinds of copies, by name, as folders of samples of the same tokenizer; told beside the others.

    Raises:
        InputError: no images, or of another size than the data; no train or validate split; another tokenizer than the
            one that decoded the samples, or other data than those of their prior.
    """
    keep_freed_memory()
    out = out or samples / "audit"
    refuse_file(out)
    found = read_samples(samples)
    pipeline = load(tokenizer_of(samples, found.about, tokenizer))
    refuse_other(samples, found.about, pipeline)
    more = {kind: read_samples(folder) for kind, folder in planted.items()}
    train, held_out = open_data(data, pipeline)
    for cache in (train, held_out):
        remember(cache)
    _refuse_other_data(samples, found, data, train)
    auditor = _Auditor(pipeline, train, held_out, grain_in(samples, found.about, pipeline), progress)
    return _written(auditor.audit(found, more, named=True), found, train, out)


def short_audit(
    samples: Path, generator: Generator, *, progress: Progress = lambda done, count: None
) -> dict[str, Any] | None:
    """The same of a folder that `generator` has just sampled into, if its training and validate slices still lie in the
    cache, whose files then need not be known; else None. The pairs name no subjects.

    Raises:
        InputError: the folder holds no samples, or those of another tokenizer.
    """
    facts, pipeline = generator.config.get("data"), generator.pipeline
    train, held_out = (reopened(facts, split, pipeline) for split in ("train", HELD_OUT))
    if train is None or held_out is None or min(len(set(each.subjects)) for each in (train, held_out)) < 2:
        return None
    found = read_samples(samples)
    refuse_other(samples, found.about, pipeline)
    grain = grain_in(samples, found.about, pipeline)
    result = _Auditor(pipeline, train, held_out, grain, progress).audit(found, {}, named=False)
    return _written(result, found, train, samples / "audit")


def audit_images(
    images: NDArray[np.uint8],
    pipeline: Pipeline,
    train: Cache,
    held_out: Cache,
    pairs: Path,
    *,
    progress: Progress = lambda done, count: None,
) -> dict[str, Any] | None:
    """The same of images (n, H, W) that `pipeline` decoded, against slices at hand; the closest are drawn to `pairs`.

    None where there are no two subjects of either split. The result names no subjects, nor places in the data.
    """
    pairs.unlink(missing_ok=True)
    if min(len(set(each.subjects)) for each in (train, held_out)) < 2:
        return None
    names = [f"sample {n}" for n in range(len(images))]
    samples = Samples(images, names, None, names)
    result = _Auditor(pipeline, train, held_out, pipeline.grain, progress).audit(samples, {}, named=False)
    pairs.parent.mkdir(parents=True, exist_ok=True)
    _draw(result, samples, train, pairs, placed=False)
    for pair in result["closest"]:
        del pair["train_index"]  # slices lie in the order of names
    return result


class _Auditor:
    """Of one tokenizer, the grain of its samples, and its data; `progress` counts the images that are looked at."""

    def __init__(
        self, pipeline: Pipeline, train: Cache, held_out: Cache, grain: Grain | None, progress: Progress
    ) -> None:
        self.pipeline, self.train, self.held_out, self.progress = pipeline, train, held_out, progress
        self.grain = grain
        self.done = self.count = 0

    def audit(self, samples: Samples, planted: Mapping[str, Samples], *, named: bool) -> dict[str, Any]:
        started = time.perf_counter()
        for each in (samples, *planted.values()):
            _check(each, self.train, self.held_out)
        calibrating = Calibrating(self.pipeline, self.train, self.held_out, self.grain)
        images = sum(len(each.images) for each in (samples, *planted.values()))
        self.count = len(self.train) + calibrating.work + images
        training = TrainingSlices(EightBit(self.train), self.train.subjects, advance=self._advance)
        calibration = calibrating.calibration(training, self._advance)
        more = {
            kind: Scored(training.nearest(each.images, advance=self._advance).score, each.heads)
            for kind, each in planted.items()
        }
        calibration = replace(calibration, planted={**calibration.planted, **more})
        nearest = training.nearest(samples.images, advance=self._advance)
        found = audit(nearest.score, calibration, subjects=samples.heads)
        return {
            "format": FORMAT,
            "kind": "audit",
            "version": brainvq.__version__,
            **found.to_json(),
            "samples": {"n": len(samples.images), "model": (samples.about or {}).get("model")},
            "tokenizer": {
                "preset": self.pipeline.config.get("preset"),
                "weights_sha256": self.pipeline.weights_sha256,
                "grain_sha256": self.grain.sha256 if self.grain else None,
            },
            "data": _facts(self.train, self.held_out),
            "closest": _closest(samples, nearest, found, self.train, named=named),
            "hardware": runs.hardware(),
            "wall_time_s": round(time.perf_counter() - started, 2),
        }

    def _advance(self, units: int) -> None:
        self.done += units
        self.progress(self.done, self.count)


def _written(result: dict[str, Any], samples: Samples, train: Cache, out: Path) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    _draw(result, samples, train, out / "pairs.png")
    runs.write_json(out / "audit.json", result)
    return result


def _refuse_other_data(folder: Path, samples: Samples, data: str, train: Cache) -> None:
    """Copies are of what the prior was trained on."""
    trained_on = (samples.about or {}).get("trained_on")
    if trained_on not in (None, train.fingerprint):
        raise InputError(
            f"{folder}: its prior was trained on other images (SHA-256 {str(trained_on)[:12]}) than the train split of "
            f"{data} ({train.fingerprint[:12]}). Give the data of its training."
        )


def _check(samples: Samples, train: Cache, held_out: Cache) -> None:
    """Before any work is done."""
    sizes = [images.shape[1:] for images in (samples.images, train.images, held_out.images)]
    if len(set(sizes)) > 1:
        told = [f"{width} x {height}" for height, width in sizes]
        raise InputError(
            f"samples have {told[0]} pixels, training slices {told[1]} and held-out ones {told[2]}. Give the data of "
            "their training, as large as they are."
        )
    refuse_one_subject(held_out.subjects)


def _facts(train: Cache, held_out: Cache) -> dict[str, Any]:
    return {
        "images": len(train),
        "subjects": len(set(train.subjects)),
        "fingerprint": train.fingerprint,
        "held_out": HELD_OUT,
        "held_out_images": len(held_out),
        "held_out_subjects": len(set(held_out.subjects)),
        "held_out_fingerprint": held_out.fingerprint,
        "size": list(train.images.shape[1:]),
    }


def _closest(samples: Samples, nearest: Nearest, found: Audit, train: Cache, *, named: bool) -> list[dict[str, Any]]:
    """The pairs of the highest scores; with the subject, if its name is known."""
    order = np.argsort(-nearest.score, kind="stable")[:CLOSEST]
    return [
        {
            "sample": samples.names[i],
            "sample_index": int(i),
            "train_index": int(nearest.index[i]),
            "subject": train.subjects[nearest.index[i]] if named else None,
            "mirrored": bool(nearest.mirrored[i]),
            "similarity": float(nearest.similarity[i]),
            "score": float(nearest.score[i]),
            "flagged": bool(nearest.score[i] > found.threshold),
        }
        for i in order
    ]


def _draw(result: Mapping[str, Any], samples: Samples, train: Cache, path: Path, *, placed: bool = True) -> None:
    slices = EightBit(train)
    pairs = []
    for one in result["closest"]:
        subject = f"subject {one['subject']}" if one["subject"] is not None else "a training subject"
        place = f"image {one['train_index']} of train" if placed else ""
        place += f"{', ' if place else ''}mirrored" if one["mirrored"] else ""
        score = f"score {one['score']:.3f}, {'flagged' if one['flagged'] else 'not flagged'}"
        pairs.append(
            Pair(
                samples.images[one["sample_index"]],
                slices[np.array([one["train_index"]])][0],
                f"{one['sample']}\n{score}",
                f"{subject}\n{place}",
                one["flagged"],
            )
        )
    title = f"The {len(pairs)} closest of {result['samples']['n']:,} samples, each left of its nearest training slice"
    note = (
        f"Flagged above a score of {result['threshold']:.3f}, which about {100 * FALSE_ALARMS:g} % of held-out slices "
        f"exceed; the highest of those is {result['highest_held_out']:.3f}. A high score means: much nearer to one "
        "subject than to any other."
    )
    draw_pairs(pairs, title, note, path)
