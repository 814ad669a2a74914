"""What a weights file scores: PSNR at several budgets and noise levels, told and blind, as a Markdown table.

    python benchmarks/quality.py --model default --data ../shared/data/test/cbsd68 ../shared/data/test/kodak24

With --card, the told scores are written into the card of the weights file as well.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from grainwise.cli.restorers import pictures_in, restorer_of
from grainwise.core.commit import current_commit
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import RGB_U8, Noise
from grainwise.networks.checkpoint import load_weights, save_weights
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser

BUDGETS = ("fast", "15k", "30k", "balanced", "60k", "best", "120k")


def psnr(denoiser: Denoiser, budget: str, data: Path, sigma: float, *, blind: bool) -> float:
    pictures = pictures_in(data)
    noise = Noise(kind="gaussian", sigma=sigma / 255)
    return evaluate(restorer_of(denoiser, budget, blind=blind), pictures, noise, RGB_U8, with_ssim=False).psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--levels", type=float, nargs="+", default=[15, 25, 50])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--card", type=Path, help="write the scores into the card of this weights file")
    args = parser.parse_args()
    denoiser = Denoiser.from_pretrained(args.model, dtype=args.dtype)
    card = denoiser.weights.card
    scores: dict[str, dict[str, float]] = {}
    print(
        f"{current_commit()}, {str(denoiser.dtype).removeprefix('torch.')}, protocol rgb-u8; PSNR told / blind in dB\n"
    )
    head = [f"{data.name} {level:g}" for data in args.data for level in args.levels]
    print("| budget | plan | MACs/px | " + " | ".join(head) + " |\n|---|---|" + "---:|" * (len(head) + 1))
    seen: dict[str, list[str]] = {}
    for budget in BUDGETS:
        chosen = choose_plan(denoiser.weights, budget).measured
        if chosen.plan not in seen:
            cells = []
            for data in args.data:
                for level in args.levels:
                    told, blind = (psnr(denoiser, budget, data, level, blind=b) for b in (False, True))
                    cells.append(f"{told:.2f} / {blind:.2f}")
                    scores.setdefault(chosen.plan, {})[f"rgb-u8 {data.name} gaussian:{level:g}"] = round(told, 3)
            seen[chosen.plan] = cells
        print(
            f"| {budget} | {chosen.plan} | {chosen.macs_per_pixel} | " + " | ".join(seen[chosen.plan]) + " |",
            flush=True,
        )
    for data in args.data:
        harm = [psnr(denoiser, budget, data, 0, blind=True) for budget in ("fast", "best")]
        told = psnr(denoiser, "best", data, 0, blind=False)
        print(f"\n{data.name} without noise: blind, fast {harm[0]:.2f} dB, best {harm[1]:.2f} dB; told 0: {told} dB")
    if args.card is not None:
        weights = load_weights(args.card)
        plans = tuple(replace(m, psnr={**m.psnr, **scores.get(m.plan, {})}) for m in card.plans)
        save_weights(args.card, weights.network, replace(weights.card, plans=plans), weights.predictor)


if __name__ == "__main__":
    np.seterr(divide="ignore")
    main()
