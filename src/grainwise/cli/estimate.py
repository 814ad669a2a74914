"""grainwise estimate."""

import json
import time
from typing import Annotated, Any

import typer

from grainwise.cli.options import Json


def estimate(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, globs or folders (recursive).")],
    as_json: Json = False,
) -> int:
    """Estimate the noise level of pictures (standard deviation, in steps of 255)."""
    from grainwise.cli.paths import sources_of
    from grainwise.core.errors import GrainwiseError
    from grainwise.core.pictures import read_picture
    from grainwise.runtime.noise_level import estimate_noise

    sources = sources_of(inputs)
    failed = 0
    for path, _ in sources:
        line: dict[str, Any] = {"input": str(path)}
        try:
            pixels = read_picture(path).pixels
            start = time.perf_counter()
            found = estimate_noise(pixels)
        except GrainwiseError as error:
            if len(sources) == 1:
                raise
            failed += 1
            line["error"] = " ".join(str(error).split())
            typer.echo(json.dumps(line) if as_json else f"grainwise: error: {line['error']}", err=not as_json)
            continue
        line |= {
            "sigma": 255 * found.sigma,
            "depends_on_brightness": found.depends_on_brightness,
            "brightness": [255 * b for b in found.brightness],
            "sigmas": [255 * s for s in found.sigmas],
            "seconds": time.perf_counter() - start,
        }
        typer.echo(json.dumps(line) if as_json else _words(line))
    return 1 if failed else 0


def _words(line: dict[str, Any]) -> str:
    text = f"{line['input']}: sigma {line['sigma']:.1f}"
    if line["depends_on_brightness"]:
        text += f", from {min(line['sigmas']):.1f} to {max(line['sigmas']):.1f} by brightness"
    return text
