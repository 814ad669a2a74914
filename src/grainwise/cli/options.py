"""Options that several commands take, described once."""

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(help="Shipped weights by name, or a weights file.", show_default=True)]
Budget = Annotated[str, typer.Option(help="fast, balanced, best, or MACs/px such as 50k or 0.2M.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16 (GPU).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
