"""grainwise evaluate."""

import json
from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.options import Budget, Device, Dtype, Json, Model


def evaluate(
    data: Annotated[Path, typer.Option(help="A folder of clean pictures, or of real pairs with --noise real.")],
    noise: Annotated[str, typer.Option(help="gaussian:25 (255 sigma), or real: pairs NAME_real and NAME_mean.")],
    model: Model = "default",
    budget: Budget = "balanced",
    protocol: Annotated[str, typer.Option(help="rgb-u8, rgb-u8-clipped or y-bt601:BORDER.")] = "rgb-u8",
    blind: Annotated[bool, typer.Option(help="Estimate the noise level instead of telling it.")] = False,
    limit: Annotated[int | None, typer.Option(help="Take the first so many pictures.")] = None,
    rows: Annotated[bool, typer.Option(help="With --json: the scores of each picture too.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Json = False,
) -> int:
    """Measure a model on pictures: PSNR, SSIM, seconds. Real pairs are always restored blind."""
    from grainwise.cli.restorers import pictures_in, restorer_of
    from grainwise.core.errors import InputError
    from grainwise.data.pairs import real_pairs
    from grainwise.evaluation import measure
    from grainwise.evaluation.protocol import get_protocol, parse_noise
    from grainwise.runtime.budget import choose_plan
    from grainwise.runtime.denoiser import Denoiser

    chosen = get_protocol(protocol)
    synthetic = None if noise == "real" else parse_noise(noise)
    if rows and not as_json:
        raise InputError("--rows goes with --json")
    if synthetic is None and limit is not None:
        raise InputError("--limit does not go with --noise real; every pair is measured")
    denoiser = Denoiser.from_pretrained(model, device=device, dtype=dtype)  # type: ignore[arg-type]
    choice = choose_plan(denoiser.weights, budget)
    if synthetic is None:
        restore = restorer_of(denoiser, budget, blind=True)
        triples = [
            (name, measure.unit_picture(noisy, name), measure.unit_picture(clean, name))
            for name, noisy, clean in real_pairs(data)
        ]
        result = measure.evaluate_pairs(restore, triples, 0.0, chosen, noise="real", data=data.resolve().name)
        before = measure.evaluate_pairs(lambda x, _: x, triples, 0.0, chosen, noise="real", data=data.resolve().name)
        line = {**result.to_json(rows=rows), "psnr_before": before.psnr, "ssim_before": before.ssim, "sigma": None}
    else:
        restore = restorer_of(denoiser, budget, blind=blind)
        result = measure.evaluate(restore, pictures_in(data, limit), synthetic, chosen, data=data.resolve().name)
        line = result.to_json(rows=rows)
    line |= {
        "model": model,
        "blind": blind or synthetic is None,
        "plan": str(choice.plan),
        "macs_per_pixel": choice.measured.macs_per_pixel,
        "device": str(denoiser.device),
        "dtype": str(denoiser.dtype).removeprefix("torch."),
    }
    if as_json:
        typer.echo(json.dumps(line))
    else:
        was = f" (before: {line['psnr_before']:.2f} dB)" if "psnr_before" in line else ""
        psnr = "infinite" if line["psnr"] is None else f"{line['psnr']:.2f} dB"
        ssim = "-" if line["ssim"] is None else f"{line['ssim']:.4f}"
        typer.echo(
            f"{data.name}, {noise}, {line['protocol']}, {line['pictures']} pictures: PSNR {psnr}{was}, SSIM {ssim}, "
            f"{line['macs_per_pixel'] / 1000:.1f}K MACs/px, {line['megapixels_per_second']:.1f} MP/s {line['dtype']}"
        )
    return 0
