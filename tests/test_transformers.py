"""Autoregressive and MaskGIT beyond the contract: what is kept between codes, levels, conditions, sharpened draws."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from brainvq.codes import Codes, CodeSpec
from brainvq.config import part_config
from brainvq.errors import InputError
from brainvq.networks.transformer import attend, dropped, rotate, rotations
from brainvq.presets import preset
from brainvq.priors import autoregressive, maskgit
from brainvq.priors.autoregressive import Autoregressive
from brainvq.priors.base import Prior
from brainvq.priors.conditions import Categorical, Conditions, Given, Numeric, from_json, to_json, told
from brainvq.priors.drawing import PLAIN, Drawing
from brainvq.priors.likeness import FEATURES, likeness
from brainvq.priors.maskgit import MaskGIT
from brainvq.priors.sequence import all_around, coordinates, earlier_around

FLAT = CodeSpec((5,), ((2, 2),)), (8, 12)
TWO_LEVELS = CodeSpec((3, 5), ((4, 4), (2, 2))), (8, 8)
RESIDUAL = CodeSpec((4, 4), ((2, 2), (2, 2))), (6, 8)
SOLID = CodeSpec((4,), ((2, 2, 2),)), (4, 6, 4)
SPECS = [FLAT, TWO_LEVELS, RESIDUAL, SOLID]
AGE, SEX = Numeric(name="age", low=20, high=90), Categorical(name="sex", values=("F", "M"))
SMALL: dict[str, Any] = {"width": 24, "layers": 2, "heads": 2, "likeness": True}


def shaken(prior: Prior) -> Any:
    """Random weights, also where training starts from nothing."""
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(0.2 * torch.randn(weight.shape))
    return prior.eval()


def sequence(spec: CodeSpec, size: Sequence[int], conditions: Conditions = (), **settings: Any) -> Autoregressive:
    torch.manual_seed(0)
    found: Autoregressive = shaken(autoregressive.Config(**SMALL, **settings).build(spec, size, conditions))
    return found


def parallel(spec: CodeSpec, size: Sequence[int], conditions: Conditions = (), **settings: Any) -> MaskGIT:
    torch.manual_seed(0)
    found: MaskGIT = shaken(maskgit.Config(**SMALL, **settings).build(spec, size, conditions))
    return found


def random_codes(prior: Prior, batch: int, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    levels = zip(prior.spec.entries, prior.grids, strict=True)
    return tuple(torch.randint(entries, (batch, *grid), generator=generator) for entries, grid in levels)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@torch.no_grad()
def naive(prior: Autoregressive, seeds: Sequence[int], given: Given | None, drawing: Drawing) -> Codes:
    """By the whole network for each code."""
    prior = prior.double()
    uniform = torch.stack([torch.rand(prior.length, generator=generator) for generator in generators(*seeds)]).double()
    flat = torch.zeros(len(seeds), prior.length, dtype=torch.long)
    starts = list(itertools.accumulate(prior.lengths, initial=0))
    for level, (start, end) in enumerate(itertools.pairwise(starts)):
        for i in range(start, end):
            found = []
            for known in (given, None):
                codes = prior.spec.unflatten(flat, prior.size)
                x = prior.shown(prior.shown.ids(codes), prior.near) + prior.ground(len(seeds), known)
                found.append(prior.logits_of(prior.trunk(x, causal=True))[level][:, i - start])
            logits = found[1] + drawing.guidance * (found[0] - found[1])
            flat[:, i] = drawing.draw(logits, uniform[:, i])
    prior.float()
    return prior.spec.unflatten(flat, prior.size)


def given_for(prior: Prior, seed: int = 9) -> Given:
    values = torch.tensor([[0.2, 1.0], [0.9, 0.0], [math.nan, 1.0]])
    return Given(values, random_codes(prior, 3, seed) if prior.takes_previous else None)


@pytest.mark.parametrize("drawing", [PLAIN, Drawing(0.7, 3, 0.9, 2.5)], ids=["plain", "sharpened"])
@pytest.mark.parametrize("where", SPECS)
def test_what_is_kept_changes_nothing(where: tuple[CodeSpec, tuple[int, ...]], drawing: Drawing) -> None:
    prior = sequence(*where, (AGE, SEX), previous=True)
    given = given_for(prior)
    kept = prior.sample(generators(1, 2, 3), given, drawing)
    for one, other in zip(kept, naive(prior, (1, 2, 3), given, drawing), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("where", [*SPECS[:2], RESIDUAL])
def test_later_codes_never_influence_earlier_ones(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = sequence(*where)
    codes = random_codes(prior, 1)
    flat = prior.spec.flatten(codes)
    changed = flat.repeat(prior.length, 1)
    most = torch.cat([torch.full((n,), k) for n, k in zip(prior.lengths, prior.spec.entries, strict=True)])
    changed.diagonal().copy_((changed.diagonal() + 1) % most)
    with torch.no_grad():
        before, after = prior.log_probs(codes), prior.log_probs(prior.spec.unflatten(changed, prior.size))
    earlier = torch.ones(prior.length, prior.length).tril(-1).bool()
    torch.testing.assert_close(after[earlier], before.expand_as(after)[earlier], atol=1e-5, rtol=1e-5)
    later = ~earlier & ~torch.eye(prior.length).bool()
    assert (after != before.expand_as(after))[later].float().mean() > 0.9  # and all before are seen


def test_likelihoods_of_two_levels_sum_to_one() -> None:
    prior = sequence(CodeSpec((3, 2), ((2, 2), (1, 1))), (2, 2), (AGE,))
    every = torch.tensor(list(itertools.product(range(3), *[range(2)] * 4)))
    given = Given(torch.full((len(every), 1), 0.3))
    with torch.no_grad():
        total = prior.log_prob(prior.spec.unflatten(every, (2, 2)), given).exp().sum()
    torch.testing.assert_close(total, torch.tensor(1.0))


@pytest.mark.parametrize("where", SPECS)
def test_places_around_are_where_they_are_said_to_be(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    spec, size = where
    at, around, earlier = coordinates(spec, size), all_around(spec, size), earlier_around(spec, size)
    axes, total = spec.axes, len(at)
    levels = torch.cat([torch.full((math.prod(grid),), n) for n, grid in enumerate(spec.grids(size))])
    for i in range(total):
        own = [j for j in around[i, :-1].tolist() if j < total]
        step = torch.tensor(spec.strides[levels[i]]).float() / torch.tensor(spec.strides).amin(0)
        near = ((at - at[i]).abs() <= step + 1e-6).all(1) & (levels == levels[i])
        assert sorted(own) == near.nonzero().flatten().tolist()
        assert own.count(i) == 1
        assert around[i, 3**axes // 2] == i
        assert all(j < i or j == total for j in earlier[i].tolist())
        assert earlier[i, 0] == (i - 1 if i else total)
        over = int(around[i, -1])
        assert (over == total) == (levels[i] == 0)
        if over < total:
            half = torch.tensor(spec.strides[levels[over]]).float() / torch.tensor(spec.strides).amin(0) / 2
            assert levels[over] == levels[i] - 1
            assert ((at[over] - at[i]).abs() <= half).all()
    assert {*earlier[-1].tolist()} <= {*range(total + 1)}


def test_rotations_make_attention_a_function_of_distance() -> None:
    at = torch.tensor([[0.0, 0.0], [2.0, 3.0], [5.0, 1.0], [7.0, 4.0]])
    cos, sin = rotations(at, 16)
    q, k = (torch.randn(16).expand(4, 16) for _ in range(2))
    scores = rotate(q, cos, sin) @ rotate(k, cos, sin).T
    torch.testing.assert_close(scores[0, 1], scores[2, 3])
    assert not torch.isclose(scores[0, 1], scores[1, 0])
    torch.testing.assert_close(rotate(q, cos, sin).norm(dim=1), q.norm(dim=1))


@pytest.mark.parametrize("build", [sequence, parallel])
def test_conditions_matter_and_unknown_ones_do_not(build: Any) -> None:
    prior = build(*FLAT, (AGE, SEX), previous=True)
    codes = random_codes(prior, 3)
    nothing = Given(torch.full((3, 2), math.nan), tuple(torch.full_like(level, -1) for level in codes))
    torch.testing.assert_close(prior.bound(codes, nothing), prior.bound(codes, None))
    given = given_for(prior)
    alone = prior.bound(codes, Given(given.values))
    assert not torch.isclose(prior.bound(codes, given), alone).any()
    assert not torch.isclose(alone, prior.bound(codes, None)).any()
    each = torch.cat([prior.bound((codes[0][n : n + 1],), given[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(prior.bound(codes, given), each)


@pytest.mark.parametrize("build", [sequence, parallel])
def test_a_sample_with_conditions_is_a_function_of_its_generator(build: Any) -> None:
    prior = build(*FLAT, (AGE, SEX), previous=True)
    given, drawing = given_for(prior), Drawing(guidance=3.0)
    together = prior.sample(generators(3, 4, 5), given, drawing)
    alone = prior.sample(generators(4), given[1:2], drawing)
    assert torch.equal(together[0][1], alone[0][0])
    others = prior.sample(generators(3, 4, 5), Given(given.values.flip(0), given.previous), drawing)
    assert not torch.equal(together[0], others[0])


def learned(prior: Any, codes: Tensor, given: Given | None, steps: int = 150) -> Any:
    torch.manual_seed(1)
    prior.start([(codes,)], [torch.arange(prior.spec.entries[0])])
    optimiser = torch.optim.Adam(prior.train().parameters(), 5e-3)
    for step in range(steps):
        part = slice(step * 64 % len(codes), step * 64 % len(codes) + 64)
        optimiser.zero_grad()
        prior.loss((codes[part],), None if given is None else given[part]).backward()
        optimiser.step()
    return prior.eval()


@pytest.mark.parametrize("build", [sequence, parallel])
def test_conditions_are_learned_and_steer_samples(build: Any) -> None:
    """Codes 0 and 2 where young, 1 and 3 where old; what comes after is what stood in the slice before."""
    generator = torch.Generator().manual_seed(0)
    old = torch.randint(2, (512, 1, 1), generator=generator)
    codes = old + 2 * torch.randint(2, (512, 4, 4), generator=generator)
    given = Given(old[:, 0].float(), (codes.clone(),))  # the slice before is the slice itself
    prior = learned(build(CodeSpec((4,), ((2, 2),)), (8, 8), (AGE,), previous=True, misread=0.0), codes, given)
    with torch.no_grad():
        assert float(prior.bound((codes,), given).mean()) < 0.1
        assert 0.9 < float(prior.bound((codes,), None).mean()) < 1.2  # a bit each, and one for the image
    for age in (0.0, 1.0):
        (drawn,) = prior.sample(generators(*range(16)), Given(torch.full((16, 1), age)), Drawing(guidance=2.0))
        assert ((drawn % 2).float() - age).abs().mean() < 0.1
    (drawn,) = prior.sample(generators(*range(8)), given[:8])
    assert (drawn == codes[:8]).float().mean() > 0.9


def test_maskgit_learns_a_pattern_and_draws_it() -> None:
    """One bit fills the grid: in few steps, too, all codes agree."""
    bit = torch.randint(2, (512, 1, 1), generator=torch.Generator().manual_seed(0)).expand(-1, 4, 4)
    prior = learned(parallel(CodeSpec((2,), ((2, 2),)), (8, 8)), bit, None)
    (drawn,) = prior.sample(generators(*range(32)))
    share = drawn.float().mean((1, 2))
    assert float((2 * share - 1).abs().mean()) > 0.9
    assert 4 <= int((share > 0.5).sum()) <= 28


def test_the_bound_of_maskgit_bounds() -> None:
    """Where codes are fair coins, no order of them takes less than a bit each."""
    codes = torch.randint(2, (256, 4, 4), generator=torch.Generator().manual_seed(0))
    prior = learned(parallel(CodeSpec((2,), ((2, 2),)), (8, 8)), codes[:128], None, steps=30)
    bound = prior.bound((codes[128:],))
    assert bound.shape == (128,)
    assert float(bound.mean()) > 0.97
    assert torch.equal(bound, prior.bound((codes[128:],)))


@pytest.mark.parametrize("where", SPECS)
def test_what_is_kept_by_the_user_stays(where: tuple[CodeSpec, tuple[int, ...]]) -> None:
    prior = parallel(*where, steps=5)
    codes = random_codes(prior, 1)
    kept = torch.rand(prior.length, generator=torch.Generator().manual_seed(4)) < 0.5
    found = prior.spec.flatten(prior.fill(generators(0, 1), codes, kept))
    assert torch.equal(found[:, kept], prior.spec.flatten(codes)[:, kept].expand(2, -1))
    assert not torch.equal(found[0], found[1])
    everything = prior.fill(generators(0), codes, torch.ones_like(kept))
    assert all(torch.equal(one, other) for one, other in zip(everything, codes, strict=True))


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_maskgit_draws_every_code_in_any_number_of_steps(steps: int) -> None:
    prior = parallel(*FLAT, steps=steps)
    seen: list[Tensor] = []
    real = prior.logits

    def logits(flat: Tensor, hidden: Tensor, near: Tensor, ground: Tensor) -> list[Tensor]:
        seen.append(hidden.clone())
        return real(flat, hidden, near, ground)

    prior.logits = logits  # type: ignore[method-assign]
    prior.check(prior.sample(generators(0)))
    assert len(seen) <= steps
    left = [int(hidden.sum()) for hidden in seen]
    assert left[0] == prior.length
    assert all(a > b for a, b in itertools.pairwise([*left, 0]))


def test_sharpening_keeps_what_it_says() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert Drawing(top_k=2).sharpened(logits).softmax(-1)[0].tolist() == pytest.approx([0.625, 0.375, 0, 0])
    assert Drawing(top_p=0.6).sharpened(logits).isfinite()[0].tolist() == [True, True, False, False]
    assert Drawing(top_p=0.5).sharpened(logits).isfinite()[0].tolist() == [True, False, False, False]
    cold = Drawing(temperature=0.5).sharpened(logits).softmax(-1)[0]
    assert cold.tolist() == pytest.approx((torch.tensor([0.25, 0.09, 0.0225, 0.0025]) / 0.365).tolist())
    assert torch.equal(PLAIN.sharpened(logits), logits)
    uniform = torch.tensor([0.0, 0.49, 0.51, 0.79, 0.81, 0.96, 0.9999999])
    assert PLAIN.draw(logits.expand(7, 4), uniform).tolist() == [0, 0, 1, 1, 2, 3, 3]
    for wrong in ({"temperature": 0.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"guidance": -1.0}):
        (name,) = wrong
        with pytest.raises(InputError, match=rf"^{name} is .*; expected .*\.$"):
            Drawing(**wrong)


def test_wishes_are_refused_by_name_with_what_was_there() -> None:
    conditions = (AGE, SEX)
    row = told(conditions, {"age": "55", "sex": "M"})
    assert row.tolist() == [0.5, 1.0]
    assert told(conditions, {})[0].isnan()
    for wanted, said in (
        ({"ages": "55"}, r"no condition 'ages'.*age.*It knows age, sex"),
        ({"age": "old"}, r"age=old is no number\. Give age from 20 to 90"),
        ({"age": "nan"}, r"age=nan was never seen.*from 20 to 90"),
        ({"age": "95"}, r"age=95 was never seen in training\. Give age from 20 to 90"),
        ({"sex": "X"}, r"sex=X was never seen in training\. Give sex as one of F, M"),
    ):
        with pytest.raises(InputError, match=said):
            told(conditions, wanted)
    assert from_json(to_json(conditions)) == conditions
    with pytest.raises(InputError, match="damaged"):
        from_json([{"kind": "numeric"}])


def test_what_is_given_must_fit() -> None:
    prior = sequence(*FLAT, (AGE,))
    with pytest.raises(InputError, match=r"shape \(2, 2\); expected \(2, 1\)"):
        prior.sample(generators(0, 1), Given(torch.zeros(2, 2)))
    with pytest.raises(InputError, match=r"slice before.*prior\.previous=true"):
        prior.sample(generators(0, 1), Given(torch.zeros(2, 1), random_codes(prior, 2)))


@pytest.mark.parametrize("build", [sequence, parallel])
def test_training_forgets_conditions(build: Any) -> None:
    prior = build(*FLAT, (AGE,), forget=0.5).train()
    given = Given(torch.full((1000, 1), 0.5))
    share = float(prior.partly(1000, given).values.isnan().float().mean())
    assert 0.7 < share < 0.8  # one in two with all, and of the rest one in two alone
    assert prior.eval().partly(1000, given) is given


def test_training_misreads_some_of_the_slice_before_and_nothing_else() -> None:
    prior = sequence(*FLAT, (AGE,), previous=True, forget=0.0, misread=0.4).train()
    before = random_codes(prior, 1000)
    before[0][::10] = -1  # first slices
    given = Given(torch.full((1000, 1), 0.5), before)
    found = prior.partly(1000, given)
    assert found.previous is not None
    assert found.values.equal(given.values)
    wrong = (found.previous[0] != before[0]).double().mean((1, 2))
    first = before[0][:, 0, 0] < 0
    assert not wrong[first].any()
    assert found.previous[0][~first].min() >= 0
    beside = wrong[~first & ~first.roll(1)]
    assert 0.14 < float(beside.mean()) < 0.18  # of 0.2 on average, a fifth are replaced by themselves
    assert float(beside.max()) > 0.3
    assert prior.eval().partly(1000, given) is given


def test_what_is_learned_of_an_entry_is_learned_of_those_near_it() -> None:
    """Codes follow where the one before lies on a line; of pairs that training never showed, neighbours tell."""
    spec, size = CodeSpec((40,), ((2, 2),)), (2, 4)  # two codes
    random = torch.Generator().manual_seed(0)
    first = torch.randint(20, (2000,), generator=random) * 2  # even ones alone
    codes = torch.stack([first, (first + torch.randint(-1, 2, (2000,), generator=random)).clamp(0, 39)], 1)[:, None]
    odd = torch.arange(5, 35, 2)
    unseen = torch.stack([odd, odd], 1)[:, None]
    bits = []
    for vectors in ([torch.arange(40.0)[:, None]], None):
        prior = sequence(spec, size)
        prior.start([(codes,)], [torch.arange(40)], vectors)
        bits.append(float(learned(prior, codes, None).log_probs((unseen,))[:, 1].detach().mean()) / -math.log(2))
    assert bits[0] < bits[1] - 1.5


def test_likeness_is_of_live_entries_and_standard() -> None:
    vectors, live = torch.randn(50, 12), torch.arange(0, 50, 2)
    found = likeness(vectors, live)
    assert found.shape == (50, FEATURES)
    assert not found[1::2].any()
    assert found[live].mean(0).abs().max() < 0.1
    assert torch.allclose(found[live].std(0), torch.ones(FEATURES), atol=0.3)
    moved = likeness(3 * vectors + 7, live)  # neither where nor how large
    assert torch.allclose(moved.abs(), found.abs(), atol=1e-4)
    assert likeness(torch.ones(5, 3), torch.arange(5)).abs().max() == 0
    assert likeness(torch.randn(5, 1), torch.arange(5))[:, 2:].abs().max() == 0
    assert likeness(torch.randn(5, 3), torch.arange(1)).abs().max() == 0


@pytest.mark.parametrize("causal", [True, False])
def test_attention_in_bfloat16_is_that_of_the_library(causal: bool) -> None:
    exact = [torch.randn(2, 3, 40, 8).requires_grad_() for _ in range(3)]
    rounded = [each.detach().bfloat16().requires_grad_() for each in exact]
    theirs = F.scaled_dot_product_attention(*exact, is_causal=causal)
    ours = attend(*rounded, causal=causal)
    assert ours.dtype == torch.bfloat16
    assert float((ours.float() - theirs).detach().abs().max()) < 0.05
    weights = torch.randn_like(theirs)
    for result in (theirs, ours):
        (result.float() * weights).sum().backward()
    for mine, wanted in zip(rounded, exact, strict=True):
        assert float((mine.grad.float() - wanted.grad).norm() / wanted.grad.norm()) < 0.03


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    x = torch.ones(37, 41, 11, requires_grad=True)
    torch.manual_seed(0)
    y = dropped(x, share)
    gone = y == 0
    assert float(gone.float().mean()) == pytest.approx(share, abs=0.02)
    assert float(y.mean()) == pytest.approx(1, abs=0.02)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert grad.equal(y)
    torch.manual_seed(0)
    assert dropped(x, share).equal(y), "a run that is resumed draws the same"
    alike = float((gone[..., 1:] == gone[..., :-1]).float().mean())
    assert alike == pytest.approx(share**2 + (1 - share) ** 2, abs=0.02), "neighbours are drawn each by itself"
    assert dropped(x, 0.999).isfinite().all()


@pytest.mark.parametrize("name", ["autoregressive", "maskgit"])
def test_a_run_of_before_likeness_and_doubt_is_as_it_was(name: str) -> None:
    """What a stored configuration does not name is not done; what the preset has is."""
    part = part_config(f"priors.{name}").model_validate({"previous": True})
    assert (part.likeness, part.misread) == (False, 0.0)  # type: ignore[attr-defined]
    weights = part.build(*FLAT, (AGE,)).state_dict()  # type: ignore[attr-defined]
    assert not [key for key in weights if "shared" in key or "likeness" in key]
    new = preset(name).prior  # type: ignore[union-attr]
    assert (new.likeness, new.misread) == (True, 0.3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("build", [sequence, parallel])
def test_what_takes_codes_to_logits_is_told_as_one_matrix_too(build: Any) -> None:
    prior = build(*TWO_LEVELS)
    prior.start([random_codes(prior, 4)], [torch.arange(3), torch.arange(5)], [torch.randn(3, 2), torch.randn(5, 4)])
    y = torch.randn(2, prior.length, 24)
    for logits, table, part, level in zip(
        prior.logits_of(y), prior.frequencies.tables, torch.split(y, prior.lengths, dim=1), (0, 1), strict=True
    ):
        assert torch.allclose(F.linear(part, *prior.outward(level)) + table, logits, atol=1e-5)
