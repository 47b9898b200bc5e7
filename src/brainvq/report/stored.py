"""What the files of a run hold, as far as a report tells it: types, and what must agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, PositiveInt, model_validator


class Split(BaseModel):
    subjects: int
    images: int
    fingerprint: str


class Data(BaseModel):
    name: str
    splits: dict[str, Split]
    size: list[PositiveInt]
    mean: float
    variance: float


class Hardware(BaseModel):
    cpu: str
    cores: int | None
    threads: int
    memory_gib: float | None
    gpu: str | None
    system: str


class Spec(BaseModel):
    entries: list[PositiveInt]
    strides: list[list[PositiveInt]]

    def grids(self, size: Sequence[int]) -> list[list[int]]:
        """Of each level, the codes of an image of `size` pixels, which is padded first."""
        return [[math.ceil(n / s) for n, s in zip(size, stride, strict=True)] for stride in self.strides]


class FinetunedFrom(BaseModel):
    """The model that fine-tuning began with, and what of it learned."""

    preset: str | None
    weights_sha256: str
    codebook: Literal["trained", "frozen"]
    encoder: Literal["trained", "frozen"] = "trained"


class Facts(BaseModel):
    """config.json, but for the experiment. Null is what only the end of training knows."""

    preset: str
    command: str
    version: str
    data: Data
    spec: Spec
    parameters: dict[str, int]
    hardware: Hardware
    versions: dict[str, str]
    seed: int
    planned_steps: int
    steps: int | None
    images_seen: int | None
    wall_time_s: float | None
    weights_sha256: str | None
    finetuned_from: FinetunedFrom | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.spec.entries or len(self.spec.entries) != len(self.spec.strides):
            raise ValueError("spec needs one stride for each level of entries")
        if any(len(stride) != len(self.data.size) for stride in self.spec.strides):
            raise ValueError("spec.strides and data.size have other numbers of axes")
        return self


class Interval(BaseModel):
    mean: float
    low: float | None
    high: float | None

    def bracket(self, digits: int = 4, scale: float = 1, unit: str = "") -> str | None:
        if self.low is None or self.high is None:
            return None
        return f"[{scale * self.low:.{digits}f}, {scale * self.high:.{digits}f}]{unit}"


class Level(BaseModel):
    entries: PositiveInt
    counts: list[int]


class Usage(BaseModel):
    live_entries: int
    dead_entries: int
    perplexity: float
    nominal_bits_per_pixel: float
    entropy_bits_per_pixel: float
    held_out_bits_per_pixel: float | None
    levels: list[Level]


class Measured(BaseModel):
    """Which images were measured."""

    fingerprint: str
    subjects: int
    images: int


class Named(Measured):
    name: str


class Result(BaseModel):
    """What evaluation/SPLIT.json says of any model."""

    split: str
    data: Measured
    model: dict[str, Any]


class Evaluation(Result):
    """evaluation/SPLIT.json of a tokenizer; `table` are the lines of `tables.rows`."""

    format: Literal[1]
    data: Named
    measures: dict[str, Interval]
    baselines: dict[str, dict[str, Interval]]
    per_subject: dict[str, dict[str, float]]
    usage: Usage
    definitions: dict[str, str]
    table: list[tuple[str, ...]] = []

    @model_validator(mode="after")
    def _complete(self) -> Self:
        levels = self.usage.levels
        if not self.per_subject or any("ssim" not in row for row in self.per_subject.values()):
            raise ValueError("every subject needs an SSIM")
        if not levels or any(len(level.counts) != level.entries for level in levels):
            raise ValueError("usage needs levels, and a count for each entry")
        return self
