"""Realism as `evaluate` wires it: samples and training images through the tokenizer, against held-out subjects."""

from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from brainvq.codes import Codes
from brainvq.evaluate_prior.neighbours import EightBit, Pools
from brainvq.evaluate_prior.realistic import OF_HEADS, PLAIN, WORK, as_few_heads, can_measure, realism_of
from heads import blurred, heads

SUBJECTS, SLICES = 10, 12


def people(first: int) -> tuple[NDArray[np.uint8], list[str]]:
    images = np.concatenate([heads(SLICES, (64, 64), seed=first + n) for n in range(SUBJECTS)])
    return images, [f"{first + n}" for n in range(SUBJECTS) for _ in range(SLICES)]


def pool(images: NDArray[np.uint8]) -> EightBit:
    class Held:
        def __len__(self) -> int:
            return len(images)

    held = Held()
    held.images = images  # type: ignore[attr-defined]
    return EightBit(cast("Any", held))


@pytest.mark.parametrize("grain", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_samples_stand_beside_the_tokenizer_and_the_floor(grain: bool, whole: bool) -> None:
    """Where there is grain, both stand there without it too, which is blurrier here; and whole heads beside as many."""
    (train, trained), (held, held_out) = people(0), people(100)
    drawn, pools = people(200)[0], Pools(pool(train), pool(held), trained, held_out)
    encoded = SimpleNamespace(subjects=trained, batch=lambda picks: (torch.as_tensor(picks),))
    codes = (torch.arange(len(drawn)) + 1000,)
    work: list[int] = []

    def decode(codes: Codes, grain: bool) -> NDArray[np.uint8]:
        numbers = codes[0].numpy()
        images = drawn[numbers - 1000] if numbers.min() >= 1000 else train[numbers]
        return blurred(images, (1.3 if numbers.min() >= 1000 else 0.0) + (0.7 if grain else 1.2))

    made = [f"head {i // SLICES}" for i in range(len(drawn))] if whole else None
    found = realism_of(decode(codes, True), made, codes, decode, grain, cast("Any", encoded), pools, 0, work.append)
    assert sum(work) == (WORK + 4 * grain + 2 * whole) * len(train)
    for family in found["families"].values():
        frechet = {name: each["measures"]["frechet"]["value"] for name, each in family["sets"].items()}
        assert len(frechet) == (4 if grain else 2) + whole
        if whole:
            assert frechet["samples"] > frechet[OF_HEADS] > family["floor"]["frechet"]["value"]
        assert frechet["samples"] > frechet["tokenizer"] > family["floor"]["frechet"]["value"]
        if grain:
            assert frechet["samples" + PLAIN] > frechet["samples"]
            assert frechet["tokenizer" + PLAIN] > frechet["tokenizer"]


@pytest.mark.parametrize(("slices", "subjects"), [(12, 5), (3, 20), (40, 5)])
def test_few_heads_stand_beside_as_few_and_every_set_keeps_its_size(slices: int, subjects: int) -> None:
    """60 samples of 5 heads, where training subjects have as many slices each, fewer, or more."""
    names = [f"{n}" for n in range(25) for _ in range(slices)]
    few = as_few_heads(names, 60, 5, seed=0)
    assert len(set(few.tolist())) == 60
    counts = Counter(names[i] for i in few)
    assert len(counts) == subjects
    assert set(counts.values()) == {60 // subjects}


def test_what_is_too_little_is_not_measured() -> None:
    images, subjects = people(0)
    others = people(100)
    assert can_measure(120, Pools(pool(images), pool(others[0]), subjects, others[1]))
    assert not can_measure(99, Pools(pool(images), pool(others[0]), subjects, others[1]))
    assert not can_measure(120, Pools(pool(images), pool(others[0]), subjects, ["1"] * len(others[0])))
    assert can_measure(120, Pools(pool(images), pool(others[0]), subjects, others[1]), heads=5)
    assert not can_measure(120, Pools(pool(images), pool(others[0]), subjects, others[1]), heads=4)
    small = images[:, :48]
    assert not can_measure(120, Pools(pool(small), pool(small), subjects, others[1]))
