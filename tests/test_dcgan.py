"""The DCGAN over code indices: its layers, indices as greys and back, and the step that trains both networks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from brainvq.codes import Codes, CodeSpec
from brainvq.errors import InputError
from brainvq.priors import histogram
from brainvq.priors.dcgan import DCGAN, Config, Greys, Handling
from brainvq.training import adversarial
from brainvq.training.adversarial import AdversarialTask
from brainvq.training.devices import accelerator
from brainvq.training.labelled import Labelled
from brainvq.training.loop import Loop, TrainConfig
from brainvq.training.optimise import OptimiserConfig
from brainvq.training.prior import Config as LikelihoodConfig


def spec(entries: int = 16, levels: int = 1) -> CodeSpec:
    return CodeSpec((entries,) * levels, ((8, 8),) * levels)


def built(side: int = 16, entries: int = 16, levels: int = 1, **settings: Any) -> DCGAN:
    torch.manual_seed(0)
    return Config(**{"width": 2, "latent": 8, **settings}).build(spec(entries, levels), (8 * side, 8 * side))


def convolutions(network: nn.Module) -> list[tuple[int, int, tuple[int, ...]]]:
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [(m.in_channels, m.out_channels, m.kernel_size) for m in network.modules() if isinstance(m, kinds)]


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(first, first + count)]


# networks


def test_at_64_x_64_codes_the_layers_are_those_described() -> None:
    prior = Config().build(CodeSpec((512,), ((4, 4),)), (256, 256))
    widths = [(100, 512), (512, 256), (256, 128), (128, 64), (64, 1)]
    assert convolutions(prior.generator) == [(a, b, (4, 4)) for a, b in widths]
    widths = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    assert convolutions(prior.discriminator) == [(a, b, (4, 4)) for a, b in widths]
    normalised = [m.num_features for m in prior.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    assert normalised == [64, 128, 256, 512], "its first layer too"
    assert {m.negative_slope for m in prior.discriminator.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    kernels = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64)
    rest = 3 * (512 + 256 + 128 + 64) + 1  # biases, and scale and shift of the normalisation
    assert sum(p.numel() for p in prior.generator.parameters()) == kernels + rest


def test_greys_are_float32_whatever_the_rest_is_trained_in() -> None:
    """Of 512 entries two neighbours have one grey in bf16."""
    prior = built(16, 512)
    prior.start([(torch.arange(512).view(2, 16, 16),)], [torch.arange(512)])
    first, neighbour = (prior.to_image((torch.full((1, 16, 16), entry),)) for entry in (509, 510))
    assert torch.equal(first.bfloat16(), neighbour.bfloat16())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        made = prior.generator(prior.noise(generators(2)))
        seen: list[Tensor] = []
        prior.discriminator.layers[1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        prior.discriminator(first), prior.discriminator(neighbour)
    assert not torch.equal(*seen)
    assert made.dtype == torch.float32
    assert not torch.equal(made, made.bfloat16().float())


@pytest.mark.parametrize(
    ("grid", "widths"),
    [
        ((4, 4), []),
        ((8, 8), [512]),
        ((32, 32), [512, 256, 128]),
        ((16, 64), [512, 256]),
        ((128, 128), [512, 256, 128, 64, 64]),
    ],
)
def test_the_number_of_stages_follows_the_grid(grid: tuple[int, int], widths: list[int]) -> None:
    prior = Config().build(spec(), [8 * side for side in grid])
    made = prior.generator(torch.randn(2, 100))
    assert made.shape == (2, 1, *grid)
    assert made.abs().max() <= 1
    assert prior.discriminator(made).shape == (2,)
    assert [out for _, out, _ in convolutions(prior.generator)] == [*widths, 1]
    assert [out for _, out, _ in convolutions(prior.discriminator)] == [*widths[::-1], 1]


@pytest.mark.parametrize(
    ("codes", "size", "said"),
    [
        (spec(), (256, 208), r"\(32, 26\).*sides are 4, 8, 16"),
        (spec(), (16, 16), r"\(2, 2\).*sides"),
        (spec(), (96, 96), r"\(12, 12\).*sides"),
        (CodeSpec((8, 8), ((8, 8), (4, 4))), (64, 64), r"\(8, 8\), \(16, 16\).*equal grids"),
        (CodeSpec((8,), ((8, 8, 8),)), (64, 64, 64), "two axes"),
    ],
)
def test_other_grids_are_refused(codes: CodeSpec, size: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Config().build(codes, size)


# indices as greys


def learned(entries: int, handling: Handling, seed: int, live: int) -> tuple[Greys, Tensor, Tensor]:
    """With use that falls like 1, 1/2, 1/4 ... in a random order of a random part of the entries."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(entries, generator=generator)[:live]
    counts = torch.zeros(entries, dtype=torch.int64)
    counts[order[torch.randperm(live, generator=generator)]] = 1 + (2.0**40 / 2.0 ** torch.arange(live)).long()
    greys = Greys(entries, handling)
    greys.learn(counts, order)
    return greys, counts, order


