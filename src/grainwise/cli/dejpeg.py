"""grainwise dejpeg."""

from typing import Annotated

import typer

from grainwise.cli.common import Common, with_common


@with_common("dejpeg")
def dejpeg(
    common: Common,
    level: Annotated[
        float | None,
        typer.Option(
            help="JPEG quality at which the picture was saved, 1 to 100.",
            show_default="by a JPEG file's tables; by the pixels of other files, and where the tables say 90 or more and "
            "the pixels less",
        ),
    ] = None,
) -> int:
    """Remove the artifacts of JPEG compression. Depth, alpha, ICC, EXIF and XMP stay as they are."""
    from grainwise.cli.all_files import loader, restore_files
    from grainwise.cli.tasks import Dejpeg
    from grainwise.core.errors import InputError
    from grainwise.runtime.jpeg_restorer import JpegRestorer

    if level is not None and not 1 <= level <= 100:
        raise InputError(f"--level is the JPEG quality at which the picture was saved, 1 to 100, got {level:g}")
    return restore_files(loader(JpegRestorer), lambda restorer: Dejpeg(restorer, quality=level), common)
