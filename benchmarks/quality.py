"""What a weights file scores: PSNR at several budgets and levels, told and blind, as a Markdown table.

    python benchmarks/quality.py --model default --data ../shared/data/test/cbsd68 ../shared/data/test/kodak24
    python benchmarks/quality.py --model dejpeg --data ../shared/data/test/live1
    python benchmarks/quality.py --model upscale --data ../shared/data/test/set5

The model's task decides what is measured: noise at three levels; JPEG of luma at quality 10, 20, 30, 40 and of colour at 10,
30, 50, 90; scales 2, 3, 4 (antialiased, luma, without a border of the scale). The row "as it came" is what the restorer
is given (enlarged by bicubic interpolation). With --card, the told scores are written into the card of the weights file too,
and in its notes the number format that they were measured in; whole sets alone, not with --limit.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from grainwise.cli.restorers import pictures_in, restorer_of
from grainwise.core.commit import current_commit
from grainwise.evaluation.degraded import Bicubic, Jpeg, evaluate_degraded
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import RGB_U8, Noise
from grainwise.networks.checkpoint import Card, load_weights, save_weights
from grainwise.networks.tasks import DEJPEG, DENOISE, UPSCALE
from grainwise.runtime.budget import choose_plan
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.jpeg_restorer import JpegRestorer
from grainwise.runtime.restorer import Restorer
from grainwise.runtime.upscaler import Upscaler

BUDGETS = ("fast", "15k", "30k", "balanced", "60k", "best", "120k")
KINDS: dict[str, type[Restorer]] = {DENOISE: Denoiser, DEJPEG: JpegRestorer, UPSCALE: Upscaler}
Degradation = Noise | Jpeg | Bicubic
Method = Callable[[Any, float], Any]


def degradations(task: str, levels: list[float] | None) -> list[Degradation]:
    """What the weights of a task are measured on."""
    if task == DENOISE:
        return [Noise(kind="gaussian", sigma=level / 255) for level in levels or (15, 25, 50)]
    if task == UPSCALE:
        return [Bicubic(scale=int(level), enlarged=False) for level in levels or (2, 3, 4)]
    luma = [Jpeg(quality=int(level)) for level in levels or (10, 20, 30, 40)]
    return [*luma, *(Jpeg(quality=int(level), luma=False) for level in levels or (10, 30, 50, 90))]


def protocol(degradation: Degradation) -> str:
    return RGB_U8.name if isinstance(degradation, Noise) else degradation.protocol.name


def method(restorer: Restorer, budget: str, *, blind: bool) -> Method:
    """The restorer at a budget, told the level or not."""
    if isinstance(restorer, Denoiser):
        return restorer_of(restorer, budget, blind=blind)
    if isinstance(restorer, Upscaler):
        return lambda picture, scale: restorer(picture, scale, budget)
    assert isinstance(restorer, JpegRestorer)
    return lambda picture, quality: restorer(picture, budget, None if blind else quality)


def psnr(restore: Method, data: Path, degradation: Degradation, limit: int | None) -> float:
    pictures: Iterator[tuple[str, Any]] = pictures_in(data, limit)
    if isinstance(degradation, Noise):
        return evaluate(restore, pictures, degradation, RGB_U8, with_ssim=False).psnr
    return evaluate_degraded(restore, pictures, degradation, with_ssim=False).psnr


def as_it_came(data: Path, degradation: Degradation, limit: int | None) -> float:
    given = replace(degradation, enlarged=True) if isinstance(degradation, Bicubic) else degradation
    return psnr(lambda picture, _: picture, data, given, limit)


def harm(restorer: Denoiser, data: Path, limit: int | None) -> str:
    """What denoising does to pictures without noise: a mean would be infinite where one comes back unchanged."""
    clean = Noise(kind="gaussian", sigma=0)

    def kept(budget: str, *, blind: bool) -> str:
        pictures = pictures_in(data, limit)
        rows = evaluate(method(restorer, budget, blind=blind), pictures, clean, RGB_U8, with_ssim=False).scores
        found = [row.psnr for row in rows]
        changed = [each for each in found if math.isfinite(each)]
        worst = f", the others {min(changed):.1f} dB or more" if changed else ""
        return f"{len(found) - len(changed)} of {len(found)} unchanged{worst}"

    blind = "; ".join(f"blind, {budget}: {kept(budget, blind=True)}" for budget in ("fast", "best"))
    return f"{data.name} without noise: {blind}; told 0: {kept('best', blind=False)}"


def with_scores(card: Card, scores: dict[str, dict[str, float]], dtype: str) -> Card:
    """``card`` with PSNRs by plan and set, and in its notes what they were measured in."""
    plans = tuple(replace(plan, psnr={**plan.psnr, **scores.get(plan.plan, {})}) for plan in card.plans)
    sets = ", ".join(dict.fromkeys(name for own in scores.values() for name in own))
    note = f"measured in {dtype}: {sets}"
    return replace(
        card, plans=plans, notes=card.notes if note in card.notes else "; ".join(filter(None, (card.notes, note)))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--levels", type=float, nargs="+", help="in the units of the task; noise levels times 255")
    parser.add_argument("--budgets", nargs="+", default=list(BUDGETS))
    parser.add_argument("--limit", type=int, help="pictures a set")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--card", type=Path, help="write the scores into the card of this weights file")
    args = parser.parse_args()
    if args.card is not None and args.limit is not None:
        parser.error("--card takes the scores of whole sets; leave --limit out")
    weights = load_weights(args.model)
    task = weights.network.facts.task
    restorer = KINDS[task](weights, dtype=args.dtype)
    blinds = (False,) if task == UPSCALE else (False, True)
    columns = [(data, degradation) for data in args.data for degradation in degradations(task, args.levels)]
    how = "told" if len(blinds) == 1 else "told / blind"
    dtype = str(restorer.dtype).removeprefix("torch.")
    print(f"{current_commit()}, {dtype}; PSNR {how} in dB\n")
    head = [f"{protocol(degradation)} {data.name} {degradation}" for data, degradation in columns]
    print("| budget | plan | MACs/px | " + " | ".join(head) + " |\n|---|---|" + "---:|" * (len(head) + 1))
    if task != DENOISE:
        before = [f"{as_it_came(data, degradation, args.limit):.2f}" for data, degradation in columns]
        print("| as it came |  |  | " + " | ".join(before) + " |", flush=True)
    scores: dict[str, dict[str, float]] = {}
    seen: dict[str, list[str]] = {}
    for budget in args.budgets:
        chosen = choose_plan(weights, budget).measured
        if chosen.plan not in seen:
            cells, own = [], {}
            for (data, degradation), name in zip(columns, head, strict=True):
                found = [psnr(method(restorer, budget, blind=b), data, degradation, args.limit) for b in blinds]
                cells.append(" / ".join(f"{value:.2f}" for value in found))
                own[name] = round(found[0], 3)
            seen[chosen.plan], scores[chosen.plan] = cells, own
        told = " | ".join(seen[chosen.plan])
        print(f"| {budget} | {chosen.plan} | {chosen.macs_per_pixel} | {told} |", flush=True)
    if isinstance(restorer, Denoiser):
        for data in args.data:
            print(f"\n{harm(restorer, data, args.limit)}")
    if args.card is not None:
        kept = load_weights(args.card)
        save_weights(args.card, kept.network, with_scores(kept.card, scores, dtype), kept.predictor)


if __name__ == "__main__":
    np.seterr(divide="ignore")
    main()
