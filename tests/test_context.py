"""The context prior beyond the contract: levels, the slice before, whole numbers and what they cost."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from brainvq.codes import Codes, CodeSpec
from brainvq.config import override
from brainvq.errors import InputError
from brainvq.networks.whole import LIMIT, Whole, activated, shifted, whole
from brainvq.presets import preset
from brainvq.priors.conditions import Given, Numeric
from brainvq.priors.context import Config, Context
from brainvq.priors.drawing import Drawing
from brainvq.training.prior_experiment import PriorExperiment

FLAT = CodeSpec((5,), ((2, 2),)), (8, 12)
TWO_LEVELS = CodeSpec((3, 5), ((4, 4), (2, 2))), (8, 8)
RESIDUAL = CodeSpec((4, 4), ((2, 2), (2, 2))), (6, 8)
SOLID = CodeSpec((4,), ((2, 2, 2),)), (4, 6, 4)
SPECS = [FLAT, TWO_LEVELS, RESIDUAL, SOLID]
SMALL: dict[str, Any] = {"width": 24, "layers": 1, "dim": 6, "near": 12, "period": 2}


def shaken(spec: CodeSpec, size: Sequence[int], **settings: Any) -> Context:
    """With random weights, also where training starts from nothing."""
    torch.manual_seed(0)
    prior = Config(**{**SMALL, **settings}).build(spec, size)
    prior.start([random_codes(prior, 8, seed=1)], [torch.arange(entries) for entries in spec.entries])
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return prior.eval()


def random_codes(prior: Context, batch: int, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    levels = zip(prior.spec.entries, prior.grids, strict=True)
    return tuple(torch.randint(entries, (batch, *grid), generator=generator) for entries, grid in levels)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def given_of(previous: Codes | None, batch: int) -> Given:
    return Given(torch.zeros(batch, 0), previous)


@pytest.mark.parametrize("where", SPECS)
def test_codes_depend_on_earlier_passes_alone(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = shaken(*where)
    codes = random_codes(prior, 1)
    flat = prior.spec.flatten(codes)
    changed = flat.repeat(prior.length, 1)
    most = torch.cat([torch.full((code[0].numel(),), k) for code, k in zip(codes, prior.spec.entries, strict=True)])
    changed.diagonal().copy_((changed.diagonal() + 1) % most)
    with torch.no_grad():
        before, after = prior.log_probs(codes), prior.log_probs(prior.spec.unflatten(changed, prior.size))
    differs = after != before
    earlier = prior.passes[None] <= prior.passes[:, None]
    earlier.diagonal().fill_(False)
    assert not differs[earlier].any()
    levels = torch.cat([torch.full((code[0].numel(),), n) for n, code in enumerate(codes)])
    for one, other in itertools.pairwise(range(len(codes))):
        assert differs[levels == one][:, levels == other].any(1).all(), "each code of a level is seen by the next"


@pytest.mark.parametrize("previous", [False, True])
def test_likelihoods_of_two_levels_sum_to_one(previous: bool) -> None:
    prior = shaken(CodeSpec((3, 2), ((2, 2), (1, 1))), (2, 2), previous=previous)
    every = torch.tensor(list(itertools.product(range(3), *[range(2)] * 4)))
    before = tuple(level.expand(len(every), -1, -1) for level in random_codes(prior, 1))
    with torch.no_grad():
        codes = prior.spec.unflatten(every, (2, 2))
        total = prior.log_prob(codes, given_of(before if previous else None, len(every))).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


def test_the_slice_before_is_told_and_its_lack_is_one_thing() -> None:
    prior = shaken(*TWO_LEVELS, previous=True)
    codes, before = random_codes(prior, 3), random_codes(prior, 3, seed=5)
    nothing = tuple(torch.full_like(level, -1) for level in codes)
    with torch.no_grad():
        alone = prior.log_probs(codes)
        assert torch.equal(alone, prior.log_probs(codes, given_of(None, 3)))
        assert torch.equal(alone, prior.log_probs(codes, given_of(nothing, 3)))
        assert (prior.log_probs(codes, given_of(before, 3)) != alone).float().mean() > 0.9
    assert prior.takes_previous
    assert not shaken(*FLAT).takes_previous
    with pytest.raises(InputError, match=r"prior\.previous=true"):
        shaken(*FLAT).sample(generators(0), given_of(random_codes(shaken(*FLAT), 1), 1))


def test_training_forgets_slices_before_and_validation_does_not() -> None:
    prior = shaken(*FLAT, previous=True, forget=0.5, dropout=0.0)
    codes, before = random_codes(prior, 16), random_codes(prior, 16, seed=5)
    given = given_of(before, 16)
    with torch.no_grad():
        told, alone = prior.bound(codes, given), prior.bound(codes)
        assert torch.equal(prior.loss(codes, given), told.mean())
        prior.train()
        torch.manual_seed(1)
        assert min(told.mean(), alone.mean()) < prior.loss(codes, given) < max(told.mean(), alone.mean())


def copied(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Slices (N, 8, 8) of 6 entries at random, and ones that are copies of them at nine codes of ten."""
    generator = torch.Generator().manual_seed(seed)
    before, noise = torch.randint(6, (2, images, 8, 8), generator=generator)
    kept = torch.rand(images, 8, 8, generator=generator) < 0.9
    return before, torch.where(kept, before, noise)


