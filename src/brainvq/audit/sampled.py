"""The audit that follows sampling, where what a prior was trained on still lies in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from brainvq import run as runs
from brainvq.audit import short_audit
from brainvq.pipeline import load_generator


def audit_sampled(
    model: Path,
    samples: Path,
    *,
    tokenizer: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> str | None:
    """What was found, in a sentence, which samples.json then holds too; None where nothing could be looked at.

    Raises:
        InputError: as `short_audit`.
    """
    found = short_audit(samples, load_generator(model, tokenizer), progress=progress)
    if found is None:
        return None
    path = samples / "samples.json"
    about = json.loads(path.read_bytes())
    about["audited"] = {name: found[name] for name in ("sentence", "found", "flagged", "sensitivity", "false_alarms")}
    about["notice"] = f"Synthetic images. {found['sentence']} Not a medical device."
    runs.write_json(path, about)
    return str(found["sentence"])
