"""grainwise evaluate."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from grainwise.cli.options import Device, Dtype, Json, Model, named

if TYPE_CHECKING:
    from grainwise.cli.real_sets import RealSet
    from grainwise.evaluation.measure import Restorer


def evaluate(
    data: Annotated[
        str,
        typer.Option(
            metavar="FOLDER|SET:FOLDER",
            help="Clean pictures, or a set of real noise: pairs, sidd-medium, sidd-val, sidd-benchmark or dnd.",
        ),
    ],
    noise: Annotated[
        str | None, typer.Option(help="gaussian:25 (255 sigma) for clean pictures; real for SET:FOLDER, the default.")
    ] = None,
    model: Model = "default",
    budget: Annotated[
        str | None,
        typer.Option(
            help="fast, balanced, best, or MACs/px such as 50k or 0.2M.", show_default="balanced; a gate has its own"
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="rgb-u8, rgb-u8-clipped, rgb-u8-truncated or y-bt601:BORDER.")
    ] = "rgb-u8",
    blind: Annotated[bool, typer.Option(help="Estimate the noise level instead of telling it.")] = False,
    limit: Annotated[int | None, typer.Option(help="Take the first so many pictures.")] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            parser=named, metavar="PATH", help="sidd-benchmark: the .mat or .csv file to hand in; dnd: the folder."
        ),
    ] = None,
    rows: Annotated[bool, typer.Option(help="With --json: the scores of each picture too.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> int:
    """Measure a model on pictures: PSNR, SSIM, seconds. Real noise is always restored blind."""
    from grainwise.cli.real_sets import RealSet, pairs_of, real_set
    from grainwise.cli.restorers import Tally, find_denoiser, pictures_in
    from grainwise.core.errors import InputError
    from grainwise.evaluation import measure
    from grainwise.evaluation.protocol import get_protocol, parse_noise

    if not data:
        raise InputError("--data is a folder of pictures, or SET:FOLDER; got an empty text")
    chosen = get_protocol(protocol)
    real = real_set(data)
    if real is None and noise == "real":
        real = RealSet("pairs", Path(data))
    _check(real, noise, protocol, limit, submission, rows, as_json)
    synthetic = None if real is not None else parse_noise(noise or "")
    denoiser = find_denoiser(model, device=device, dtype=dtype)
    tally = Tally(denoiser, budget, blind=blind or real is not None)
    restore = tally.restore
    line: dict[str, Any]
    if submission is not None and real is not None:
        way = "gate" if tally.gated else tally.choice.plan
        line = _submit(real, submission, restore, method=f"grainwise {model} {way}")
    elif real is not None:
        name = real.folder.resolve().name if real.name == "pairs" else real.name
        result, before = measure.evaluate_with_input(restore, pairs_of(real, limit), chosen, noise="real", data=name)
        was = before.to_json()
        line = {**result.to_json(rows=rows), "psnr_before": was["psnr"], "ssim_before": was["ssim"], "sigma": None}
    else:
        assert synthetic is not None
        pictures = pictures_in(Path(data), limit)
        result = measure.evaluate(restore, pictures, synthetic, chosen, data=Path(data).resolve().name)
        line = result.to_json(rows=rows)
    line |= {
        "model": model,
        "blind": tally.blind,
        **tally.to_json(),
        "device": str(denoiser.device),
        "dtype": str(denoiser.dtype).removeprefix("torch."),
    }
    typer.echo(json.dumps(line) if as_json else _words(line))
    return 0


def _check(
    real: "RealSet | None",
    noise: str | None,
    protocol: str,
    limit: int | None,
    submission: Path | None,
    rows: bool,
    as_json: bool,
) -> None:
    """Refuse options that do not go together."""
    from grainwise.cli.real_sets import WITHOUT_REFERENCES
    from grainwise.core.errors import InputError

    if rows and not as_json:
        raise InputError("--rows goes with --json")
    if real is None and noise is None:
        raise InputError("clean pictures need --noise, such as gaussian:25; sets of real noise are named SET:FOLDER")
    if real is not None and noise not in (None, "real"):
        raise InputError(f"the pictures of {real.name} are noisy already; leave out --noise {noise}")
    closed = real is not None and real.name in WITHOUT_REFERENCES
    if closed and submission is None:
        raise InputError(f"the references of {real.name} are not public; write what its server takes, --submission OUT")  # type: ignore[union-attr]
    if submission is not None and not closed:
        raise InputError(f"--submission goes with --data SET:FOLDER for {' or '.join(WITHOUT_REFERENCES)}")
    if submission is not None and (limit is not None or rows or protocol != "rgb-u8"):
        raise InputError("a submission holds all pictures and no scores; leave out --limit, --rows and --protocol")


def _submit(real: "RealSet", out: Path, restore: "Restorer", *, method: str) -> dict[str, Any]:
    """Write a submission and describe it."""
    from grainwise.cli.real_sets import submit
    from grainwise.evaluation.environment import environment

    done = submit(real, out, restore, method=method, machine=environment().cpu)
    return {
        "psnr": None,
        "ssim": None,
        "seconds": done.seconds,
        "megapixels": done.megapixels,
        "megapixels_per_second": done.megapixels / done.seconds,
        "sigma": None,
        "noise": "real",
        "data": real.name,
        "pictures": done.pictures,
        "submission": str(out),
    }


def _words(line: dict[str, Any]) -> str:
    """A result in one line for people."""
    speed = f"{line['macs_per_pixel'] / 1000:.1f}K MACs/px, {line['megapixels_per_second']:.1f} MP/s {line['dtype']}"
    if "submission" in line:
        return f"{line['data']}, {line['pictures']} pictures: {line['submission']} is ready to hand in, {speed}"

    def decibels(value: float | None) -> str:
        return "infinite" if value is None else f"{value:.2f} dB"

    was = f" (before: {decibels(line['psnr_before'])})" if "psnr_before" in line else ""
    ssim = "-" if line["ssim"] is None else f"{line['ssim']:.4f}"
    of = f"{line['data']}, {line['noise']}, {line['protocol']}, {line['pictures']} pictures"
    return f"{of}: PSNR {decibels(line['psnr'])}{was}, SSIM {ssim}, {speed}"
