"""grainwise train."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a recipe.")],
    out: Annotated[Path, typer.Option(help="The run's folder.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    cache: Annotated[Path, typer.Option(help="Where decoded pictures are kept.")] = Path(".cache/corpus"),
) -> int:
    """Train a network; weights.safetensors in the run's folder is the result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from grainwise.core.commit import current_commit
    from grainwise.core.errors import TrainingError
    from grainwise.networks.network import Network
    from grainwise.runtime.machine import tune_allocator
    from grainwise.training import loop, recipes
    from grainwise.training.held_out import HeldOut
    from grainwise.training.release import release

    tune_allocator()
    loop.check_libraries()
    chosen = recipes.get_recipe(recipe, changes or ())
    main_process = int(os.environ.get("RANK", "0")) == 0
    if not resume and (out / loop.CHECKPOINT).exists():
        raise TrainingError(f"{out} holds a run already; go on with --resume, or choose another folder")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (main_process and console.is_terminal)) as bar:
        task = bar.add_task("decoding pictures", total=None)
        corpus, kept_apart = recipes.corpora(chosen, cache, lambda n, all_: bar.update(task, completed=n, total=all_))
        network = recipes.network_of(chosen)
        size = chosen.loop.crop_size(chosen.loop.steps)
        held_out = HeldOut(chosen.validation.build(kept_apart), chosen.validation.label, size=size)
        commit = _commit_of_run(out, current_commit(), resume)
        bar.reset(task, description="training", total=chosen.loop.steps)
        last: dict[str, float] = {}

        def report(told: loop.Progress) -> None:
            loss = told.losses["loss"]
            bar.update(task, completed=told.step, description=f"training, loss {loss:.4f}")
            if told.scores != last and main_process:
                last.clear()
                last.update(told.scores)
                scores = ", ".join(f"{name} {value:.2f} dB" for name, value in told.scores.items())
                console.print(f"step {told.step}, {told.seconds / 60:.1f} min: {scores}", highlight=False)

        def validate(live: object) -> dict[str, float]:
            assert isinstance(live, Network)
            ends = {"narrowest": live.space.narrowest, "widest": live.space.widest}
            return {name: held_out.psnr(live, plan) for name, plan in ends.items()}

        batches = chosen.crops.build(corpus)
        result = loop.train(
            chosen.loop,
            chosen.method.build(network, seed=chosen.loop.seed),
            batches,
            out,
            resume=resume,
            validate=validate,
            report=report,
        )
    if main_process:
        command = " ".join(["grainwise train", recipe, *(f"--set {shlex.quote(change)}" for change in changes or ())])
        path = out / "weights.safetensors"
        release(chosen, network, result, batches, held_out, path, command=command, commit=commit)
        typer.echo(f"{path}: {result.steps} steps, {result.seconds / 60:.1f} min", file=sys.stdout)
    return 0


def _commit_of_run(out: Path, now: str, resume: bool) -> str:
    """The commit that the run was started from, kept in its folder."""
    note = out / "commit.txt"
    if resume and note.is_file():
        return note.read_text().strip()
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(now + "\n")
    return now
