"""Files of routers of pictures: safetensors that name the weights that they were fitted to."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from grainwise.core.errors import InputError, PlanError, WeightsError
from grainwise.core.files import whole_file
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network
from grainwise.networks.picture_router import ROUTERS, PictureRouter

FORMAT = 1
_KEY = "grainwise-router"


def save_router(path: Path, router: PictureRouter, network: HalfUNet) -> None:
    """Write a router, and which weights it was fitted to."""
    header = {"format": FORMAT, "kind": router.kind, "config": router.config, "network": fingerprint(network)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in router.state_dict().items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {_KEY: json.dumps(header)})


def load_router(path: Path, network: Network) -> PictureRouter:
    """Read a router of ``network``, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, no router, of a newer version, or belongs to other weights.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a mapping
        if header["format"] > FORMAT:
            raise WeightsError(f"{path} has format {header['format']}, this grainwise reads up to {FORMAT}; update it")
        router = ROUTERS[header["kind"]](**header["config"])
        router.load_state_dict(tensors)
        for plan in router.plans:
            network.space.parse(plan)
        owner = header["network"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, InputError, PlanError) as error:
        raise WeightsError(f"{path} is no readable router ({' '.join(str(error).split())}); fit one anew") from None
    if owner != fingerprint(network):
        raise WeightsError(f"the router {path} was fitted to other weights; fit one to these")
    return router.eval().requires_grad_(False)


def fingerprint(network: Network) -> str:
    """Tells weights from others, in half precision as files hold them."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().to(torch.float16).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
