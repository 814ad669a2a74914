"""The prediction head of DDS-Net's gate (eq. 10): from a reduced feature to one logit per route.

Shape letters: B batch, R channels of the reduced feature, D hidden, E routes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError

HIDDEN = 64
"""D; the paper does not say it."""


def gate_logits(reduced: Tensor, inner: Tensor, norm: "Norm", outer: Tensor, shift: Tensor) -> Tensor:
    """W4 relu(BN(W3 R)): [B, R] -> [B, E], logits before the softmax.

    Args:
        reduced: R.
        inner: W3, [D, R].
        norm: BN.
        outer: W4, [E, D].
        shift: bias of W4, [E].
    """
    hidden = norm(F.linear(reduced, inner))
    return F.linear(F.relu(hidden), outer, shift)


def choose_route(logits: Tensor, bias: Tensor) -> Tensor:
    """The route of each picture, [B] int64: the greatest of ``logits`` [B, E] + ``bias`` [E]; no noise is added."""
    return (logits + bias).argmax(1)


def expected_cost(logits: Tensor, costs: Tensor) -> Tensor:
    """The mean of ``costs`` [E] under the softmax of ``logits`` [B, E]: [B]."""
    return logits.softmax(1) @ costs


class Norm(nn.Module):
    """Batch normalisation of vectors [B, D], whose state is all floats: torch's own counts batches."""

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, momentum: float = 0.1) -> None:
        """Start with mean 0 and variance 1."""
        super().__init__()
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """In training by the statistics of the batch, which the running ones then follow; else by the running ones.

        Raises:
            InputError: one picture in training: there are no statistics of it.
        """
        if self.training and len(x) < 2:
            raise InputError("a gate trains on at least 2 pictures a batch, got 1")
        return F.batch_norm(
            x, self.mean, self.variance, self.weight, self.bias, training=self.training, momentum=self.momentum
        )


class GateHead(nn.Module):
    """`gate_logits` with weights of its own.

    Args:
        features: R.
        routes: E, at least 2.
        hidden: D.
        tap: channels of the pooled tap, where the head must reduce it itself (relu(W1 U) of eq. 9) because no attention
            head of the network does; None where it is given the reduced feature.

    Raises:
        InputError: fewer than two routes.
    """

    def __init__(self, features: int, routes: int, *, hidden: int = HIDDEN, tap: int | None = None) -> None:
        """Build the layers."""
        super().__init__()
        if routes < 2:
            raise InputError(f"a gate chooses among at least 2 routes, got {routes}")
        self.reduce = None if tap is None else nn.Linear(tap, features)
        self.inner = nn.Linear(features, hidden, bias=False)
        self.norm = Norm(hidden)
        self.outer = nn.Linear(hidden, routes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, R], or the pooled tap [B, C] where the head reduces it -> logits [B, E]; B is at least 2 in training.

        Raises:
            InputError: one picture in training.
        """
        if self.reduce is not None:
            x = F.relu(self.reduce(x))
        return gate_logits(x, self.inner.weight, self.norm, self.outer.weight, self.outer.bias)

    @property
    def macs(self) -> int:
        """Multiply-adds for each picture."""
        layers = [self.inner, self.outer] if self.reduce is None else [self.reduce, self.inner, self.outer]
        return sum(layer.weight.numel() for layer in layers)
