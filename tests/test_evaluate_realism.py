"""Realism as `evaluate` wires it: samples and training images through the tokenizer, against held-out subjects."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from brainvq.evaluate_prior.neighbours import EightBit, Pools
from brainvq.evaluate_prior.realistic import WORK, can_measure, realism_of
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


def test_samples_stand_beside_the_tokenizer_and_the_floor() -> None:
    (train, trained), (held, held_out) = people(0), people(100)
    pools = Pools(pool(train), pool(held), trained, held_out)
    encoded = SimpleNamespace(subjects=trained, batch=lambda picks: (torch.as_tensor(picks),))
    work: list[int] = []
    found = realism_of(
        blurred(people(200)[0], 2.0),
        None,
        lambda codes: blurred(train[codes[0].numpy()], 0.7),
        cast("Any", encoded),
        pools,
        0,
        work.append,
    )
    assert sum(work) == WORK * len(train)
    for family in found["families"].values():
        samples, through = (family["sets"][name]["measures"]["frechet"]["value"] for name in ("samples", "tokenizer"))
        assert samples > through > family["floor"]["frechet"]["value"]


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
