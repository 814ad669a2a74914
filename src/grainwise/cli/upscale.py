"""grainwise upscale."""

from typing import Annotated

import typer

from grainwise.cli import options


def upscale(
    inputs: options.Inputs,
    out: options.Out,
    scale: Annotated[float, typer.Option(help="How many times as large along a side, 1.5 to 6; any number.")],
    model: options.Model = "upscale",
    budget: options.FileBudget = None,
    max_seconds: options.MaxSeconds = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_memory: options.MaxMemory = None,
    quality: options.Quality = 95,
    skip_existing: options.SkipExisting = False,
    strip_metadata: options.StripMetadata = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> int:
    """Enlarge pictures. Depth, alpha (enlarged too), ICC, EXIF and XMP stay as they are; MACs/px are of the result."""
    from grainwise.cli.all_files import Common, restore_files
    from grainwise.cli.tasks import Upscaling
    from grainwise.runtime.upscaler import Upscaler

    common = Common(
        inputs=inputs, out=out, model=model, budget=budget, max_seconds=max_seconds, device=device, dtype=dtype,
        max_memory=max_memory, quality=quality, skip_existing=skip_existing, strip_metadata=strip_metadata,
        dry_run=dry_run, as_json=as_json,
    )  # fmt: skip
    return restore_files(Upscaler, lambda upscaler: Upscaling(upscaler, scale=scale), common)
