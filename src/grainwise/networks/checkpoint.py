"""Weights files: safetensors that say what they are. Loading one runs no code of the file's.

The header holds one JSON object under the key ``grainwise``: the network's name and configuration, and the card.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from grainwise.core.errors import InputError, PlanError, UnknownNameError, WeightsError
from grainwise.core.files import whole_file
from grainwise.networks.gain_predictor import GainPredictor
from grainwise.networks.gated import GatedNetwork
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.networks.network import Network
from grainwise.networks.noise_reader import NoiseReader
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.registry import create_network, name_of
from grainwise.primitives.channels import ChannelPlan

FORMAT = 1
SHIPPED = ("default", "dejpeg", "upscale")
"""Names of the weights inside the package."""
_PREDICTOR = "predictor."
_GATE = "gate."
_NETWORK = "network."
ReadingT = TypeVar("ReadingT", LevelEstimator, NoiseReader)


@dataclass(frozen=True, slots=True)
class MeasuredPlan:
    """One plan that a weights file recommends, and what was measured of it.

    Args:
        plan: as text, see `ChannelPlan`.
        macs_per_pixel: its cost.
        psnr: protocol, data set and level -> dB, such as ``"rgb-u8 cbsd68 gaussian:25"``.
        name: ``fast``, ``balanced`` or ``best``, or empty.
    """

    plan: str
    macs_per_pixel: int
    psnr: dict[str, float] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a weights file says of itself.

    Args:
        licence: of the weights.
        data: the pictures that taught it, each with its licence.
        recipe: the command that rebuilds it.
        commit: of the package, at the start of the training.
        steps: optimiser steps.
        seconds: training time.
        device: what it was trained on.
        plans: the plans to choose from, cheapest first.
        notes: what else one must know to judge or rebuild it.
    """

    licence: str
    data: tuple[str, ...]
    recipe: str
    commit: str
    steps: int
    seconds: float
    device: str
    plans: tuple[MeasuredPlan, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Weights:
    """A network with its weights, the card of the file that they came from, and what predicts where width pays, if any."""

    name: str
    network: Network
    card: Card
    predictor: GainPredictor | None = None

    def plans(self) -> dict[ChannelPlan, MeasuredPlan]:
        """The recommended plans, cheapest first."""
        return {self.network.space.parse(measured.plan): measured for measured in self.card.plans}


@dataclass(frozen=True, slots=True)
class GatedWeights:
    """A network with a gate and its weights, and the card of the file that they came from.

    Attributes:
        name: of the file.
        gated: in evaluation mode, calibrated.
        card: its plans are the gate's routes.
        budget: mean multiply-adds per pixel that the gate was calibrated to, gate included.
    """

    name: str
    gated: GatedNetwork
    card: Card
    budget: float


def save_weights(path: Path, network: Network, card: Card, predictor: GainPredictor | None = None) -> None:
    """Write the weights in half precision, with their spec and card, and the predictor's as they are."""
    header = {"network": name_of(network), "config": network.config, "card": asdict(card)}
    extra = {}
    if predictor is not None:
        header["predictor"] = predictor.config
        extra = {f"{_PREDICTOR}{name}": value for name, value in predictor.state_dict().items()}
    _write(path, network, header, extra)


def save_estimator(path: Path, estimator: LevelEstimator, card: Card) -> None:
    """Write a level estimator in half precision, with its configuration and card; the card recommends no plans."""
    _write(path, estimator, {"estimator": True, "config": estimator.config, "card": asdict(card)})


def save_noise_reader(path: Path, reader: NoiseReader, card: Card) -> None:
    """Write a noise reader in half precision, with its configuration and card; the card recommends no plans."""
    _write(path, reader, {"noise_reader": True, "config": reader.config, "card": asdict(card)})


def save_gated(path: Path, gated: GatedNetwork, card: Card, budget: float) -> None:
    """Write a network with its gate: the network in half precision, gate and bias as they are, by which routes are chosen."""
    config = {"routes": [str(plan) for plan in gated.routes], "hidden": gated.gate.inner.out_features, "budget": budget}
    network = gated.network
    header = {"network": name_of(network), "config": network.config, "gate": config, "card": asdict(card)}
    extra = {f"{_GATE}{name}": value for name, value in gated.gate.state_dict().items()}
    _write(path, network, header, {**extra, f"{_GATE}bias": gated.bias}, prefix=_NETWORK)


def _write(
    path: Path,
    module: nn.Module,
    header: dict[str, Any],
    extra: Mapping[str, torch.Tensor] = MappingProxyType({}),
    prefix: str = "",
) -> None:
    tensors = {prefix + name: value.detach().cpu().half().contiguous() for name, value in module.state_dict().items()}
    tensors |= {name: value.detach().cpu().contiguous() for name, value in extra.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {"grainwise": json.dumps({"format": FORMAT, **header})})


def load_weights(name_or_path: str | Path) -> Weights:
    """Load shipped weights by name, or a file by its path.

    Raises:
        UnknownNameError: neither a shipped name nor a path of a file.
        WeightsError: the file is damaged, not one of grainwise, or of a newer version of it.
    """
    path = Path(name_or_path)
    if str(name_or_path) in SHIPPED:
        path = Path(str(resources.files("grainwise") / "weights" / f"{name_or_path}.safetensors"))
    elif not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise WeightsError(
                f"there is no weights file {path}; give the path of one, or a name: {', '.join(SHIPPED)}"
            )
        raise UnknownNameError("model", str(name_or_path), SHIPPED)
    header, tensors = _read(path)
    if "estimator" in header or "noise_reader" in header:
        raise WeightsError(f"{path} estimates levels, it holds no network; see load_estimator and load_noise_reader")
    if "gate" in header:
        raise WeightsError(
            f"{path} holds a network with a gate; open it with load_gated, or run it with grainwise denoise or evaluate"
        )
    try:
        network = create_network(header["network"], header["config"])
        predictor = GainPredictor(**header["predictor"]) if "predictor" in header else None
        if predictor is not None:
            held = [name for name in tensors if name.startswith(_PREDICTOR)]
            predictor.load_state_dict({name.removeprefix(_PREDICTOR): tensors.pop(name) for name in held})
            predictor.plans(network.space)
            predictor.eval().requires_grad_(False)
        network.load_state_dict(tensors)
        card = _card(header["card"])
        weights = Weights(path.stem, network.eval().requires_grad_(False), card, predictor)
        if not weights.plans():
            raise WeightsError(f"{path} recommends no plan; save it with at least one in its card")
    except _LIES as error:
        raise _lie(path, "network", error) from None
    return weights


def holds_gate(name_or_path: str | Path) -> bool:
    """Whether a name or path is that of a network with a gate, which `load_gated` opens; False for what is no such file."""
    path = Path(name_or_path)
    return str(name_or_path) not in SHIPPED and path.is_file() and "gate" in _read(path)[0]


def load_gated(path: Path) -> GatedWeights:
    """Load a network with its gate.

    Raises:
        WeightsError: the file is missing, damaged, not one of grainwise, of a newer version of it, or holds no gate.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}; give the path of a network with a gate")
    header, tensors = _read(path)
    if "gate" not in header:
        raise WeightsError(f"{path} holds no gate; open it with load_weights or load_estimator")
    try:
        network = create_network(header["network"], header["config"])
        if not isinstance(network, RatioNetwork):
            raise WeightsError(f"{path} has a gate on {header['network']}, which takes none; get it anew")
        network.load_state_dict(_below(tensors, _NETWORK))
        config, gate = header["gate"], _below(tensors, _GATE)
        routes = [network.space.parse(text) for text in config["routes"]]
        gated = GatedNetwork(network, routes, hidden=config["hidden"])
        gated.bias.copy_(gate.pop("bias"))
        gated.gate.load_state_dict(gate)
        gated.eval().requires_grad_(False)
        return GatedWeights(path.stem, gated, _card(header["card"]), float(config["budget"]))
    except _LIES as error:
        raise _lie(path, "network with a gate", error) from None


def _below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_estimator(path: Path) -> tuple[LevelEstimator, Card]:
    """Load a level estimator and its card.

    Raises:
        WeightsError: the file is missing, damaged, not one of grainwise, of a newer version of it, or holds something else.
    """
    return _load_reading(path, "estimator", "level estimator", LevelEstimator)


def load_noise_reader(path: Path) -> tuple[NoiseReader, Card]:
    """Load a noise reader and its card.

    Raises:
        WeightsError: see `load_estimator`.
    """
    return _load_reading(path, "noise_reader", "noise reader", NoiseReader)


def _load_reading(path: Path, entry: str, kind: str, build: Callable[..., ReadingT]) -> tuple[ReadingT, Card]:
    """What reads a level from a picture, and its card, of a file whose header has the ``entry``."""
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}; give the path of a {kind}")
    header, tensors = _read(path)
    if entry not in header:
        raise WeightsError(f"{path} holds no {kind}; networks are opened with load_weights")
    try:
        module = build(**header["config"])
        module.load_state_dict(tensors)
        return module.eval().requires_grad_(False), _card(header["card"])
    except _LIES as error:
        raise _lie(path, kind, error) from None


_LIES = (ValueError, KeyError, TypeError, RuntimeError, InputError, PlanError)


def _lie(path: Path, kind: str, error: Exception) -> WeightsError:
    message = " ".join(str(error).split())
    return WeightsError(f"{path} does not hold the {kind} that its header describes ({message}); get it anew")


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The header and the tensors of a file of grainwise."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("grainwise")
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 -- not a mapping
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} is no readable weights file ({error}); get it anew") from None
    if text is None:
        raise WeightsError(f"{path} is a safetensors file, but not one of grainwise: its header has no such entry")
    try:
        header = json.loads(text)
        if header["format"] > FORMAT:
            raise WeightsError(f"{path} has format {header['format']}, this grainwise reads up to {FORMAT}; update it")
    except _LIES as error:
        raise _lie(path, "network", error) from None
    return header, tensors


def _card(fields: dict[str, Any]) -> Card:
    plans = tuple(MeasuredPlan(**measured) for measured in fields["plans"])
    return Card(**{**fields, "data": tuple(fields["data"]), "plans": plans})