@pytest.mark.parametrize(("entries", "live"), [(1, 1), (2, 1), (2, 2), (16, 5), (128, 128), (8192, 8192), (8192, 700)])
def test_ordered_is_exact_on_the_way_back_for_every_live_entry(entries: int, live: int) -> None:
    greys, _, order = learned(entries, "ordered", 0, live)
    assert torch.equal(greys.back(greys(order)), order)
    assert bool((greys(order).diff() > 0).all()), "brighter entries are brighter"
    assert float(greys(order).max()) == 1
    assert float(greys(order).min()) == (-1 if live > 1 else 1)


def test_a_bin_is_half_an_equal_share_and_half_the_share_of_use_wide() -> None:
    greys, counts, order = learned(16, "ordered", 1, 5)
    fine = torch.linspace(-1, 1, 200_001)
    found = torch.bincount(greys.back(fine), minlength=16) / len(fine)
    assert torch.allclose(found[order], (1 / 5 + counts[order] / counts.sum()) / 2, atol=2e-5)


def test_labels_mean_nothing_where_entries_are_ordered() -> None:
    """Renamed entries make the same image."""
    _, counts, order = learned(16, "ordered", 2, 9)
    names = torch.randperm(16, generator=torch.Generator().manual_seed(7))
    code = order[torch.randint(9, (3, 4, 4), generator=torch.Generator().manual_seed(8))]
    one, two = Greys(16, "ordered"), Greys(16, "ordered")
    one.learn(counts, order)
    two.learn(torch.zeros_like(counts).index_put_((names,), counts), names[order])
    assert torch.equal(one(code), two(names[code]))


@pytest.mark.parametrize("handling", ["ordered", "raw_indices"])
def test_only_entries_of_the_train_split_are_made_and_others_can_be_shown(handling: Handling) -> None:
    greys, counts, order = learned(16, handling, 3, 5)
    outside = torch.tensor([-torch.inf, -2.0, 2.0, torch.inf])
    made = greys.back(torch.cat([torch.linspace(-1, 1, 1001), outside]))
    assert set(made.tolist()) == set(order.tolist())
    unseen = (counts == 0).nonzero().flatten()
    assert bool((greys(unseen).abs() <= 1).all())
    if handling == "ordered":
        assert set(greys.back(greys(unseen)).tolist()) == {int(order[2])}, "the middle one"


def test_raw_indices_are_as_described_and_not_exact() -> None:
    greys, _, order = learned(16, "raw_indices", 4, 5)
    assert torch.allclose(greys(torch.arange(16)), torch.linspace(-1, 1, 16))
    fine = torch.linspace(-1, 1, 10_001)
    assert torch.bincount(greys.back(fine))[order].tolist() == pytest.approx([2000] * 5, abs=2)
    assert bool((greys.back(fine).diff() >= 0).all())
    few, _, order = learned(16, "raw_indices", 5, 4)
    assert not torch.equal(few.back(few(order)), order)
    full, _, order = learned(16, "raw_indices", 4, 16)
    assert torch.equal(full.back(full(order)), order)


def test_levels_are_channels() -> None:
    prior = built(levels=2)
    codes = tuple(torch.randint(16, (3, 16, 16)) for _ in range(2))
    prior.start([codes], [torch.arange(16).flip(0), torch.randperm(16)])
    image = prior.to_image(codes)
    assert image.shape == (3, 2, 16, 16)
    assert all(map(torch.equal, prior.to_codes(image), codes))
    assert torch.equal(image[:, 0], prior.levels[0](codes[0]))
    assert [tuple(code.shape) for code in prior.sample(generators(2))] == [(2, 16, 16)] * 2


# the contract of a prior


def planted(count: int, seed: int = 0) -> Codes:
    """A dark half and a bright one, left and right or the other way round, within a frame; indices in no order."""
    generator = torch.Generator().manual_seed(seed)
    turned = torch.randint(2, (count, 1, 1), generator=generator)
    code = torch.where((torch.arange(16) < 8) ^ (turned == 1), 9, 4).expand(count, 16, 16)
    framed = torch.full((count, 16, 16), 12)
    framed[:, 2:14, 2:14] = code[:, 2:14, 2:14]
    return (framed,)


