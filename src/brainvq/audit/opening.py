"""The tokenizer that decoded some samples, and the slices that it was trained beside: by path, or out of the cache."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainvq import run as runs
from brainvq.config import from_json
from brainvq.data.loader import Cache, open_cache
from brainvq.data.reopen import reopen
from brainvq.data.sources import Source, open_splits
from brainvq.data.volume_cache import with_size
from brainvq.errors import InputError
from brainvq.grain import Grain
from brainvq.models import SHIPPED, model_folder, shipped
from brainvq.pipeline import Pipeline
from brainvq.training.experiment import TokenizerExperiment

HELD_OUT = "validate"


def reopened(facts: Any, split: str, pipeline: Pipeline) -> Cache | None:
    """A split of a run's data, from the cache alone."""
    try:
        told = facts["splits"][split]
        return reopen(
            str(told["fingerprint"]), int(told["images"]), multiple=_multiple(pipeline), device=pipeline.device
        )
    except (KeyError, TypeError, ValueError):
        return None


def tokenizer_of(samples: Path, about: Mapping[str, Any] | None, given: Path | None) -> Path:
    """Where the tokenizer of the samples lies."""
    if given is not None:
        return model_folder(given)
    if about is None:
        raise InputError(
            f"{samples} holds no samples.json, so what decoded its images is unknown. Name it: --tokenizer MODEL."
        )
    wanted, preset = about["tokenizer"]["weights_sha256"], about["tokenizer"].get("preset")
    for name in shipped():
        if runs.read_config(SHIPPED / name).get("weights_sha256") == wanted:
            return SHIPPED / name
    raise InputError(
        f"{samples} was decoded by the tokenizer {wanted[:12]} ({preset}), which is not a shipped one. Say where it "
        "lies: --tokenizer MODEL."
    )


def refuse_other(samples: Path, about: Mapping[str, Any] | None, pipeline: Pipeline) -> None:
    wanted = about["tokenizer"]["weights_sha256"] if about else pipeline.weights_sha256
    if wanted != pipeline.weights_sha256:
        raise InputError(
            f"{samples} was decoded by the tokenizer {wanted[:12]}, and this one is {pipeline.weights_sha256[:12]}, "
            "whose blur is another. Give the tokenizer of the samples with --tokenizer."
        )


def grain_in(samples: Path, about: Mapping[str, Any] | None, pipeline: Pipeline) -> Grain | None:
    """That the samples were drawn with; of images that came without word, that of the tokenizer.

    Raises:
        InputError: the samples have another grain than the tokenizer has now.
    """
    grain = pipeline.grain
    wanted = about.get("grain_sha256") if about else grain and grain.sha256
    if wanted is None:
        return None
    if grain is None or wanted != grain.sha256:
        raise InputError(
            f"{samples} was drawn with the grain {str(wanted)[:12]}, and the tokenizer's is now "
            f"{grain.sha256[:12] if grain else 'none'}. Draw the samples anew, or give the tokenizer as it was then."
        )
    return grain


def open_data(data: str, pipeline: Pipeline) -> tuple[Cache, Cache]:
    """The train and the held-out split, read as they were for the tokenizer."""
    config = from_json(TokenizerExperiment, pipeline.config["experiment"]).data
    found = open_splits(data, subject_pattern=config.subject_pattern, suffix=config.suffix)
    splits: dict[str, Source] = dict(found.items())
    missing = [split for split in ("train", HELD_OUT) if split not in splits]
    if missing:
        raise InputError(
            f"{data} has no {missing[0]} split, only {', '.join(splits)}. An audit holds samples against train, and "
            f"learns from {HELD_OUT} how near slices of other subjects come."
        )
    slicing = with_size(config.slicing, splits.values())
    train, held_out = (
        open_cache(splits[split], multiple=_multiple(pipeline), slicing=slicing, device=pipeline.device)
        for split in ("train", HELD_OUT)
    )
    return train, held_out


def _multiple(pipeline: Pipeline) -> tuple[int, int]:
    return pipeline.spec.multiple[0], pipeline.spec.multiple[1]
