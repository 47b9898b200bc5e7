"""Everything that the page of a prior tells of its run, read once and checked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainvq import run as runs
from brainvq.errors import InputError
from brainvq.report.prior_examples import PriorExamples, load_prior_examples
from brainvq.report.prior_stored import PriorEvaluation, PriorFacts
from brainvq.report.record import Run, evaluations_of, experiment_of, facts_of, log_of, note_other_weights
from brainvq.training.prior_experiment import PriorExperiment


@dataclass(frozen=True, eq=False, kw_only=True)
class PriorRecord(Run):
    """A prior's run. `evaluations` by split, the headline first; `experiment` is None where this version cannot read
    it."""

    facts: PriorFacts
    experiment: PriorExperiment | None
    evaluations: dict[str, PriorEvaluation]
    examples: dict[str, PriorExamples]

    @property
    def headline(self) -> PriorEvaluation | None:
        return next(iter(self.evaluations.values()), None)

    @property
    def counted(self) -> bool:
        """Whether the prior is a table of counts, to which steps of training do nothing."""
        return self.experiment is not None and self.experiment.prior.kind == "priors.histogram"

    def command(self, verb: str) -> str:
        run, preset = shlex.quote(self.folder), shlex.quote(self.facts.preset)
        if verb == "resume":
            return f"brainvq train {preset} --tokenizer TOKENIZER --data DATA --out {run} --resume"
        return f"brainvq sample {run} -n 64 --out DIR" if verb == "sample" else super().command(verb)


def read_prior_record(folder: Path) -> PriorRecord:
    """Raises InputError where `folder` is no run, or its config.json does not fit this version."""
    config = runs.read_config(folder)
    facts = facts_of(config, folder, PriorFacts)
    notes: list[str] = []
    experiment = experiment_of(config, PriorExperiment, notes)
    lines = log_of(folder, notes)
    evaluations = evaluations_of(folder, _evaluation, notes)
    for result in evaluations.values():
        note_other_weights(result, facts, notes)
        if result.tokenizer.weights_sha256 != facts.tokenizer.weights_sha256:
            notes.append(
                f"The {result.split} split was evaluated with another tokenizer than this prior was trained on."
            )
    return PriorRecord(
        folder=folder.resolve().name,
        facts=facts,
        settings=config.get("experiment") or {},
        experiment=experiment,
        train=lines["train"],
        validate=lines["validate"],
        notes=notes,
        evaluations=evaluations,
        examples={split: found for split, result in evaluations.items() if (found := _examples(folder, result))},
    )


def _evaluation(values: Any) -> PriorEvaluation:
    return PriorEvaluation.model_validate(values)


def _examples(folder: Path, result: PriorEvaluation) -> PriorExamples | None:
    """The examples of an evaluation, if they are of the same images and weights."""
    try:
        examples = load_prior_examples(folder / "evaluation" / "examples" / result.split)
    except InputError:
        return None
    about, weights = examples.about, result.model.get("weights_sha256")
    return examples if (about.fingerprint, about.weights_sha256) == (result.data.fingerprint, weights) else None
