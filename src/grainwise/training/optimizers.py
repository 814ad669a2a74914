"""The optimisers that a run can choose: AdamW, and Muon for the kernels of convolutions with AdamW for the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

OptimizerName = Literal["adamw", "muon"]

STEP = 0.6
"""The root mean square of a step at a learning rate of 1: three times AdamW's (0.2), which learned faster (LOG.md)."""

LEAST_CHANNELS = 16
"""Kernels with fewer inputs or outputs (first and last layers, depthwise ones) are not orthogonalised."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration of Jordan et al. 2024, which take singular values to about 1 in five steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Parameters of a method that learn in a way of their own.

    Args:
        parameters: each of the method's in one part at most; those in none do not learn.
        rate: times the learning rate of the loop.
        betas: of AdamW, or None for the loop's.
        clip: greatest norm of this part's gradient, or None for the loop's.
    """

    parameters: Sequence[nn.Parameter]
    rate: float = 1.0
    betas: tuple[float, float] | None = None
    clip: float | None = None


@runtime_checkable
class InParts(Protocol):
    """A method whose parts learn differently; one that says nothing is one part."""

    def parts(self) -> list[Part]:
        """The parts, in an order that is always the same."""


class Clipping:
    """Keeps the gradient of one part within a limit, which may shrink: VDNet's adaptive clipping.

    Args:
        parameters: of the part.
        limit: greatest norm at first.
        epoch: after each so many steps the limit becomes their mean norm, where that is less; 0 keeps the limit.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], limit: float, epoch: int) -> None:
        """Nothing has been seen yet."""
        self.parameters, self.epoch = parameters, epoch
        self.state = {"limit": limit, "sum": 0.0, "steps": 0.0}

    @property
    def limit(self) -> float:
        """Of now."""
        return self.state["limit"]

    def see(self, norm: float) -> None:
        """Count the norm of a step, before it was clipped."""
        self.state["sum"] += norm
        self.state["steps"] += 1
        if self.state["steps"] == self.epoch:
            mean = self.state["sum"] / self.epoch
            self.state = {"limit": min(self.limit, mean), "sum": 0.0, "steps": 0.0}


def orthogonalized(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix to ``matrix`` [rows, columns], roughly: its singular values end within 0.7-1.2."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + torch.addmm(gram, gram, gram, beta=b, alpha=c) @ x
    result: Tensor = x.T if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum whose step is orthogonalised (Jordan et al. 2024), scaled to a root mean square of `STEP` (Liu et al. 2025).

    Args:
        kernels: weights of convolutions, [out, in, k, k] (or transposed); each is one matrix of first index x the others.
        lr: learning rate; AdamW's suits.
        momentum: Nesterov's.
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self, kernels: Sequence[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        """Remember the settings."""
        super().__init__(kernels, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401 -- torch's signature
        """One step for every kernel that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.grad is not None:
                    self._step(kernel, kernel.grad, group)

    def _step(self, kernel: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[kernel]
        if not state:
            state["momentum"] = torch.zeros_like(kernel)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        update = orthogonalized(matrix).view_as(kernel)
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(update, alpha=-group["lr"] * STEP * max(matrix.shape) ** 0.5)


def optimizers_of(
    method: nn.Module, name: OptimizerName, *, lr: float, betas: tuple[float, float], weight_decay: float
) -> list[torch.optim.Optimizer]:
    """The optimisers that together hold every parameter of ``method`` once, or those of its parts (`InParts`).

    Their groups say by ``share`` what they take of the loop's learning rate.

    Args:
        method: what learns.
        name: "adamw", or "muon": Muon for the dense kernels between the first and the last layer, AdamW for the rest.
        lr: the learning rate.
        betas: of AdamW, for parts that do not say their own.
        weight_decay: decoupled.
    """
    made: list[torch.optim.Optimizer] = []
    for part in parts_of(method):
        own = _optimizers(
            part.parameters, name, lr=part.rate * lr, betas=part.betas or betas, weight_decay=weight_decay
        )
        for optimizer in own:
            for group in optimizer.param_groups:
                group["share"] = part.rate
        made += own
    return made


def parts_of(method: nn.Module) -> list[Part]:
    """The parts that a method says it has, or all of it as one."""
    return method.parts() if isinstance(method, InParts) else [Part(parameters=list(method.parameters()))]


def _optimizers(
    parameters: Sequence[nn.Parameter],
    name: OptimizerName,
    *,
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> list[torch.optim.Optimizer]:
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    kernels = [p for p in learning if name == "muon" and p.ndim == 4 and min(p.shape[:2]) >= LEAST_CHANNELS]
    held = {id(kernel) for kernel in kernels}
    rest = [parameter for parameter in learning if id(parameter) not in held]
    made: list[torch.optim.Optimizer] = []
    if kernels:
        made.append(Muon(kernels, lr, weight_decay=weight_decay))
    if rest:
        made.append(torch.optim.AdamW(rest, lr=lr, betas=betas, weight_decay=weight_decay))
    return made
