"""The routing space that progressive slimming found: plans with what they cost and how well they restore, as a JSON file."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grainwise.core.errors import InputError, PlanError, WeightsError
from grainwise.core.files import whole_file
from grainwise.networks.network import Network
from grainwise.networks.registry import name_of
from grainwise.primitives.channels import ChannelPlan

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Route:
    """One plan of a routing space.

    Args:
        plan: the channel plan.
        macs_per_pixel: its cost.
        psnr: in dB, on the pictures of the search.
        ssim: on the same.
        seconds: what a picture of the search took, or None where nobody measured.
    """

    plan: ChannelPlan
    macs_per_pixel: float
    psnr: float
    ssim: float
    seconds: float | None = None


@dataclass(frozen=True)
class RoutingSpace:
    """Routes in the order of the search, largest sub-network first.

    Args:
        routes: at least one.
        label: the protocol of their PSNR and SSIM.
    """

    routes: tuple[Route, ...]
    label: str = ""

    def __post_init__(self) -> None:
        """Refuse an empty space.

        Raises:
            InputError: no route.
        """
        if not self.routes:
            raise InputError("a routing space holds at least one route")

    def save(self, path: Path, network: Network) -> None:
        """Write the file whole."""
        routes = [{**asdict(route), "plan": str(route.plan)} for route in self.routes]
        held = {
            "format": FORMAT,
            "network": name_of(network),
            "config": network.config,
            "label": self.label,
            "routes": routes,
        }
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(held, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, network: Network) -> "RoutingSpace":
        """Read the file.

        Raises:
            WeightsError: it is missing, damaged, of a newer version, or belongs to another network.
        """
        try:
            held: dict[str, Any] = json.loads(path.read_text())
            version = held["format"]
            owner = (held["network"], held["config"])
            routes = tuple(
                Route(**{**fields, "plan": network.space.parse(fields["plan"])})
                for fields in held["routes"]
                if owner == (name_of(network), network.config)
            )
            label = str(held["label"])
        except OSError as error:
            raise WeightsError(f"the routing space {path} cannot be read ({error})") from None
        except (ValueError, KeyError, TypeError, AttributeError, PlanError) as error:
            raise WeightsError(f"{path} is no routing space ({error}); slim the network anew") from None
        if version > FORMAT:
            raise WeightsError(f"{path} has format {version}, this grainwise reads up to {FORMAT}; update it")
        if not routes:
            raise WeightsError(f"{path} belongs to {owner[0]} {owner[1]}, not to {name_of(network)} {network.config}")
        return cls(routes, label)

    def pareto(self) -> tuple[Route, ...]:
        """The routes that restore better than every cheaper one, cheapest first; the cheapest is always among them."""
        kept: list[Route] = []
        for route in sorted(self.routes, key=lambda route: (route.macs_per_pixel, -route.psnr)):
            if not kept or route.psnr > kept[-1].psnr:
                kept.append(route)
        return tuple(kept)

    def thinned(self, count: int) -> tuple[Route, ...]:
        """At most ``count`` routes of the Pareto front, cheapest first, evenly spread over the logarithm of cost.

        Both ends are kept: many plans of nearly the same cost would give a gate nothing to choose by.

        Raises:
            InputError: fewer than two routes asked for.
        """
        if count < 2:
            raise InputError(f"a gate chooses among at least 2 routes, got {count}")
        front = self.pareto()
        if len(front) <= count:
            return front
        costs = [math.log(route.macs_per_pixel) for route in front]
        chosen: list[int] = [0]
        for place in range(1, count - 1):
            target = costs[0] + (costs[-1] - costs[0]) * place / (count - 1)
            last_allowed = len(front) - (count - place)
            free: Sequence[int] = range(chosen[-1] + 1, last_allowed + 1)
            chosen.append(min(free, key=lambda index: abs(costs[index] - target)))
        return tuple(front[index] for index in (*chosen, len(front) - 1))