@torch.enable_grad()
def learned(*, rounded: bool) -> Context:
    torch.manual_seed(0)
    before, now = copied(512, seed=0)
    prior = Config(**SMALL, previous=True, dropout=0.0).build(CodeSpec((6,), ((1, 1),)), (8, 8))
    prior.start([(now,)], [torch.arange(6)])
    round_to_whole(prior, rounded)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for step in range(150):
        part = slice(step * 32 % 512, step * 32 % 512 + 32)
        optimiser.zero_grad()
        prior.loss((now[part],), given_of((before[part],), 32)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return prior.eval()


def round_to_whole(prior: Context, rounded: bool) -> None:
    for module in prior.modules():
        if isinstance(module, Whole):
            module.rounded = rounded


def test_whole_numbers_cost_next_to_nothing() -> None:
    before, now = copied(256, seed=1)
    entropy = -(0.9 + 0.1 / 6) * torch.tensor(0.9 + 0.1 / 6).log2() - 5 * 0.1 / 6 * torch.tensor(0.1 / 6).log2()
    bits = {}
    with torch.no_grad():
        for rounded in (True, False):
            prior = learned(rounded=rounded)
            bits[rounded] = float(prior.loss((now,), given_of((before,), 256)))
            if rounded:
                round_to_whole(prior, False)
                bits["the same without"] = float(prior.loss((now,), given_of((before,), 256)))
    assert bits[True] < 1.01 * bits[False]
    assert bits[True] < 1.01 * bits["the same without"]
    assert bits[True] < 1.2 * float(entropy)


def test_every_weight_learns() -> None:
    prior = shaken(*TWO_LEVELS, previous=True).train()
    prior.loss(random_codes(prior, 4), given_of(random_codes(prior, 4, seed=3), 4)).backward()  # type: ignore[no-untyped-call]
    still = [name for name, weight in prior.named_parameters() if weight.numel() and not weight.grad.any()]
    assert not still


def test_whole_numbers_are_whole_and_bounded() -> None:
    x = torch.tensor([-9.0, -0.26, -0.25, 0.0, 0.3, 1e9], requires_grad=True)
    steps = whole(x, 2)
    assert steps.tolist() == [-36, -1, -1, 0, 1, 127]
    steps.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [4, 4, 4, 4, 4, 0]
    sums = torch.tensor([-5.0, 3.0, 4.0, 11.0, 12.0, LIMIT - 16])
    assert activated(sums, 3).tolist() == [0, 0, 1, 1, 2, 255]
    assert shifted(sums, 3).tolist() == [-1, 0, 0, 1, 1, LIMIT // 8 - 2]


def test_drawing_follows_what_is_given() -> None:
    prior = learned(rounded=True)
    before, _ = copied(8, seed=4)
    (plain,) = prior.sample(generators(*range(8)), given_of((before,), 8))
    (sharp,) = prior.sample(generators(*range(8)), given_of((before,), 8), Drawing(temperature=0.1))
    (guided,) = prior.sample(generators(*range(8)), given_of((before,), 8), Drawing(guidance=3.0))
    assert (plain == before).float().mean() > 0.85
    assert (sharp == before).float().mean() > 0.99
    assert (guided == before).float().mean() > (plain == before).float().mean()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dim": 40, "near": 30}, r"prior\.dim or prior\.near"),
        ({"dim": 20, "near": 30, "previous": True}, r"prior\.dim or prior\.near"),
        ({"period": 5}, r"prior\.period"),
    ],
)
def test_what_cannot_be_exact_or_quick_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Config(**{**SMALL, **settings}).build(*SOLID)
    with pytest.raises(InputError, match="takes no conditions"):
        Config(**SMALL).build(*FLAT, (Numeric(name="age", low=0, high=1),))
    with pytest.raises(InputError, match="logits"):
        Config(**SMALL).build(CodeSpec((1 << 14,), ((1, 1),)), (128, 128))
    with pytest.raises(InputError, match=r"16,384 each.*smaller codebook"):
        Config(**SMALL).build(CodeSpec(((1 << 14) + 1,), ((1, 1),)), (2, 2))
    with pytest.raises(InputError, match="places"):
        Config(**SMALL).build(CodeSpec((1,), ((1, 1),)), (2048, 2048))


def test_both_presets_build() -> None:
    for name, previous in (("context", False), ("context_previous", True)):
        experiment = override(preset(name), ["train.steps=2"])
        assert isinstance(experiment, PriorExperiment)
        prior = experiment.prior.build(CodeSpec((128,), ((8, 8),)), (256, 256))
        assert prior.takes_previous == previous
