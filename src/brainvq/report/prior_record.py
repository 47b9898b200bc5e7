"""Everything that the page of a prior tells of its run, read once and checked."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from brainvq.report.prior_examples import PriorExamples, load_prior_examples
from brainvq.report.prior_stored import PriorEvaluation, PriorFacts
from brainvq.report.record import Run, read_run
from brainvq.training.prior_experiment import PriorExperiment


@dataclass(frozen=True, eq=False, kw_only=True)
class PriorRecord(Run[PriorEvaluation, PriorExamples]):
    """A prior's run. `experiment` is None where this version cannot read it."""

    facts: PriorFacts
    experiment: PriorExperiment | None

    @property
    def counted(self) -> bool:
        """Whether the prior is a table of counts, to which steps of training do nothing."""
        return self.experiment is not None and self.experiment.prior.kind == "priors.histogram"

    def chosen_on(self, split: str) -> bool:
        """Whether the weights are those with the fewest bits on that split."""
        kept = self.experiment and self.experiment.train.keep == "best"
        return bool(kept) and split == "validate" and self.experiment.task.kind == "training.prior"  # type: ignore[union-attr]

    def command(self, verb: str) -> str:
        run, preset = shlex.quote(self.folder), shlex.quote(self.facts.preset)
        if verb == "resume":
            return f"brainvq train {preset} --tokenizer TOKENIZER --data DATA --out {run} --resume"
        return f"brainvq sample {run} -n 64 --out DIR" if verb == "sample" else super().command(verb)


def read_prior_record(folder: Path) -> PriorRecord:
    """Raises InputError where `folder` is no run, or its config.json does not fit this version."""
    fields = read_run(folder, PriorFacts, PriorExperiment, PriorEvaluation.model_validate, load_prior_examples)
    record = PriorRecord(**fields)
    for result in record.evaluations.values():
        if result.tokenizer.weights_sha256 != record.facts.tokenizer.weights_sha256:
            record.notes.append(
                f"The {result.split} split was evaluated with another tokenizer than this prior was trained on: "
                f"{result.tokenizer.preset} {result.tokenizer.weights_sha256[:12]}."
            )
    return record
