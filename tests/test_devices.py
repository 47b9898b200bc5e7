"""Use of a device without float64, as MPS is: such numbers are made on the host alone."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.priors import dcgan, histogram, pixelcnn
from brainvq.priors.base import Prior
from brainvq.priors.likeness import likeness
from brainvq.report.examples import _Tally
from brainvq.training import encoded
from brainvq.training.labelled import Labelled
from brainvq.training.prior import LikelihoodTask

SPEC, SIZE = CodeSpec((5,), ((4, 4),)), (32, 32)


class Elsewhere(Tensor):
    """Said to lie on MPS. What is made of it lies there too, until it is copied to the CPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("mps")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = super().__torch_function__(func, types, args, kwargs or {})  # type: ignore[no-untyped-call]
        if not isinstance(found, Tensor):
            return found
        if found.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        to_host = func is Tensor.cpu or (func is Tensor.to and "cpu" in args)
        return found.as_subclass(Tensor) if to_host else found


def moved(tensor: Tensor) -> Tensor:
    return tensor.detach().as_subclass(Elsewhere)


def moved_prior(prior: Prior) -> Prior:
    for module in prior.eval().modules():
        for kept in (module._parameters, module._buffers):
            own: dict[str, Any] = kept
            own.update({name: moved(value) for name, value in own.items() if value is not None})
    return prior


def codes(batch: int = 3) -> Tensor:
    return torch.randint(5, (batch, 8, 8), generator=torch.Generator().manual_seed(0))


def kinds() -> list[Prior]:
    small = pixelcnn.Config(width=4, layers=2, head=4)
    return [config.build(SPEC, SIZE) for config in (histogram.Config(), small)]


def test_the_device_of_these_tests_has_no_float64() -> None:
    with pytest.raises(TypeError):
        moved(torch.ones(2)).double()
    assert moved(torch.ones(2)).cpu().double().dtype == torch.float64


def test_what_entries_have_in_common() -> None:
    vectors, live = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), torch.arange(0, 9, 2)
    assert torch.equal(likeness(moved(vectors), moved(live)), likeness(vectors, live))


@pytest.mark.parametrize("number", [0, 1])
def test_samples_are_those_of_the_cpu(number: int) -> None:
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    torch.manual_seed(0)
    expected = kinds()[number].eval().sample(seeds)
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    torch.manual_seed(0)
    assert torch.equal(moved_prior(kinds()[number]).sample(seeds)[0], expected[0])


@pytest.mark.parametrize("number", [0, 1])
def test_validation(number: int) -> None:
    task = object.__new__(LikelihoodTask)
    task.updates = SimpleNamespace(handed_out=moved_prior(kinds()[number]))  # type: ignore[assignment]
    assert task.validate([Labelled((moved(codes()),), None)])["bits_per_code"] == pytest.approx(math.log2(5), abs=1e-5)


def test_the_share_of_live_entries() -> None:
    prior = dcgan.Config(width=2).build(SPEC, SIZE)
    prior.start([(codes(),)], [torch.arange(5)])
    moved_prior(prior)
    assert prior.live_share((moved(codes() % 2),)) == pytest.approx(0.4)


class Levels(nn.Module):
    """A tokenizer of mean grey levels."""

    spec = SPEC

    def encode(self, x: Tensor) -> Codes:
        return (((nn.functional.avg_pool2d(x, 4)[:, 0] + 1) * 2).round().long(),)


def test_encoding() -> None:
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = []
    for images in (x, moved(x)):
        cache: Any = Images(images)
        found.append(encoded._encode(Levels(), cache, lambda done, count: None, 0, None))  # type: ignore[arg-type]
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_the_pictures_of_a_report() -> None:
    x, tally = torch.zeros(1, 1, 32, 32), _Tally(SPEC)
    tally.add(moved(x), (moved(torch.zeros(1, 8, 8, dtype=torch.int64)),))
    assert tally.sums[0][0] == 64 * 127.5


class Images:
    def __init__(self, x: Tensor) -> None:
        self.x, self.subjects = x, [""] * len(x)

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: NDArray[np.int64]) -> Tensor:
        return self.x[torch.from_numpy(indices)]
