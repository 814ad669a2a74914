"""grainwise train."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.options import named


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a recipe.")],
    out: Annotated[Path, typer.Option(parser=named, metavar="PATH", help="The run's folder.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="all, or some of the recipe's stages with commas between.", show_default="the first one"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    cache: Annotated[Path, typer.Option(parser=named, metavar="PATH", help="Where decoded pictures are kept.")] = Path(
        ".cache/corpus"
    ),
) -> int:
    """Train a network; weights.safetensors in the run's folder is the result. Stages have a folder each."""
    from functools import partial

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from grainwise.core.commit import current_commit
    from grainwise.runtime.machine import tune_allocator
    from grainwise.training import loop, recipes
    from grainwise.training import stages as staged

    tune_allocator()
    loop.check_libraries()
    chosen = recipes.get_recipe(recipe, changes or ())
    wanted = staged.chosen_stages(chosen, stages)
    main_process = staged.is_main()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, disable=not (main_process and console.is_terminal)) as bar:
        task = bar.add_task("", total=None, left="")

        def tell(told: staged.Told) -> None:
            words = f"{told.stage}, {told.words}" if told.words else told.stage
            left = "" if told.seconds_left is None else f"{_duration(told.seconds_left)} left"
            bar.update(task, completed=told.done, total=told.total, description=words, left=left)
            if told.line and main_process:
                console.print(f"{told.line}{left and f'; {left}'}", highlight=False)

        run = staged.Run(
            recipe=chosen,
            out=out,
            make_corpora=partial(recipes.corpora, chosen, cache),
            make_network=partial(recipes.network_of, chosen),
            command=" ".join(
                ["grainwise train", recipe, *(f"--set {shlex.quote(change)}" for change in changes or ())]
            ),
            commit=current_commit(),
            tell=tell,
        )
        staged.run_stages(wanted, run, resume=resume)
    if main_process:
        for stage in wanted:
            for result in stage.results(run.folder(stage.name)):
                typer.echo(str(result))
    return 0


def _duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
