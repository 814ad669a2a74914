"""Every network of the package, by name."""

from typing import Any

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.networks.cfsnet import CFSNet
from grainwise.networks.danet import DANet
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.hyperres import HyperRes
from grainwise.networks.mallenet import MalleNet
from grainwise.networks.mdrn import MDRN
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.network import Network
from grainwise.networks.vdnet import VDNet
from grainwise.networks.with_malle_conv import WithMalleConv

NETWORKS: dict[str, type[Network]] = {
    "half_unet": HalfUNet,
    "vdnet": VDNet,
    "danet": DANet,
    "mprnet": MPRNet,
    "mallenet": MalleNet,
    "mdrn": MDRN,
    "hyperres": HyperRes,
    "cfsnet": CFSNet,
    "with_malle_conv": WithMalleConv,
}


def create_network(name: str, config: dict[str, Any] | None = None) -> Network:
    """A new network with fresh weights.

    Raises:
        UnknownNameError: no network has that name.
        InputError: ``config`` does not fit its constructor.
    """
    if name not in NETWORKS:
        raise UnknownNameError("network", name, NETWORKS)
    try:
        return NETWORKS[name](**(config or {}))
    except TypeError as error:
        raise InputError(f"the network {name} cannot be built: {error}") from None


def name_of(network: Network) -> str:
    """The registered name of a network's class.

    Raises:
        UnknownNameError: the class is not registered.
    """
    for name, kind in NETWORKS.items():
        if type(network) is kind:
            return name
    raise UnknownNameError("network class", type(network).__name__, (kind.__name__ for kind in NETWORKS.values()))
