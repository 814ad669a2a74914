"""grainwise upscale."""

from typing import Annotated

import typer

from grainwise.cli.common import Common, with_common


@with_common("upscale")
def upscale(
    common: Common,
    scale: Annotated[float, typer.Option(help="How many times as large along a side, 1.5 to 6; any number.")],
) -> int:
    """Enlarge pictures. Depth, alpha (enlarged too), ICC, EXIF and XMP stay as they are; MACs/px are of the result."""
    from grainwise.cli.all_files import loader, restore_files
    from grainwise.cli.tasks import Upscaling
    from grainwise.runtime.upscaler import Upscaler

    return restore_files(loader(Upscaler), lambda upscaler: Upscaling(upscaler, scale=scale), common)
