"""Muon for the matrices and convolutions, AdamW for the rest."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


def orthogonalized(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest matrix with singular values near 1, by a quintic Newton-Schulz iteration
    (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
    """
    wide = matrix.bfloat16() if matrix.size(0) <= matrix.size(1) else matrix.bfloat16().T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return (wide if matrix.size(0) <= matrix.size(1) else wide.T).float()


class Muon(Optimizer):  # type: ignore[misc]
    """Momentum, then the nearest orthogonal update; a convolution counts as a matrix of its output channels."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, group["lr"], group["momentum"])

    def _update(self, parameter: nn.Parameter, lr: float, momentum: float) -> None:
        state = self.state[parameter]
        if not state:
            state["average"] = torch.zeros_like(parameter)
        state["average"].lerp_(parameter.grad, 1 - momentum)
        ahead = parameter.grad.lerp(state["average"], momentum).flatten(1)
        scale = max(1.0, ahead.size(0) / ahead.size(1)) ** 0.5
        parameter.add_(orthogonalized(ahead).view_as(parameter), alpha=-lr * scale)


def optimizers(modules: Iterable[nn.Module], muon_lr: float, adam_lr: float) -> list[Optimizer]:
    """Muon for weights inside the networks; AdamW for embeddings, norms, biases, first and last layers."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            outer = "embed" in name or "conv_in" in name or "conv_out" in name or "heads" in name
            inner = parameter.ndim >= 2 and not outer
            (matrices if inner and muon_lr else others).append(parameter)
    adam = AdamW(others, lr=adam_lr, betas=(0.9, 0.99), weight_decay=0.01)
    return [Muon(matrices, lr=muon_lr), adam] if matrices else [adam]
