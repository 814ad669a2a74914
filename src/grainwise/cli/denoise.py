"""grainwise denoise."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grainwise.cli.options import Budget, Device, Dtype, Json, Model

if TYPE_CHECKING:
    from grainwise.cli.paths import Job
    from grainwise.runtime.denoiser import Denoiser

LEAST_LEVEL = 0.5
"""A blind estimate under this many steps of 255 is reported as no noise."""


def denoise(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, globs or folders (recursive).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A file, or a folder; folders are mirrored into it.")],
    model: Model = "default",
    budget: Budget = "balanced",
    strength: Annotated[float, typer.Option(help="0 to 2: multiplies the noise level; 0 changes nothing.")] = 1.0,
    sigma: Annotated[float | None, typer.Option(help="Noise level, 0 to 75 (of 255); estimated by default.")] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_memory: Annotated[float | None, typer.Option(help="What the process may take, in MB.")] = None,
    quality: Annotated[int, typer.Option(help="Of JPEG and lossy WebP, 1 to 100.")] = 95,
    skip_existing: Annotated[bool, typer.Option(help="Leave pictures alone whose output is there.")] = False,
    strip_metadata: Annotated[
        bool, typer.Option(help="Leave out EXIF, XMP and IPTC (ICC and orientation stay).")
    ] = False,
    as_json: Json = False,
) -> int:
    """Remove the noise of pictures. Depth, alpha, ICC, EXIF and XMP stay as they are."""
    from grainwise.cli.paths import plan_jobs
    from grainwise.core.errors import InputError
    from grainwise.runtime.budget import choose_plan
    from grainwise.runtime.denoiser import Denoiser

    jobs = plan_jobs(inputs, out)
    if not 0 <= strength <= 2:
        raise InputError(f"--strength lies in 0 to 2, got {strength:g}")
    if not 1 <= quality <= 100:
        raise InputError(f"--quality lies in 1 to 100, got {quality}")
    denoiser = Denoiser.from_pretrained(model, device=device, dtype=dtype, max_memory=max_memory)  # type: ignore[arg-type]
    choose_plan(denoiser.weights, budget)
    highest = round(255 * denoiser.weights.network.facts.sigma_max)
    if sigma is not None and not 0 <= sigma <= highest:
        raise InputError(f"--sigma is the noise level times 255, from 0 to {highest}, got {sigma:g}")
    settings = {"budget": budget, "strength": strength, "sigma": None if sigma is None else sigma / 255}
    writing = {"quality": quality, "strip_metadata": strip_metadata}
    return _run(jobs, denoiser, settings, writing, skip_existing=skip_existing, as_json=as_json)


def _run(
    jobs: "list[Job]",
    denoiser: "Denoiser",
    settings: dict[str, Any],
    writing: dict[str, Any],
    *,
    skip_existing: bool,
    as_json: bool,
) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from grainwise.core.errors import GrainwiseError

    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as bar:
        overall = bar.add_task("pictures", total=len(jobs))
        within = bar.add_task("", total=1.0)
        for job in jobs:
            bar.update(within, description=job.source.name, completed=0.0)
            skipped = skip_existing and job.target.exists()
            try:
                told = (
                    {} if skipped else _one(job, denoiser, settings, writing, lambda p: bar.update(within, completed=p))
                )
            except GrainwiseError as error:
                if len(jobs) == 1:
                    raise
                failed += 1
                told = {"error": " ".join(str(error).split())}
            bar.advance(overall)
            line = {"input": str(job.source), "output": str(job.target), "skipped": skipped, **told}
            typer.echo(json.dumps(line) if as_json else _words(line), err=not as_json and "error" in line)
    return 1 if failed else 0


def _one(
    job: "Job",
    denoiser: "Denoiser",
    settings: dict[str, Any],
    writing: dict[str, Any],
    progress: Any,  # noqa: ANN401
) -> dict[str, Any]:
    from grainwise import __version__
    from grainwise.core.pictures import read_picture, write_picture

    start = time.perf_counter()
    picture = read_picture(job.source)
    read = time.perf_counter()
    result = denoiser.restore(picture.pixels, progress=progress, **settings)
    restored = time.perf_counter()
    did = (
        f"grainwise {__version__}, model {denoiser.weights.name}, plan {result.plan}, strength {settings['strength']:g}"
    )
    write_picture(job.target, result.image, picture, provenance=did, **writing)  # type: ignore[arg-type]
    end = time.perf_counter()
    megapixels = picture.pixels.shape[0] * picture.pixels.shape[1] / 1e6
    return {
        "sigma": 255 * result.sigma,
        "noise_found": result.estimate is None or 255 * result.estimate.sigma >= LEAST_LEVEL,
        "plan": str(result.plan),
        "macs_per_pixel": result.macs_per_pixel,
        "tiles": result.tiles,
        "megapixels": megapixels,
        "seconds": end - start,
        "seconds_read": read - start,
        "seconds_estimate": result.seconds_estimate,
        "seconds_network": restored - read - result.seconds_estimate,
        "seconds_write": end - restored,
        "megapixels_per_second": megapixels / (end - start),
        "device": str(denoiser.device),
        "dtype": str(denoiser.dtype).removeprefix("torch."),
    }


def _words(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"grainwise: error: {line['error']}"
    if line["skipped"]:
        return f"{line['output']}: there already, skipped"
    if not line["noise_found"]:
        hint = "no noise found that can be told from the picture; if there is some, give its level: --sigma 5"
        return f"{line['output']}: {hint}"
    return (
        f"{line['output']}: sigma {line['sigma']:.1f}, {line['macs_per_pixel'] / 1000:.0f}K MACs/px, "
        f"{line['megapixels']:.1f} MP in {line['seconds']:.2f} s"
    )
