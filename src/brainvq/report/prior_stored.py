"""What the files of a prior's run hold, as far as a report tells it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, PositiveInt, model_validator

from brainvq.metrics.generation import LOOKED
from brainvq.report.stored import Facts, Interval, Measured, Result


class Origin(BaseModel):
    """The tokenizer whose codes a prior has learned, or that decoded its samples; then with its grain, if any."""

    preset: str | None
    weights_sha256: str
    grain_sha256: str | None = None


class PriorFacts(Facts):
    """config.json; `size` is that of the images with their padding."""

    kind: Literal["prior"]
    size: list[PositiveInt]
    tokenizer: Origin


class Bits(BaseModel):
    """Of held-out images; `saved` is the share of the histogram's bits that the prior does without."""

    per_code: Interval
    told_per_code: Interval | None = None
    told: list[str] = []
    exact: bool = True
    per_pixel: Interval
    histogram_per_code: Interval
    saved: Interval
    nominal_per_pixel: float
    per_subject: dict[str, float]


class Drawn(BaseModel):
    """How many samples were measured."""

    n: PositiveInt
    seed: int
    seconds_each: float | None


class Real(BaseModel):
    """The real images beside the samples."""

    n: int


class Described(BaseModel):
    best_batch: float
    mean_batch: float
    batches: PositiveInt


class Beside(BaseModel):
    """The same number of samples and of real images; None where there was no pair to compare."""

    samples: float | None
    real: float | None


class Measures(BaseModel):
    """Of samples; what starts with real_ is the same of real images. None is what was not measured."""

    described_ssim: Described | None = None
    real_described_ssim: Described | None = None
    nearest_train: Interval | None = None
    real_nearest_train: Interval | None = None
    nearest_train_as_many: Interval | None = None
    real_nearest_train_as_many: Interval | None = None
    nearest_validate: Interval | None = None
    real_nearest_validate: Interval | None = None
    diversity: Beside | None = None
    live_entries: Beside | None = None


class Estimate(BaseModel):
    value: float
    low: float
    high: float


class SetOf(BaseModel):
    """Of samples, or of images that went through the tokenizer."""

    measures: dict[str, Estimate]
    better_than_floor: list[str]


class FamilyOf(BaseModel):
    """One family of features."""

    floor: dict[str, Estimate]
    sets: dict[str, SetOf]


class RealismOf(BaseModel):
    families: dict[str, FamilyOf]


class Continuous(BaseModel):
    neighbour_ssim: Interval
    flicker: Interval


class HeadsOf(BaseModel):
    """Heads that were made slice after slice, and real ones."""

    n: int
    real_n: int | None = None
    samples: Continuous
    real: Continuous | None


class RateOf(BaseModel):
    flagged: int
    images: int
    share: float
    low: float
    high: float


class AuditOf(BaseModel):
    """Of the samples: flagged as copies; of unseen slices; of copies that were made on purpose."""

    sentence: str
    flagged: RateOf
    false_alarms: RateOf
    sensitivity: RateOf


class Compared(Measured):
    """The images that bits and samples were measured with."""

    train_images: int
    train_subjects: int


class Neighbour(BaseModel):
    subject: str
    correlation: float
    ssim: float


class Neighbours(BaseModel):
    nearest_train: Neighbour


class PriorEvaluation(Result):
    """evaluation/SPLIT.json of a prior."""

    kind: Literal["prior"]
    data: Compared
    tokenizer: Origin
    bits: Bits | None
    samples: Drawn
    real: Real
    measures: Measures
    realism: RealismOf | None = None
    heads: HeadsOf | None = None
    audit: AuditOf | None = None
    per_sample: list[Neighbours]
    definitions: dict[str, str]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not min(self.samples.n, LOOKED) <= len(self.per_sample) <= self.samples.n:
            raise ValueError("the first samples need their neighbours")
        return self
