"""The commands. What a command needs is imported when it runs, so that ``--help`` and ``--version`` answer at once."""

import typer

from grainwise import __version__
from grainwise.cli.bench import bench
from grainwise.cli.dejpeg import dejpeg
from grainwise.cli.denoise import denoise
from grainwise.cli.estimate import estimate
from grainwise.cli.evaluate import evaluate
from grainwise.cli.export import export
from grainwise.cli.models import models
from grainwise.cli.train import train
from grainwise.cli.upscale import upscale
from grainwise.cli.web import web

app = typer.Typer(
    name="grainwise",
    help="Restores photographs under a compute budget that you choose.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"grainwise {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Take what belongs to no command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


for command in (denoise, dejpeg, upscale, estimate, models, evaluate, bench, train, export, web):
    app.command()(command)
