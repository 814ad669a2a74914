"""grainwise estimate."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from grainwise.cli.options import Json


def estimate(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, globs or folders (recursive).")],
    task: Annotated[
        str, typer.Option(help="denoise: noise level. dejpeg: JPEG quality. sr: by how much it was enlarged.")
    ] = "denoise",
    estimator: Annotated[
        Path | None, typer.Option(help="Weights of a trained level estimator, in place of the classical estimates.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Estimate the degradation of pictures: noise level (in steps of 255), JPEG quality, or scale."""
    from grainwise.cli.estimates import WORDS, told_by
    from grainwise.cli.paths import named, sources_of
    from grainwise.core.errors import GrainwiseError, UnknownNameError

    if task not in WORDS:
        raise UnknownNameError("task", task, WORDS)
    sources = sources_of(inputs)
    told: Callable[[Path], dict[str, Any]] = told_by(task, estimator)
    failed = 0
    for path, _ in sources:
        line: dict[str, Any] = {"input": str(path)}
        try:
            start = time.perf_counter()
            line |= told(path)
            line["seconds"] = time.perf_counter() - start
        except GrainwiseError as error:
            if len(sources) == 1:
                raise
            failed += 1
            line["error"] = named(path, error)
            typer.echo(json.dumps(line) if as_json else f"grainwise: error: {line['error']}", err=not as_json)
            continue
        typer.echo(json.dumps(line) if as_json else f"{line['input']}: {WORDS[task](line)}")
    return 1 if failed else 0
