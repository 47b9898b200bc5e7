"""Muon for the matrices inside transformers and AdamW for all else, as one optimiser.

Source: K. Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024 (momentum made orthogonal before
it is a step); J. Liu et al., Muon is Scalable for LLM Training, 2025 (steps of the size of AdamW's, so that learning
rate and weight decay serve both). Both optimisers are PyTorch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from brainvq.networks.transformer import Transformer


class MuonWithAdamW(torch.optim.Optimizer):
    """One state and one list of groups, which both parts read and write: what saves and resumes one of them does both.

    Args:
        decay: of the matrices' weights. `adamw`: settings of AdamW, its learning rate among them.
    """

    def __init__(self, module: nn.Module, decay: float, **adamw: Any) -> None:
        matrices = hidden_matrices(module)
        inside = {id(matrix) for matrix in matrices}
        others = [parameter for parameter in module.parameters() if id(parameter) not in inside]
        self.parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, fused=True, **adamw)] if others else []
        if matrices:
            settings = {"lr": adamw["lr"], "weight_decay": decay, "adjust_lr_fn": "match_rms_adamw"}
            self.parts.append(torch.optim.Muon(matrices, **settings))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        for part, group in zip(self.parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()


def hidden_matrices(module: nn.Module) -> list[Tensor]:
    """Of all transformers in a module: what takes vectors to vectors, not codes to vectors nor vectors to logits."""
    trunks = [part for part in module.modules() if isinstance(part, Transformer)]
    return [parameter for trunk in trunks for parameter in trunk.parameters() if parameter.ndim == 2]
