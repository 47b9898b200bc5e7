"""Learning-rate schedules, the weight average, and the optimiser's state as tensors."""

import math
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from brainvq.networks.transformer import Transformer
from brainvq.training.optimise import Average, OptimiserConfig, load_optimiser_state, optimiser_state


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_schedules_start_at_their_peak_and_end_where_they_should(schedule: Any, warmup: int) -> None:
    rate = OptimiserConfig(schedule=schedule, warmup=warmup).learning_rate
    rates = [rate(2e-3, step, 200) for step in range(200)]
    assert max(rates) == rates[warmup] == 2e-3
    assert all(value > 0 for value in rates)
    assert rates[:warmup] == pytest.approx([2e-3 * (step + 1) / max(1, warmup) for step in range(warmup)])
    after = rates[warmup:]
    assert after == sorted(after, reverse=True)
    assert rate(2e-3, 200, 200) == pytest.approx(2e-3 if schedule == "constant" else 0, abs=1e-15)
    if schedule != "constant":
        assert rates[-1] < 0.01 * 2e-3
        assert rate(2e-3, warmup + (200 - warmup) // 2, 200) == pytest.approx(1e-3, rel=0.01)


def test_the_cosine_is_a_cosine() -> None:
    rate = OptimiserConfig(schedule="cosine").learning_rate
    assert [rate(1.0, step, 4) for step in range(4)] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, 0.1464466])


def test_a_warmup_longer_than_the_training_is_no_error() -> None:
    rate = OptimiserConfig(schedule="cosine", warmup=100).learning_rate
    assert [rate(1.0, step, 3) for step in range(3)] == pytest.approx([0.01, 0.02, 0.03])


class Weights(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), value))
        self.register_buffer("statistics", torch.full((2,), value))
        self.register_buffer("updates", torch.tensor(0))
        self.updates: Tensor


def test_the_average_starts_at_the_weights_and_soon_forgets_them() -> None:
    """Against the recursion in float64, and: of the start (1000) nothing is left, long before 1 / (1 - decay) steps."""
    module = Weights(1000.0)
    average, expected = Average(module, 0.999), 1000.0
    assert torch.equal(average.module.weight, module.weight)
    for step in range(60):
        value = float(step % 2)
        nn.init.constant_(module.weight, value)
        module.updates += 1
        average.update(module, step)
        decay = min(0.999, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.module.weight.tolist() == pytest.approx([expected] * 3, rel=1e-4)
    assert abs(expected - 0.5) < 0.1
    assert int(average.module.updates) == 60
    assert average.module.statistics.tolist() == pytest.approx([1000.0] * 2)


def test_the_average_converges_and_keeps_its_decay_in_the_end() -> None:
    module = Weights(2.0)
    average = Average(Weights(0.0), 0.9)
    for step in range(300):
        average.update(module, step)
    assert average.module.weight.tolist() == pytest.approx([2.0] * 3, rel=1e-5)
    nn.init.constant_(module.weight, 3.0)
    average.update(module, 1000)
    assert average.module.weight.tolist() == pytest.approx([2.1] * 3, rel=1e-5)


def test_the_average_is_a_thing_of_its_own() -> None:
    module = Weights(1.0)
    average = Average(module, 0.9)
    assert not any(p.requires_grad for p in average.module.parameters())
    assert not average.module.training
    nn.init.constant_(module.weight, 5.0)
    assert average.module.weight.tolist() == [1.0] * 3
    assert module.weight.requires_grad


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3)).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def advance(module: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimiser.zero_grad()
        x = torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(step))
        module(x).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("name", ["adam", "adamw"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_state_goes_through_a_file_and_back_to_the_bit(name: Any, steps: int) -> None:
    config = OptimiserConfig(name=name, weight_decay=0.01)
    module = network()
    optimiser = config.build(module, 1e-2)
    advance(module, optimiser, range(steps))
    stored = save({key: value.contiguous() for key, value in optimiser_state(optimiser).items()})

    other = network()
    other.load_state_dict(module.state_dict())
    again = config.build(other, 1e-2)
    load_optimiser_state(again, load(stored))
    one, two = optimiser_state(optimiser), optimiser_state(again)
    assert one.keys() == two.keys()
    assert len(one) == (3 * len(list(module.parameters())) if steps else 0)
    assert all(torch.equal(value, two[key]) for key, value in one.items())

    advance(module, optimiser, range(steps, steps + 3))
    advance(other, again, range(steps, steps + 3))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_the_settings_stay_those_of_the_config() -> None:
    module = network()
    optimiser = OptimiserConfig().build(module, 1e-2)
    advance(module, optimiser, range(1))
    other = OptimiserConfig(epsilon=1e-7).build(module, 5e-2)
    load_optimiser_state(other, optimiser_state(optimiser))
    assert other.param_groups[0]["eps"] == 1e-7
    assert other.param_groups[0]["lr"] == 5e-2


def trunk(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    places = torch.arange(4.0)[:, None]
    return nn.ModuleDict(
        {"into": nn.Embedding(7, 8), "trunk": Transformer(8, 2, 2, 0.0, places), "out": nn.Linear(8, 7)}
    )


def advance_trunk(module: nn.Module, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimiser.zero_grad()
        codes = torch.randint(7, (4, 4), generator=torch.Generator().manual_seed(step))
        y = module["out"](module["trunk"](module["into"](codes), causal=True))  # type: ignore[index]
        nn.functional.cross_entropy(y.flatten(0, 1), codes.flatten()).backward()
        optimiser.step()


def test_muon_has_the_matrices_of_transformers_and_nothing_else() -> None:
    module = trunk()
    optimiser = OptimiserConfig(name="muon").build(module, 1e-2)
    adamw, muon = optimiser.param_groups
    assert {parameter.shape for parameter in muon["params"]} == {(24, 8), (8, 8), (32, 8), (8, 32)}
    assert len(muon["params"]) == 8
    assert len(adamw["params"]) + 8 == len(list(module.parameters()))
    before = module["trunk"].blocks[0].qkv.weight.detach().clone()  # type: ignore[index, union-attr]
    advance_trunk(module, optimiser, range(1))
    step = (module["trunk"].blocks[0].qkv.weight.detach() - before) / 1e-2  # type: ignore[index, union-attr]
    lengths = torch.linalg.svdvals(step)
    assert float(lengths.max() / lengths.median()) < 2  # orthogonal, nearly
    assert 0.1 < float(step.square().mean().sqrt()) < 0.4  # of the size of AdamW's


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_the_state_of_muon_goes_through_a_file_and_back_to_the_bit(steps: int) -> None:
    config = OptimiserConfig(name="muon", weight_decay=0.01)
    module, other = trunk(), trunk(1)
    optimiser = config.build(module, 1e-2)
    advance_trunk(module, optimiser, range(steps))
    stored = save({key: value.contiguous() for key, value in optimiser_state(optimiser).items()})
    other.load_state_dict(module.state_dict())
    again = config.build(other, 1e-2)
    load_optimiser_state(again, load(stored))
    advance_trunk(module, optimiser, range(steps, steps + 3))
    advance_trunk(other, again, range(steps, steps + 3))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_muon_without_a_transformer_is_adamw() -> None:
    one, two = network(), network()
    two.load_state_dict(one.state_dict())
    for module, name in ((one, "muon"), (two, "adamw")):
        advance(module, OptimiserConfig(name=name, weight_decay=0.1).build(module, 1e-2), range(3))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
