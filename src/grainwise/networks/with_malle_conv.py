"""Any network of the package with a MalleConv behind layers that are named one by one.

The claim of the MalleConv paper (ECCV 2022, arXiv 2201.00392) that this serves: a single malleable convolution in a plain
backbone already helps. `grainwise.primitives.malle_conv.malleable_convs` puts one behind every convolution of a kind instead.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.malle_conv import MalleableConv2d, MalleConv, MalleSettings
from grainwise.primitives.slim_conv import SLIMMABLE, SlimKernel

DEFAULT_AFTER: Mapping[str, Mapping[str, Any]] = {"down.0": {"kernel": 3, "blocks": 1, "width": 16}}
"""Behind the first step down of the default network, at 1/4 resolution: 3x3 kernels, a predictor of 16 channels."""


class WithMalleConv(Network):
    """The network ``network`` with MalleConvs in it; widths, facts and calls are its own, but for a longer halo.

    The halo is an upper bound, see `Facts.with_context`.

    Args:
        network: a registered name, see `grainwise.networks.registry`.
        config: arguments of that network.
        after: the path of a convolution (as `torch.nn.Module.get_submodule` takes it) -> what the MalleConv behind it is
            like: arguments of `MalleSettings`, and ``width``, the channels inside its predictor (those of the feature if it
            is not there).

    Raises:
        UnknownNameError: no such network, convolution or setting.
        InputError: no place is named, one that is no convolution, settings that cannot be built, or a network of
            level-conditioned layers, which takes `malleable_convs` instead.
    """

    def __init__(
        self,
        *,
        network: str = "half_unet",
        config: Mapping[str, Any] | None = None,
        after: Mapping[str, Mapping[str, Any]] = DEFAULT_AFTER,
    ) -> None:
        """Build the network, then put the MalleConvs in."""
        super().__init__()
        from grainwise.networks.registry import create_network  # which knows this class too

        self.network = create_network(network, dict(config or {}))
        self._config = {
            "network": network,
            "config": dict(config or {}),
            "after": {path: dict(how) for path, how in after.items()},
        }
        if not after:
            raise InputError("name at least one convolution in after, such as {'down.0': {'kernel': 3}}")
        if self.network.facts.level_range is not None:
            raise InputError(
                "its layers are conditioned on a level, and so must be those of a MalleConv; build it with "
                "convs=malleable_convs(places, settings, base)"
            )
        for path, how in after.items():
            put_behind(self.network, path, **how)
        self.space, self.facts = self.network.space, self.network.facts.with_context(self.network)
        self.network.facts = self.facts  # it pads the picture itself

    @property
    def config(self) -> dict[str, Any]:
        """The name and the arguments of the network, and the places."""
        return self._config

    @property
    def added(self) -> list[MalleConv]:
        """The MalleConvs that were put in."""
        return [self.network.get_submodule(path).malle for path in self._config["after"]]  # type: ignore[misc]

    def bytes_per_pixel(self, plan: ChannelPlan, itemsize: int) -> float:
        """Those of the network, and for each MalleConv five copies of its feature and four of its predictor's widest."""
        total = self.network.bytes_per_pixel(plan, itemsize)
        for malle in self.added:
            feature = malle.act.inputs.width(plan) / malle.reduction**2
            inside = malle.predictor.act.inputs.width(plan) / (malle.reduction * malle.settings.pre_pool) ** 2
            total += itemsize * (5 * feature + 20 * inside)
        return total

    def macs_per_pixel(self, plan: ChannelPlan) -> float:
        """See `Network.macs_per_pixel`; the predictors are counted."""
        return self.network.macs_per_pixel(plan)

    def forward(self, x: Tensor, *at: Any, sigma: Tensor | None = None) -> Tensor:
        """See `Network.forward`."""
        y: Tensor = self.network(x, *at, sigma=sigma)
        return y


def put_behind(network: nn.Module, path: str, *, width: int | None = None, **settings: Any) -> None:
    """Put a `MalleConv` behind the slimmable convolution at ``path`` of ``network``, in place; see `WithMalleConv`."""
    places = [name for name, part in network.named_modules() if isinstance(part, SlimKernel)]
    known = MalleSettings.__dataclass_fields__
    if path not in places:
        raise UnknownNameError("convolution of the network", path, places)
    for name in settings:
        if name not in known:
            raise UnknownNameError("setting of a MalleConv", name, (*known, "width"))
    if width is not None and width < 1:
        raise InputError(f"the width of a predictor is at least 1, got {width}")
    conv = network.get_submodule(path)
    assert isinstance(conv, SlimKernel)
    malle = MalleConv(SLIMMABLE, conv.outputs, MalleSettings(**settings), width=width, reduction=conv.reduction)
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, MalleableConv2d(conv, malle))