ORDER = torch.tensor([4, 12, 9])


def started(**settings: Any) -> DCGAN:
    prior = built(**settings)
    prior.start([planted(40), planted(24, 1)], [ORDER])
    return prior


def test_counts_of_all_batches_are_seen() -> None:
    one, two = built(), built()
    codes = planted(64)[0]
    one.start([(codes,)], [ORDER])
    two.start([(part,) for part in torch.split(codes, 10)], [ORDER])
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_a_sample_is_a_function_of_its_own_generator_alone() -> None:
    prior = started().train()
    before = {name: value.clone() for name, value in prior.state_dict().items()}
    (together,) = prior.sample(generators(5))
    assert prior.generator.training
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items()), "reading is pure"
    for seed in range(5):
        assert torch.equal(prior.sample(generators(1, seed))[0][0], together[seed])
    assert set(torch.unique(together).tolist()) <= set(ORDER.tolist())


def test_weights_carry_the_greys_and_their_shapes_know_no_data() -> None:
    prior = started()
    stored = load(save({name: value.contiguous() for name, value in prior.state_dict().items()}))
    other = built()
    other.load_state_dict(stored)
    assert torch.equal(other.sample(generators(3))[0], prior.sample(generators(3))[0])
    assert torch.equal(other.to_image(planted(4)), prior.to_image(planted(4)))


def test_codes_of_another_grid_or_codebook_are_refused() -> None:
    for codes in (torch.zeros(1, 8, 8, dtype=torch.int64), torch.full((1, 16, 16), 16)):
        with pytest.raises(InputError, match=r"codes\[0\]"):
            built().to_image((codes,))


def test_a_gan_has_no_likelihood_and_says_so() -> None:
    prior = built()
    assert not prior.has_likelihood
    for ask in (prior.loss, prior.log_prob, prior.log_probs):
        with pytest.raises(InputError, match=r"no likelihood.*training\.adversarial"):
            ask(planted(2))


# training


def task_of(prior: DCGAN, precision: Any = "fp32", learning_rate: float = 2e-3, **settings: Any) -> AdversarialTask:
    config = adversarial.Config(optimiser=OptimiserConfig(betas=(0.5, 0.999), **settings))
    return config.build(prior, accelerator(precision), learning_rate=learning_rate)


def test_it_trains_this_prior_alone() -> None:
    table = histogram.Config().build(spec(), (128, 128))
    with pytest.raises(InputError, match=r"Histogram has none.*training\.prior"):
        adversarial.Config().build(table, accelerator("fp32"), learning_rate=1e-3)
    task = LikelihoodConfig().build(started(), accelerator("fp32"), learning_rate=1e-3)
    with pytest.raises(InputError, match="no likelihood"):
        task.step(Labelled(planted(2), None), 0, 1)


def test_the_settings_are_the_described_ones() -> None:
    assert adversarial.Config().optimiser.betas == (0.5, 0.999)
    assert adversarial.Config().optimiser.name == "adam"


