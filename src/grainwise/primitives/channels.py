"""Channel counts as data: what may be chosen (dims), what is chosen (a plan), and how a layer's channels follow from it.

A *dim* is one free channel count. A *plan* holds a value for each dim (the channel configuration alpha of DDS-Net,
section III-A). A *layout* (`Channels`) says how the channels of one tensor are made of dims: a concatenation is a layout of
several parts, and slicing keeps one prefix per part; a pixel shuffle divides every part, so that whole groups are kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from grainwise.core.errors import InputError, PlanError

Runs = tuple[tuple[int, int], ...]
"""(start, length) of each kept run of channels, in order."""


@dataclass(frozen=True, slots=True)
class ChannelDim:
    """One free channel count.

    Args:
        name: an identifier, unique within its space.
        widths: the allowed counts, positive and ascending.
    """

    name: str
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse names that are no identifiers, and widths that are empty, unordered or not positive."""
        if not self.name.isidentifier():
            raise PlanError(f"a channel dim needs an identifier as its name, got {self.name!r}")
        widths = self.widths
        if not widths or any(not isinstance(w, int) or w < 1 for w in widths) or list(widths) != sorted(set(widths)):
            raise PlanError(f"dim {self.name} needs positive, ascending widths, got {widths}")

    @property
    def narrowest(self) -> int:
        """The least allowed width."""
        return self.widths[0]

    @property
    def widest(self) -> int:
        """The greatest allowed width."""
        return self.widths[-1]

    def nearest(self, width: float) -> int:
        """The allowed width nearest to ``width``; of two equally near, the wider."""
        return min(self.widths, key=lambda w: (abs(w - width), -w))


