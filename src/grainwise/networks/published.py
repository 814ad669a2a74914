"""Checkpoints of VDNet, DANet and MPRNet as their authors publish them, read into the networks of this package.

The files are pickles of torch; they are read with ``weights_only``, so that no code of theirs runs. A supernet takes the
published weights into its first channels: at ratio 1 it then is the published network.
"""

import copy
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError, UnknownNameError, WeightsError
from grainwise.networks.danet import DANet, NoiseGenerator
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.vdnet import NoiseVarianceNet, VDNet
from grainwise.primitives.channels import ChannelPlan
from grainwise.primitives.slim_conv import SlimLayer

Rules = tuple[tuple[str, str], ...]
"""(pattern, replacement) pairs: the name of a module here -> its name in a published file. The first match counts."""


def _numbered(name: str, first: int) -> str:
    """``name`` with each ``<n>`` replaced by ``first`` + n."""
    return re.sub(r"<(\d+)>", lambda match: str(first + int(match[1])), name)


UNET: Rules = (
    (r"unet\.encoder\.(\d)\.conv1", r"down_path.\1.block.0"),
    (r"unet\.encoder\.(\d)\.conv2", r"down_path.\1.block.2"),
    (r"unet\.down\.(\d)", r"down_path.\1.downsample"),
    (r"unet\.up\.(\d)", r"up_path.\1.up"),
    (r"unet\.decoder\.(\d)\.conv1", r"up_path.\1.conv_block.block.0"),
    (r"unet\.decoder\.(\d)\.conv2", r"up_path.\1.conv_block.block.2"),
    (r"unet\.last", "last"),
)
DNET: Rules = tuple((pattern, f"DNet.{name}") for pattern, name in UNET)
SNET: Rules = (
    (r"convs\.0", "SNet.conv1"),
    (r"convs\.1", "SNet.mid_layer.0"),
    (r"convs\.2", "SNet.mid_layer.2"),
    (r"convs\.3", "SNet.mid_layer.4"),
    (r"convs\.4", "SNet.conv_last"),
)
_BLOCKS: Rules = (
    (r"shallow(\d)\.block", r"shallow_feat\1.1"),
    (r"encoder(\d)\.levels\.(\d)\.(\d)", r"stage\1_encoder.encoder_level<\2>.\3"),
    (r"decoder(\d)\.levels\.(\d)\.(\d)", r"stage\1_decoder.decoder_level<\2>.\3"),
    (r"decoder(\d)\.skips\.(\d)", r"stage\1_decoder.skip_attn<\2>"),
    (r"full\.groups\.(\d)\.(\d)", r"stage3_orsnet.orb<\1>.body.\2"),
)
_IN_BLOCK: Rules = (
    (r"\.conv1", ".body.0"),
    (r"\.activation", ".body.1"),
    (r"\.conv2", ".body.2"),
    (r"\.attention\.reduce", ".CA.conv_du.0"),
    (r"\.attention\.expand", ".CA.conv_du.2"),
)
MPR: Rules = (
    *((block + inner, outer + layer) for block, outer in _BLOCKS for inner, layer in _IN_BLOCK),
    (r"shallow(\d)\.conv", r"shallow_feat\1.0"),
    (r"encoder(\d)\.down\.0", r"stage\1_encoder.down12.down.1"),
    (r"encoder(\d)\.down\.1", r"stage\1_encoder.down23.down.1"),
    (r"encoder(\d)\.from_encoder\.(\d)", r"stage\1_encoder.csff_enc<\2>"),
    (r"encoder(\d)\.from_decoder\.(\d)", r"stage\1_encoder.csff_dec<\2>"),
    (r"decoder(\d)\.up\.0", r"stage\1_decoder.up21.up.1"),
    (r"decoder(\d)\.up\.1", r"stage\1_decoder.up32.up.1"),
    (r"sam1\.(.*)", r"sam12.\1"),
    (r"sam2\.(.*)", r"sam23.\1"),
    (r"join2", "concat12"),
    (r"join3", "concat23"),
    (r"full\.ends\.(\d)", r"stage3_orsnet.orb<\1>.body.8"),
    (r"full\.up\.(enc|dec)1\.0", r"stage3_orsnet.up_\g<1>1.up.1"),
    (r"full\.up\.(enc|dec)2\.(\d)", r"stage3_orsnet.up_\g<1>2.\2.up.1"),
    (r"full\.merge\.(enc|dec)(\d)", r"stage3_orsnet.conv_\1<\2>"),
    (r"tail", "tail"),
)
_SAM = {"features": "conv1", "picture": "conv2", "mask": "conv3"}

STEMS = ("unet.encoder.0.conv1", "shallow1.conv")
"""The convolutions that have full width at every plan where there is an attention head."""

