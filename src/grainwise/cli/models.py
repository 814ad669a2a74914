"""grainwise models."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grainwise.cli.options import Json

if TYPE_CHECKING:
    from torch import nn

    from grainwise.networks.checkpoint import Card
    from grainwise.networks.network import Network


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Shipped weights, or a weights file.")] = None,
    as_json: Json = False,
) -> int:
    """Tell what ships: plans, MACs/px, parameters, licence, data, measured PSNR."""
    from grainwise.networks.checkpoint import SHIPPED

    for one in SHIPPED if name is None else (name,):
        about, card = _described(one)
        if as_json:
            typer.echo(json.dumps({**about, **asdict(card)}))
            continue
        gate = f" with a gate for {about['budget'] / 1e3:g}K MACs/px" if "budget" in about else ""
        typer.echo(
            f"{about['name']}: {about['network']}{gate} for {about['task']}, {about['parameters'] / 1e6:.2f}M parameters, "
            f"{card.licence}"
        )
        typer.echo(
            f"  taught by {', '.join(card.data)}; {card.steps} steps, {card.seconds / 60:.0f} min on {card.device}"
        )
        typer.echo(f"  rebuilt by: {card.recipe}  (commit {card.commit})")
        if card.notes:
            typer.echo(f"  {card.notes}")
        for measured in card.plans:
            psnr = ", ".join(f"{what} {value:.2f} dB" for what, value in measured.psnr.items())
            typer.echo(f"  {measured.macs_per_pixel / 1000:6.1f}K MACs/px {measured.name:9s} {measured.plan}  {psnr}")
    return 0


def _described(name: str) -> "tuple[dict[str, Any], Card]":
    """What a weights file holds, with a gate or without, and its card."""
    from pathlib import Path

    from grainwise.networks.checkpoint import GatedWeights, holds_gate, load_gated, load_weights
    from grainwise.networks.registry import name_of

    held = load_gated(Path(name)) if holds_gate(name) else load_weights(name)
    network: Network = held.gated.network if isinstance(held, GatedWeights) else held.network
    whole: nn.Module = held.gated if isinstance(held, GatedWeights) else held.network
    about = {
        "name": held.name,
        "task": network.facts.task,
        "network": name_of(network),
        "parameters": sum(p.numel() for p in whole.parameters()),
    }
    return about | ({"budget": held.budget} if isinstance(held, GatedWeights) else {}), held.card
