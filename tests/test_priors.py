"""Every file of priors/ keeps the contract of base.py; a new one is held to it without a line here."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from brainvq.codes import CodeSpec
from brainvq.config import kinds, part_config
from brainvq.errors import InputError
from brainvq.priors.base import Prior, PriorConfig

TRANSFORMER: dict[str, Any] = {"width": 16, "layers": 2, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "priors.pixelcnn": {"width": 16, "layers": 2, "kernel": 3, "head": 16},
    "priors.autoregressive": TRANSFORMER,
    "priors.maskgit": TRANSFORMER,
    "priors.context": {"width": 24, "layers": 1, "dim": 4, "near": 24},
}
INDEPENDENT = {"priors.histogram"}
"""These know each position alone, and learn a pattern no better than that."""

SIDE = 16
"""Of the grids below; some priors need a multiple."""


def build(kind: str, entries: int, height: int, width: int) -> Prior:
    """A small one for a grid of height x width, that has seen random codes and whose weights are random."""
    torch.manual_seed(0)
    config = part_config(kind)(kind=kind, **SMALL.get(kind, {}))
    assert isinstance(config, PriorConfig)
    prior = config.build(CodeSpec((entries,), ((2, 2),)), (2 * height, 2 * width))
    prior.start([random_codes(prior, 8, seed=seed) for seed in (1, 2)], [torch.arange(entries)])
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return prior.eval()


def random_codes(prior: Prior, batch: int, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    levels = zip(prior.spec.entries, prior.grids, strict=True)
    return tuple(torch.randint(entries, (batch, *grid), generator=generator) for entries, grid in levels)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def likely(kind: str) -> bool:
    return build(kind, 3, SIDE, SIDE).has_likelihood


def all_likelihoods_sum_to_one(prior: Prior) -> None:
    """`prior` is one of 2 x 2 binary codes."""
    every = torch.tensor(list(itertools.product(range(2), repeat=4))).view(16, 2, 2)
    with torch.no_grad():
        torch.testing.assert_close(prior.log_prob((every,)).exp().sum(), torch.tensor(1.0))


def later_codes_never_influence_earlier_ones(prior: Prior) -> None:
    codes = random_codes(prior, 1)
    flat = prior.spec.flatten(codes)
    changed = flat.repeat(prior.length, 1)
    changed.diagonal().copy_((changed.diagonal() + 1) % prior.spec.entries[0])
    with torch.no_grad():
        before, after = prior.log_probs(codes), prior.log_probs(prior.spec.unflatten(changed, prior.size))
    earlier = prior.passes[None] <= prior.passes[:, None]  # or at the same time: [changed, looked at]
    earlier.diagonal().fill_(False)
    torch.testing.assert_close(after[earlier], before.expand_as(after)[earlier], atol=1e-5, rtol=1e-5)
    assert (after.diagonal() != before[0]).any()


def a_sample_is_a_function_of_its_generator(prior: Prior) -> None:
    together = prior.sample(generators(3, 4, 5))
    for one, other in zip(together, prior.sample(generators(3, 4, 5)), strict=True):
        assert torch.equal(one, other)
    for place, seed in ((0, 3), (2, 5)):
        for batch, alone in zip(together, prior.sample(generators(seed)), strict=True):
            assert torch.equal(batch[place], alone[0])
    assert any(not torch.equal(level[0], level[1]) for level in together)


@pytest.fixture(params=kinds("priors"))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def prior(kind: str) -> Prior:
    return build(kind, 5, SIDE, SIDE)


@pytest.fixture
def likely_kind(kind: str) -> str:
    if not likely(kind):
        pytest.skip("has no likelihood")
    return kind


def test_all_likelihoods_sum_to_one(likely_kind: str) -> None:
    all_likelihoods_sum_to_one(build(likely_kind, 2, 2, 2))


@pytest.mark.parametrize("grid", [(4, 4), (3, 6), (6, 3), (1, 5), (5, 1)])
def test_later_codes_never_influence_earlier_ones(likely_kind: str, grid: tuple[int, int]) -> None:
    later_codes_never_influence_earlier_ones(build(likely_kind, 5, *grid))


def test_likelihoods_are_of_the_codes_that_are_sampled(likely_kind: str) -> None:
    """How often each of the 16 grids is drawn is how probable it is said to be."""
    prior = build(likely_kind, 2, 2, 2)
    drawn = prior.sample(generators(*range(4000)))[0].flatten(1)
    counts = torch.bincount((drawn * 2 ** torch.arange(4)).sum(1), minlength=16)
    every = (torch.arange(16)[:, None] >> torch.arange(4)) & 1
    with torch.no_grad():
        expected = prior.log_prob((every.view(16, 2, 2),)).exp() * 4000
    assert float(((counts - expected).square() / expected).sum()) < 45  # chi squared, 15 degrees: p = 1e-4


def test_bits_are_those_of_the_nats(likely_kind: str) -> None:
    prior = build(likely_kind, 5, 4, 4)
    codes = random_codes(prior, 3)
    with torch.no_grad():
        nats = prior.log_probs(codes)
        assert nats.shape == (3, 16)
        assert nats.dtype == torch.float32
        torch.testing.assert_close(prior.log_prob(codes), nats.sum(1))
        torch.testing.assert_close(prior(codes), -nats.mean() / math.log(2))


def test_the_neighbours_in_a_batch_do_not_matter(likely_kind: str) -> None:
    prior = build(likely_kind, 5, 4, 4)
    codes = random_codes(prior, 3)
    with torch.no_grad():
        alone = torch.cat([prior.log_probs((codes[0][n : n + 1],)) for n in range(3)])
        torch.testing.assert_close(prior.log_probs(codes), alone, atol=1e-5, rtol=1e-5)


def test_a_sample_is_a_function_of_its_generator(prior: Prior) -> None:
    a_sample_is_a_function_of_its_generator(prior)


def test_the_order_of_entries_is_kept(kind: str) -> None:
    prior = build(kind, 5, SIDE, SIDE)
    order = torch.tensor([3, 0, 4])
    prior = type(prior)(prior.config, prior.spec, prior.size)  # type: ignore[call-arg, arg-type]
    prior.start([tuple(order[level % 3] for level in random_codes(prior, 4))], [order])
    assert torch.equal(prior.orders[0], order)


def test_samples_are_codes_of_the_tokenizer(prior: Prior) -> None:
    samples = prior.sample(generators(0, 1))
    prior.check(samples)
    assert all(len(level) == 2 for level in samples)
    assert not any(level.is_inference() for level in samples)


def test_sampling_changes_nothing(prior: Prior) -> None:
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    random = torch.random.get_rng_state()
    prior.sample(generators(0))
    assert all(torch.equal(before[name], value) for name, value in prior.state_dict().items())
    assert torch.equal(random, torch.random.get_rng_state())


def test_its_state_is_all_there_is(kind: str, prior: Prior) -> None:
    """A copy made from the state alone, never started, samples alike."""
    config = part_config(kind)(kind=kind, **SMALL.get(kind, {}))
    assert isinstance(config, PriorConfig)
    copy = config.build(prior.spec, prior.size).eval()
    copy.load_state_dict(prior.state_dict())
    for one, other in zip(prior.sample(generators(7)), copy.sample(generators(7)), strict=True):
        assert torch.equal(one, other)


def test_its_shapes_are_known_before_memory_is_taken(kind: str, prior: Prior) -> None:
    """As a run folder is opened: its weights are held against these shapes first."""
    config = part_config(kind)(kind=kind, **SMALL.get(kind, {}))
    assert isinstance(config, PriorConfig)
    with torch.device("meta"):
        bare = config.build(prior.spec, prior.size)
    shapes = [{name: value.shape for name, value in one.state_dict().items()} for one in (bare, prior)]
    assert shapes[0] == shapes[1]
    assert all(value.is_meta for value in bare.state_dict().values())


def test_codes_of_another_tokenizer_or_size_are_refused(prior: Prior) -> None:
    grid = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    refused: dict[tuple[str, ...], tuple[Tensor, ...]] = {
        (f"(8, {SIDE})", f"({SIDE}, {SIDE})"): (grid[:, :8],),
        ("2 levels", "has 1"): (grid, grid),
        ("0..5", "0..4"): (grid.scatter(2, torch.zeros_like(grid), 5),),
        ("torch.int32", "torch.int64"): (grid.int(),),
    }
    for names, codes in refused.items():
        for refuse in [prior.check, *([prior.log_probs] if prior.has_likelihood else [])]:
            with pytest.raises(InputError) as error:
                refuse(codes)
            assert all(name in str(error.value) for name in names)


NOISE = 0.11
"""Half a bit."""


def planted(images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes (N, 4, 4) of 4 entries: one random bit fills the grid, noise adds 2 to some; and their nats (N,).

    So an image has 1 + 16 h(NOISE) bits; position by position it seems to have 16 (1 + h(NOISE)).
    """
    generator = torch.Generator().manual_seed(seed)
    bit = torch.randint(2, (images, 1, 1), generator=generator)
    noise = (torch.rand(images, 4, 4, generator=generator) < NOISE).long()
    nats = noise.sum((1, 2)) * math.log(NOISE) + (1 - noise).sum((1, 2)) * math.log(1 - NOISE) - math.log(2)
    return bit + 2 * noise, nats


def learn(prior: Prior, code: Tensor, steps: int = 120) -> None:
    prior.start([(code,)], [torch.arange(4)])
    if list(prior.parameters()):  # a table of counts has none
        optimiser = torch.optim.Adam(prior.train().parameters(), 5e-3)
        for step in range(steps):
            optimiser.zero_grad()
            prior.loss((code[step * 64 % len(code) :][:64],)).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    prior.eval()


def test_a_planted_pattern_is_learned_to_its_entropy(likely_kind: str) -> None:
    prior = build(likely_kind, 4, 4, 4)
    learn(prior, planted(1024, seed=0)[0])
    code, nats = planted(1024, seed=1)
    entropy = float(-nats.mean()) / 16 / math.log(2)
    if likely_kind in INDEPENDENT:
        entropy += 15 / 16  # the bit, anew at each position
    with torch.no_grad():
        assert entropy - 0.005 < float(prior.loss((code,))) < entropy + 0.03
    share = ((prior.sample(generators(*range(64)))[0] % 2).float().mean((1, 2)) * 2 - 1).abs().mean()
    assert (float(share) < 0.5) if likely_kind in INDEPENDENT else (float(share) > 0.97)
