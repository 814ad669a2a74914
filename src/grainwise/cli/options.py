"""Options that several commands take, described once."""

from pathlib import Path
from typing import Annotated

import typer


def named(text: str) -> Path:
    """A path that was given; an empty text would be the current folder."""
    if not text:
        raise typer.BadParameter("name a file or a folder, got an empty text; the current folder is a dot")
    return Path(text)


Model = Annotated[str, typer.Option(help="Shipped weights by name, or a weights file.", show_default=True)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16 or float16 (GPU). auto: the fastest, by bench --calibrate or by the hardware."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT...", help="Pictures, globs or folders (recursive).")]
Out = Annotated[
    Path,
    typer.Option(
        "-o", "--out", parser=named, metavar="PATH", help="A file, or a folder; folders are mirrored into it."
    ),
]
FileBudget = Annotated[
    str | None,
    typer.Option(
        help="fast, balanced, best, or MACs/px such as 50k or 0.2M.",
        show_default="balanced; no limit with --max-seconds",
    ),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(help="What a picture may take, its file read and written. With --budget, the cheaper one counts."),
]
MaxMemory = Annotated[float | None, typer.Option(help="What the process may take, in MB.")]
Quality = Annotated[int, typer.Option(help="Of JPEG and lossy WebP that are written, 1 to 100.")]
SkipExisting = Annotated[bool, typer.Option(help="Leave pictures alone whose output is there.")]
StripMetadata = Annotated[bool, typer.Option(help="Leave out EXIF, XMP and IPTC (ICC and orientation stay).")]
RouteMap = Annotated[
    Path | None,
    typer.Option(
        parser=named,
        metavar="PATH",
        help="For a single picture: also write a picture of the plans by which its parts were made.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Tell what it would take, and write nothing.")]