def test_one_step_is_one_of_each_network_against_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, with plain Adam: the discriminator first, then the generator against the discriminator as it is then."""
    task, by_hand = task_of(started()), started().train()
    networks = {"generator": by_hand.generator, "discriminator": by_hand.discriminator}
    adam = {name: torch.optim.Adam(n.parameters(), lr=2e-3, betas=(0.5, 0.999)) for name, n in networks.items()}
    judge = by_hand.discriminator
    for step in range(3):
        torch.manual_seed(step)
        terms = task.step(Labelled(planted(8, step), None), step, 3)
        torch.manual_seed(step)
        image, made = by_hand.to_image(planted(8, step)), by_hand.generator(torch.randn(8, 8))
        real, fake = judge(image).sigmoid(), judge(made.detach()).sigmoid()
        loss = -real.log().mean() - (1 - fake).log().mean()
        adam["discriminator"].zero_grad()
        loss.backward()
        adam["discriminator"].step()
        answer = -judge(made).sigmoid().log().mean()
        adam["generator"].zero_grad()
        answer.backward()
        adam["generator"].step()
        expected = {"discriminator": loss, "generator": answer, "loss": loss + answer}
        expected |= {"real": real.mean(), "fake": fake.mean()}
        assert terms.keys() == expected.keys()
        for name, value in expected.items():
            assert float(terms[name]) == pytest.approx(value.item(), rel=1e-3), (name, step)
            assert not terms[name].requires_grad
    for name, value in by_hand.named_parameters():
        if value.ndim == 4:  # a bias before a normalisation does nothing, and follows rounding errors
            assert torch.allclose(task.prior.get_parameter(name), value, atol=2e-4), name
    assert all(p.requires_grad for p in task.prior.parameters())


def test_validation_reports_the_weights_that_are_handed_out_in_float32() -> None:
    task = task_of(started(width=8), "bf16", average=0.9)
    for step in range(8):
        task.step(Labelled(planted(8, step), None), step, 8)
    state = torch.get_rng_state()
    measures = task.validate([Labelled(planted(8), None), Labelled(planted(3), None)])
    assert torch.equal(torch.get_rng_state(), state)
    assert measures.keys() == {"live_share", "discriminator_real", "discriminator_fake", "score"}
    assert 0 < measures["discriminator_real"] < 1
    assert 0 < measures["discriminator_fake"] < 1
    handed = built(width=8)
    handed.load_state_dict(task.weights())
    samples = handed.sample(generators(64))
    assert measures["live_share"] == pytest.approx(len(torch.unique(samples[0])) / 3)
    image = handed.eval().to_image(planted(11))
    assert image.dtype == torch.float32
    with torch.no_grad():
        expected = torch.cat([handed.discriminator(handed.to_image(c)) for c in (planted(8), planted(3))])
    assert measures["discriminator_real"] == pytest.approx(float(expected.sigmoid().mean()), rel=1e-4)


def test_an_average_is_kept_of_the_generator_alone() -> None:
    task = task_of(started(), average=0.9)
    for step in range(4):
        task.step(Labelled(planted(8, step), None), step, 4)
    handed, now = task.weights(), task.prior.state_dict()
    assert handed.keys() == now.keys()
    different = {name.partition(".")[0] for name, value in handed.items() if not torch.equal(value, now[name])}
    assert different == {"generator"}


class Killed(BaseException):
    """Nothing catches it."""


def train(run: Path, precision: Any, stop: int | None = None) -> dict[str, Tensor]:
    """Nine steps with a checkpoint each three, killed before step `stop`."""
    # a resumed run starts from what the prior saw of the data, as the first one did
    task = task_of(started(), precision, average=0.9)

    def batch(step: int) -> Labelled:
        if step == stop:
            raise Killed
        return Labelled(planted(8, step), None)

    def validation() -> Iterator[Labelled]:
        yield Labelled(planted(8, 1), None)

    config = TrainConfig(precision=precision, checkpoint_every=3, validate_every=4, keep="last", seed=3)
    Loop(
        task,
        config,
        9,
        run,
        accelerator(precision),
        batch=batch,
        validation=validation,
        save_model=lambda weights: save_file(weights, run / "model.safetensors"),
        watch=lambda event: None,
    ).fit()
    return load_file(run / "model.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopped_in_the_middle_and_resumed_is_bit_equal(precision: str, tmp_path: Path) -> None:
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "whole", precision)
    with pytest.raises(Killed):
        train(tmp_path / "stopped", precision, stop=5)
    resumed = train(tmp_path / "stopped", precision)
    assert whole.keys() == resumed.keys() == built().state_dict().keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_state_is_whole() -> None:
    """Another prior that saw other data and has other weights goes on as this one."""
    task, other = task_of(started(), average=0.9), task_of(built(), average=0.9)
    for step in range(3):
        task.step(Labelled(planted(8, step), None), step, 6)
        other.step(Labelled(planted(8, 9 - step), None), step, 6)
    other.load_state(load(save({name: value.contiguous() for name, value in task.state().items()})))
    for which in (task, other):
        torch.manual_seed(5)
        which.step(Labelled(planted(8, 5), None), 3, 6)
    mine, theirs = task.state(), other.state()
    assert mine.keys() == theirs.keys()
    assert {name.partition("/")[2] for name in mine if "/model/" not in name} >= {"greys.0.edges", "order_0"}
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert all(torch.equal(value, other.weights()[name]) for name, value in task.weights().items())


def test_a_planted_pattern_is_learned() -> None:
    """Samples are the two images, up to a few codes, and both occur."""
    prior = started(width=4)
    task = task_of(prior)
    for step in range(200):
        torch.manual_seed(step)
        task.step(Labelled(planted(32, step), None), step, 200)
    (samples,) = prior.sample(generators(32))
    agreement = (samples[:, None] == torch.unique(planted(32)[0], dim=0)).float().mean((2, 3))  # (samples, the two)
    assert float(agreement.max(1).values.mean()) > 0.85, "grey all over would agree by less than three quarters"
    assert set(agreement.argmax(1).tolist()) == {0, 1}
    assert task.validate([Labelled(planted(8), None)])["live_share"] == 1