@dataclass(frozen=True, order=True)
class ChannelPlan(Mapping[str, int]):
    """A width for each dim, in the order of the dims. Hashable; ordered by its widths; a read-only mapping name -> width.

    Plans are made by `ChannelSpace.plan`, which checks them.
    """

    entries: tuple[tuple[str, int], ...]

    @cached_property
    def _widths(self) -> dict[str, int]:
        return dict(self.entries)

    def __getitem__(self, name: str) -> int:
        """The width of dim ``name``."""
        try:
            return self._widths[name]
        except KeyError:
            raise PlanError(f"the plan {self} has no dim {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        """The names of the dims, in order."""
        return iter(self._widths)

    def __len__(self) -> int:
        """The number of dims."""
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        """Whether the plan has a dim of that name."""
        return name in self._widths

    def __str__(self) -> str:
        """Compact form, such as ``c0=16,c1=32``; `ChannelSpace.parse` reads it."""
        return ",".join(f"{name}={width}" for name, width in self.entries)


@dataclass(frozen=True)
class ChannelSpace:
    """All plans of a network: the product of its dims."""

    dims: tuple[ChannelDim, ...]

    def __post_init__(self) -> None:
        """Refuse two dims of one name."""
        names = [dim.name for dim in self.dims]
        if len(set(names)) != len(names):
            raise PlanError(f"every dim needs a name of its own, got {names}")

    def plan(self, widths: Mapping[str, int]) -> ChannelPlan:
        """The plan of these widths.

        Raises:
            PlanError: a dim is missing or unknown, or a width is not among the allowed ones.
        """
        expected = [dim.name for dim in self.dims]
        if set(widths) != set(expected):
            raise PlanError(f"a plan names each of the dims {expected} once, got {sorted(widths)}")
        for dim in self.dims:
            if widths[dim.name] not in dim.widths:
                raise PlanError(f"dim {dim.name} has the widths {list(dim.widths)}, got {widths[dim.name]!r}")
        return ChannelPlan(tuple((dim.name, int(widths[dim.name])) for dim in self.dims))

    def parse(self, text: str) -> ChannelPlan:
        """Read the compact form ``c0=16,c1=32``.

        Raises:
            PlanError: the text is not of that form, or names a plan that this space does not have.
        """
        try:
            pairs = [entry.split("=") for entry in text.split(",")]
            widths = {name.strip(): int(width) for name, width in pairs}
        except ValueError:
            raise PlanError(f"a plan is written like {self.narrowest}, got {text!r}") from None
        return self.plan(widths)

    def check(self, plan: ChannelPlan) -> None:
        """Raise `PlanError` unless ``plan`` is one of this space."""
        if plan not in self:
            self.plan(plan)
            raise PlanError(f"the dims of {plan} are not in the order of {self.narrowest}")

    def __contains__(self, plan: object) -> bool:
        """Whether ``plan`` is one of this space."""
        return (
            isinstance(plan, ChannelPlan)
            and len(plan.entries) == len(self.dims)
            and all(
                name == dim.name and width in dim.widths
                for (name, width), dim in zip(plan.entries, self.dims, strict=True)
            )
        )

    @property
    def narrowest(self) -> ChannelPlan:
        """Every dim at its least width."""
        return self.plan({dim.name: dim.narrowest for dim in self.dims})

    @property
    def widest(self) -> ChannelPlan:
        """Every dim at its greatest width."""
        return self.plan({dim.name: dim.widest for dim in self.dims})

    def scaled(self, ratio: float) -> ChannelPlan:
        """Every dim at the allowed width nearest to ``ratio`` (0 to 1) times its greatest."""
        return self.plan({dim.name: dim.nearest(ratio * dim.widest) for dim in self.dims})


@dataclass(frozen=True, slots=True)
class Part:
    """A run of channels: ``times`` for each ``per`` channels of ``dim``, or just ``times`` where ``dim`` is None."""

    dim: ChannelDim | None
    times: int
    per: int = 1

    def width(self, plan: ChannelPlan) -> int:
        """The number of channels at ``plan``."""
        return self.times if self.dim is None else self.times * plan[self.dim.name] // self.per

    @property
    def widest(self) -> int:
        """The greatest number of channels."""
        return self.times if self.dim is None else self.times * self.dim.widest // self.per


@dataclass(frozen=True, slots=True)
class Channels:
    """The channels of one tensor, as parts that are sliced each by its own prefix."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, source: "ChannelDim | int | Channels") -> "Channels":
        """A layout of one dim, or of a fixed number of channels; a layout is given back as it is."""
        if isinstance(source, Channels):
            return source
        if isinstance(source, ChannelDim):
            return cls((Part(source, 1),))
        if source < 1:
            raise InputError(f"a tensor needs at least one channel, got {source}")
        return cls((Part(None, source),))

    def __add__(self, other: "Channels") -> "Channels":
        """The layout of a concatenation along the channels."""
        return Channels(self.parts + other.parts)

    def unshuffled(self, factor: int) -> "Channels":
        """The layout after a pixel unshuffle by ``factor``."""
        return Channels(tuple(Part(part.dim, part.times * factor**2, part.per) for part in self.parts))

    def shuffled(self, factor: int) -> "Channels":
        """The layout after a pixel shuffle by ``factor``.

        Raises:
            PlanError: a part does not hold whole groups of ``factor`` squared channels at every width.
        """
        if any(part.times % factor**2 for part in self.parts):
            raise PlanError(f"a pixel shuffle by {factor} needs whole groups of {factor**2} channels, got {self}")
        return Channels(tuple(Part(part.dim, part.times // factor**2, part.per) for part in self.parts))

    def divided(self, by: int) -> "Channels":
        """The layout with ``by`` times fewer channels, such as the bottleneck of a channel attention.

        Raises:
            PlanError: ``by`` does not divide a part at every width.
        """
        for part in self.parts:
            widths = [part.times] if part.dim is None else [part.times * width for width in part.dim.widths]
            if by < 1 or any(width % (part.per * by) for width in widths):
                raise PlanError(f"every width of {part} must be divisible by {by}")
        return Channels(
            tuple(
                Part(None, part.times // by) if part.dim is None else Part(part.dim, part.times, part.per * by)
                for part in self.parts
            )
        )

    def width(self, plan: ChannelPlan) -> int:
        """The number of channels at ``plan``."""
        return sum(part.width(plan) for part in self.parts)

    @property
    def widest(self) -> int:
        """The greatest number of channels."""
        return sum(part.widest for part in self.parts)

    def runs(self, plan: ChannelPlan) -> Runs:
        """Where the kept channels lie among all of them: one prefix per part."""
        runs, start = [], 0
        for part in self.parts:
            runs.append((start, part.width(plan)))
            start += part.widest
        return tuple(runs)
