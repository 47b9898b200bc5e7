"""SimVQ: a frozen codebook under a map that alone learns, and takes every entry along."""

import torch
from torch.nn import functional as F

import laws
from brainvq.quantizers.search import nearest
from brainvq.quantizers.simvq import Config, SimVQ


def build(entries: int = 32, dim: int = laws.DIM) -> SimVQ:
    torch.manual_seed(0)
    return Config(entries=entries).build(dim)


def test_the_nearest_mapped_entry_wins() -> None:
    quantizer, z = build(), laws.latents(9, 9)
    rows = z.movedim(1, -1).reshape(-1, laws.DIM)
    codebook = (quantizer.frozen @ quantizer.map.weight.T + quantizer.map.bias).detach()

    def search(vectors: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
        assert len(entries) == 32
        return quantizer.encode(vectors.T[None])[0][0]

    laws.the_nearest_entry_wins(search, rows, codebook)
    assert torch.equal(search(rows, codebook), nearest(rows, codebook))


def test_only_the_map_learns_and_from_the_codebook_loss_alone() -> None:
    quantizer, z = build(), laws.latents(9, 9).requires_grad_()
    assert {name for name, _ in quantizer.named_parameters()} == {"map.weight", "map.bias"}
    before = quantizer.frozen.clone()
    found = quantizer.train()(z)
    parameters = list(quantizer.parameters())
    rest = found.z_q.square().sum() + found.losses["commitment"]
    assert all(grad is None for grad in torch.autograd.grad(rest, parameters, retain_graph=True, allow_unused=True))
    assert torch.autograd.grad(found.losses["codebook"], z, retain_graph=True, allow_unused=True) == (None,)
    assert all(grad.abs().sum() > 0 for grad in torch.autograd.grad(found.losses["codebook"], parameters))
    assert torch.equal(quantizer.frozen, before)


def test_losses_are_those_of_equation_3() -> None:
    quantizer, z = build(), laws.latents(9, 9)
    found = quantizer(z)
    error = F.mse_loss(quantizer.decode(found.codes), z)
    torch.testing.assert_close(found.losses["codebook"], error)
    torch.testing.assert_close(found.losses["commitment"], 0.25 * error)


def test_a_step_along_one_vector_moves_entries_that_it_did_not_choose() -> None:
    quantizer = build()
    before = quantizer.codebook().detach()
    quantizer(torch.randn(1, laws.DIM, 1)).losses["codebook"].backward()
    torch.optim.SGD(quantizer.parameters(), 0.1).step()
    moved = (quantizer.codebook() - before).abs().sum(1)
    assert (moved > 1e-6).all()


def test_the_codebook_comes_to_where_the_vectors_are() -> None:
    """Far from where it starts, and stretched."""
    quantizer, z = build(), 5 + torch.tensor([3.0, 1.0, 0.3, 0.1])[:, None, None] * laws.latents(16, 16)
    optimiser = torch.optim.Adam(quantizer.parameters(), 0.2)
    for _ in range(150):
        optimiser.zero_grad()
        quantizer(z).losses["codebook"].backward()
        optimiser.step()
    codes = quantizer.encode(z)
    assert F.mse_loss(quantizer.decode(codes).detach(), z) < 0.3 * z.var(dim=(0, 2, 3)).mean()
    assert len(codes[0].unique()) > 10


def test_the_nearest_entry_is_found_to_the_last_bits_of_z() -> None:
    """Rounded to bfloat16, about one vector in a hundred would choose another entry."""
    torch.manual_seed(0)
    quantizer = Config(entries=128).build(4)
    z = torch.randn(4, 4, 64, 64)
    rows = z.movedim(1, -1).reshape(-1, 4).double()
    distances = torch.cdist(rows, quantizer.codebook().detach().double(), compute_mode="donot_use_mm_for_euclid_dist")
    chosen = distances.gather(1, quantizer.encode(z)[0].reshape(-1, 1))[:, 0]
    assert (chosen <= distances.amin(1) * (1 + 1e-5)).all()
