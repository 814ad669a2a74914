"""grainwise denoise."""

from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.options import Device, Dtype, Json, Model


def denoise(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, globs or folders (recursive).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="A file, or a folder; folders are mirrored into it.")],
    model: Model = "default",
    budget: Annotated[
        str | None,
        typer.Option(
            help="fast, balanced, best, or MACs/px such as 50k or 0.2M.",
            show_default="balanced; no limit with --max-seconds",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="What a picture may take, its file read and written. With --budget, the cheaper one counts."),
    ] = None,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would take, and write nothing.")] = False,
    as_json: Json = False,
) -> int:
    """Remove the noise of pictures. Depth, alpha, ICC, EXIF and XMP stay as they are."""
    from grainwise.cli.all_files import forecast_all, restore_all
    from grainwise.cli.one_file import Restorer, Settings
    from grainwise.cli.paths import plan_jobs
    from grainwise.core.errors import InputError
    from grainwise.runtime.budget import choose_plan
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.pace import check_seconds

    jobs = plan_jobs(inputs, out)
    if not 0 <= strength <= 2:
        raise InputError(f"--strength lies in 0 to 2, got {strength:g}")
    if not 1 <= quality <= 100:
        raise InputError(f"--quality lies in 1 to 100, got {quality}")
    if max_seconds is not None:
        check_seconds(max_seconds)
    denoiser = Denoiser.from_pretrained(model, device=device, dtype=dtype, max_memory=max_memory)  # type: ignore[arg-type]
    denoiser.notify = lambda words: typer.echo(f"grainwise: {words}", err=True)
    choose_plan(denoiser.weights, "balanced" if budget is None else budget)
    highest = round(255 * denoiser.weights.network.facts.sigma_max)
    if sigma is not None and not 0 <= sigma <= highest:
        raise InputError(f"--sigma is the noise level times 255, from 0 to {highest}, got {sigma:g}")
    settings = Settings(
        budget=budget,
        strength=strength,
        sigma=None if sigma is None else sigma / 255,
        max_seconds=max_seconds,
        quality=quality,
        strip_metadata=strip_metadata,
    )
    restorer = Restorer(denoiser, settings)
    if dry_run:
        return forecast_all(jobs, restorer, skip_existing=skip_existing, as_json=as_json)
    return restore_all(jobs, restorer, skip_existing=skip_existing, as_json=as_json)
