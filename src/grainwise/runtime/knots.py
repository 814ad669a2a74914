"""Results at fixed places of a slider, so that those between two of them can be mixed instead of computed."""

from bisect import bisect_left
from collections.abc import Iterable

from torch import Tensor


class Knots:
    """Results by their place, 0 to 1; filled in any order, from one thread or several.

    Args:
        places: where results shall lie; 0 and 1 are added.
    """

    def __init__(self, places: Iterable[float]) -> None:
        """Hold nothing yet."""
        self.places = sorted({0.0, 1.0, *places})
        self._results: dict[float, Tensor] = {}

    def put(self, place: float, result: Tensor) -> None:
        """Keep the result of one of `places`."""
        self._results[place] = result

    def at(self, place: float) -> Tensor | None:
        """The result there, on the line between the two beside it; None while one of these is missing."""
        known = self._results.get(place)
        if known is not None:
            return known
        right = min(max(1, bisect_left(self.places, place)), len(self.places) - 1)
        low, high = self.places[right - 1], self.places[right]
        first, second = self._results.get(low), self._results.get(high)
        if first is None or second is None:
            return None
        return first.lerp(second, (place - low) / (high - low))

    def missing(self, around: float) -> list[float]:
        """Places without a result, the nearest to ``around`` first."""
        return sorted((place for place in self.places if place not in self._results), key=lambda p: abs(p - around))
