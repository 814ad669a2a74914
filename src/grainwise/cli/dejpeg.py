"""grainwise dejpeg."""

from typing import Annotated

import typer

from grainwise.cli import options


def dejpeg(
    inputs: options.Inputs,
    out: options.Out,
    model: options.Model = "dejpeg",
    budget: options.FileBudget = None,
    max_seconds: options.MaxSeconds = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="JPEG quality at which the picture was saved, 1 to 100.",
            show_default="by a JPEG file's tables; by the pixels of other files, and where the tables say 90 or more and "
            "the pixels less",
        ),
    ] = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    max_memory: options.MaxMemory = None,
    quality: options.Quality = 95,
    skip_existing: options.SkipExisting = False,
    strip_metadata: options.StripMetadata = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> int:
    """Remove the artifacts of JPEG compression. Depth, alpha, ICC, EXIF and XMP stay as they are."""
    from grainwise.cli.all_files import Common, restore_files
    from grainwise.cli.tasks import Dejpeg
    from grainwise.core.errors import InputError
    from grainwise.runtime.jpeg_restorer import JpegRestorer

    common = Common(
        inputs=inputs, out=out, model=model, budget=budget, max_seconds=max_seconds, device=device, dtype=dtype,
        max_memory=max_memory, quality=quality, skip_existing=skip_existing, strip_metadata=strip_metadata,
        dry_run=dry_run, as_json=as_json,
    )  # fmt: skip
    if level is not None and not 1 <= level <= 100:
        raise InputError(f"--level is the JPEG quality at which the picture was saved, 1 to 100, got {level:g}")
    return restore_files(JpegRestorer, lambda restorer: Dejpeg(restorer, quality=level), common)
