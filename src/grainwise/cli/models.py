"""grainwise models."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from grainwise.cli.options import Json


def models(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Shipped weights, or a weights file.")] = None,
    as_json: Json = False,
) -> int:
    """Tell what ships: plans, MACs/px, parameters, licence, data, measured PSNR."""
    from grainwise.networks.checkpoint import SHIPPED, load_weights
    from grainwise.networks.registry import name_of

    for one in SHIPPED if name is None else (name,):
        weights = load_weights(one)
        parameters = sum(p.numel() for p in weights.network.parameters())
        network = name_of(weights.network)
        if as_json:
            typer.echo(
                json.dumps(
                    {
                        "name": weights.name,
                        "task": weights.network.facts.task,
                        "network": network,
                        "parameters": parameters,
                        **asdict(weights.card),
                    }
                )
            )
            continue
        card = weights.card
        typer.echo(
            f"{weights.name}: {network} for {weights.network.facts.task}, {parameters / 1e6:.2f}M parameters, {card.licence}"
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
