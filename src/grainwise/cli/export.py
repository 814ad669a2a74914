"""grainwise export."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grainwise.cli.options import Json, named

if TYPE_CHECKING:
    from grainwise.export import Exported
    from grainwise.export.graph import SigmaInput
    from grainwise.networks.checkpoint import Weights


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Shipped weights by name, or a weights file.")],
    format: Annotated[str, typer.Option("--format", help="onnx, openvino or dtmodel (darktable).")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", parser=named, metavar="PATH", help="The file: .onnx, .xml (openvino) or .dtmodel."),
    ],
    budget: Annotated[
        str | None,
        typer.Option(
            help="fast, balanced (default), best, or MACs/px such as 50k; onnx: several, with commas. A gate takes none.",
            show_default=False,
        ),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="dtmodel only: the noise level built in, up to 75 (of 255); 10 by default.")
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="onnx, openvino: for JPEG artifacts the quality built in, 1 to 100; an input of the file if not given. For "
            "enlarging the scale, 1.5 to 6, which must be built in."
        ),
    ] = None,
    sigma_map: Annotated[
        bool, typer.Option("--sigma-map", help="onnx, openvino: take the noise level at every pixel.")
    ] = False,
    half: Annotated[bool, typer.Option("--half", help="Store the weights in 16 bits: half the file.")] = False,
    as_json: Json = False,
) -> int:
    """Write a plan for another runtime: ONNX, OpenVINO or darktable. The file is run and compared before it is kept."""
    from grainwise.core.errors import InputError, UnknownNameError
    from grainwise.export import FORMATS, TOLERANCE, export_gated, holds_gate, load_gated, load_weights

    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if sigma is not None and format != "dtmodel":
        raise InputError(
            f"--sigma goes with --format dtmodel; a file of the format {format} takes the noise level as an input"
        )
    if sigma_map and format == "dtmodel":
        raise InputError("--sigma-map goes with --format onnx or openvino; darktable cannot tell a noise level")
    if level is not None and format == "dtmodel":
        raise InputError(
            "--level goes with --format onnx or openvino; a package that enlarges holds the scales 2 and 4"
        )
    start = time.perf_counter()
    if holds_gate(model):
        _check_gate(format, given=any(option is not None for option in (budget, level)) or sigma_map)
        told = export_gated(load_gated(Path(model)), out, half=half)
    else:
        told = _plain(
            load_weights(model), format, out, "balanced" if budget is None else budget, sigma, level, sigma_map, half
        )
    size = sum(file.stat().st_size for file in told.files)
    line = {
        "output": str(out),
        "files": [str(file) for file in told.files],
        "format": format,
        "plan": "; ".join(str(plan) for plan in told.plans),
        "macs_per_pixel": told.macs_per_pixel[0] if len(told.plans) == 1 else told.macs_per_pixel,
        "max_difference": told.max_difference,
        "tolerance": TOLERANCE,
        "bytes": size,
        "seconds": time.perf_counter() - start,
    }
    if as_json:
        typer.echo(json.dumps(line))
    else:
        costs = ", ".join(f"{cost / 1000:.0f}K" for cost in told.macs_per_pixel)
        typer.echo(
            f"{out}: {costs} MACs/px, {size / 1e6:.1f} MB, "
            f"differs from the network by at most {told.max_difference:.1g}"
        )
    return 0


def _check_gate(format: str, *, given: bool) -> None:
    """Refuse for a network with a gate what its file cannot be or take."""
    from grainwise.core.errors import InputError

    if format != "onnx":
        raise InputError(f"a network with a gate goes into one ONNX file; give --format onnx, got {format}")
    if given:
        raise InputError(
            "a gate chooses the plan, and its network is told nothing; leave out --budget, --level, --sigma-map"
        )


def _plain(
    weights: "Weights",
    format: str,
    out: Path,
    budget: str,
    sigma: float | None,
    level: float | None,
    sigma_map: bool,
    half: bool,
) -> "Exported":
    """Write a network without a gate."""
    from grainwise.export import export_dtmodel, export_onnx, export_openvino

    if format == "dtmodel":
        return export_dtmodel(weights, out, budget=budget, half=half, sigma=None if sigma is None else sigma / 255)
    taken: SigmaInput | None = "map" if sigma_map else None
    if format == "onnx":
        return export_onnx(weights, out, budgets=budget.split(","), sigma=taken, level=level, half=half)
    return export_openvino(weights, out, budget=budget, sigma=taken, level=level, half=half)