KINDS: dict[type[nn.Module], tuple[Rules, tuple[str, ...]]] = {
    VDNet: (DNET, ("SNet.",)),
    NoiseVarianceNet: (SNET, ("DNet.",)),
    DANet: (UNET, ()),
    NoiseGenerator: (UNET, ()),
    MPRNet: (MPR, ()),
}
"""For each kind of network: its rules, and the beginnings of names that a file of it holds for another network."""


def load_published(network: nn.Module, path: Path) -> None:
    """Read a published checkpoint into ``network``.

    Args:
        network: a VDNet (base 64), DANet, MPRNet, or the NoiseVarianceNet or NoiseGenerator of one; with any ratios around
            1. An attention head, which no published network has, keeps its weights.
        path: the file: a state dict, one in ``{"state_dict": ...}`` or ``{"D": R, "G": G}``, with or without ``module.``.

    Raises:
        UnknownNameError: a network of another kind.
        WeightsError: the file is missing or damaged, or does not hold that network.
    """
    if type(network) not in KINDS:
        raise UnknownNameError("published network", type(network).__name__, (kind.__name__ for kind in KINDS))
    rules, elsewhere = KINDS[type(network)]
    published = _read(path, "G" if isinstance(network, NoiseGenerator) else "D")
    unused = {name for name in published if not name.startswith(elsewhere)}
    plan = network.plan_at(1) if isinstance(network, RatioNetwork) else None
    stems = STEMS if isinstance(network, RatioNetwork) and network.attention is not None else ()
    for name, module in network.named_modules(remove_duplicate=False):
        if not module._parameters or name.startswith(("unet.attention.", "head.")) or name == "activation":
            continue
        prefix = _translated(name, rules) + "."
        plain = {key.removeprefix(prefix): value for key, value in published.items() if key.startswith(prefix)}
        unused -= {prefix + key for key in plain}
        try:
            if isinstance(module, SlimLayer):
                assert plan is not None
                put(module, plan, plain, first=name in stems)
            else:
                module.load_state_dict(plain)
        except (InputError, RuntimeError) as error:
            message = " ".join(str(error).split())
            raise WeightsError(
                f"{path} does not hold a {type(network).__name__} of these base widths: {prefix}*: {message}"
            ) from None
    if unused:
        raise WeightsError(f"{path} holds more than a {type(network).__name__}: {', '.join(sorted(unused)[:3])} ...")


def put(layer: SlimLayer, plan: ChannelPlan, plain: Mapping[str, Tensor], *, first: bool = False) -> None:
    """Write the state dict of the torch layer of ``plan`` into ``layer``: the inverse of `SlimLayer.extract`.

    Args:
        layer: is changed.
        plan: the plan.
        plain: what the layer's extract would hold.
        first: whether ``plain`` may have fewer outputs than the layer has at ``plan``; they are its first ones.

    Raises:
        InputError: a weight or bias that is missing or not wanted, or of another shape.
    """
    places = copy.deepcopy(layer).double()
    with torch.no_grad():
        for parameter in places.parameters():
            parameter.copy_(torch.arange(parameter.numel(), dtype=torch.float64).view(parameter.shape))
    kept = {name: value.long() for name, value in places.extract(plan).state_dict().items()}
    if set(plain) != set(kept):
        raise InputError(f"the layer takes {sorted(kept)}, got {sorted(plain)}")
    for name, place in kept.items():
        value = plain[name]
        wanted = place[: len(value)] if first else place
        if value.shape != wanted.shape:
            raise InputError(f"a {name} of the shape {list(wanted.shape)} is wanted, got {list(value.shape)}")
        with torch.no_grad():
            layer.get_parameter(name).view(-1)[wanted.flatten()] = value.flatten().to(layer.weight)


def _translated(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, name)
        if match:
            translated = _numbered(match.expand(replacement), 1)
            stem, dot, last = translated.rpartition(".")
            return stem + dot + _SAM.get(last, last)
    raise AssertionError(f"no rule for {name}")


def _read(path: Path, part: str) -> Mapping[str, Tensor]:
    """The state dict of a file, without wrappers and ``module.``; ``part`` chooses among those of DANet."""
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}; give the path of a published checkpoint") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        message = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is no readable torch checkpoint ({message}); get it anew") from None
    for key in ("state_dict", part):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not all(isinstance(value, Tensor) for value in held.values()) or not held:
        raise WeightsError(f"{path} holds no state dict, but {_shape_of(held)}")
    return {str(name).removeprefix("module."): value for name, value in held.items()}


def _shape_of(held: object) -> str:
    return f"a mapping of {sorted(map(str, held))[:5]}" if isinstance(held, Mapping) else f"a {type(held).__name__}"
