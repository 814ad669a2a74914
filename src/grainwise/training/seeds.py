"""From which seeds a step draws what it draws beside its batch: no two of them share a stream.

A batch is drawn by (seed, step, rank). NumPy pads the words of a seed with zeros, so that (seed, step) is the stream of the
first rank; everything else has a purpose behind a rank of 0, where a batch has nothing.
"""

from typing import Protocol, runtime_checkable

PLANS, MIXUP, GAME = 1, 2, 3
"""Purposes: the plans of a supernet's step, the pairs and shares of MixUp, the noise and the shares of DANet's game."""

STREAMS = 1
"""Changes with what a seed and a step draw, so that no run goes on with other draws than it was started with."""


def seed_of(seed: int, step: int, purpose: int) -> tuple[int, int, int, int]:
    """The seed for NumPy of what ``purpose`` draws at a step."""
    return (seed, step, 0, purpose)


@runtime_checkable
class Draws(Protocol):
    """A method whose steps draw more than their batches; one that says nothing draws nothing."""

    @property
    def streams(self) -> int:
        """`STREAMS`, or 0 where its settings leave nothing to draw."""
