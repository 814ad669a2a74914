"""How well the level is told where noise is not white: fit the reader, and score what the denoiser makes of its levels.

    python benchmarks/noise_reader.py --fit ../shared/data/train-free --crops 5000 --out noise-reader.safetensors
    python benchmarks/noise_reader.py --data ../shared/data

The first fits the reader that ships to degraded crops of free pictures, some ten minutes on one core; what it learns
from is what the narrowest plan makes of them. The second writes docs/results/noise-reader.md and .json: real pairs as they
came, restored at the measured level (of white noise), at the level that is read, and at the best of several levels; and what
blind restoring does to pictures without noise.
"""

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.core.image import as_hwc
from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.corpus import corpus_of
from grainwise.data.mat import read_rgb8
from grainwise.data.pairs import real_pairs
from grainwise.evaluation import metrics
from grainwise.evaluation.environment import environment
from grainwise.evaluation.measure import finite_or_none
from grainwise.networks.checkpoint import Card, save_noise_reader
from grainwise.networks.noise_reader import Array
from grainwise.runtime.denoiser import Denoiser
from grainwise.runtime.noise_level import estimate_noise, measure_white
from grainwise.runtime.noise_reading import level_that_counts, read_level, seen_in
from grainwise.runtime.noise_sample import sample_of
from grainwise.training import noise_reader
from grainwise.training.release import FREE, describe_data

LEVELS = (0, 2, 3, 5, 7, 10, 14, 20, 28, 40, 55)
"""Steps of 255, of which the best is taken."""
CLEAN = ("cbsd68", "kodak24", "live1", "set5")


def see(pixels: np.ndarray) -> Array:
    """What the reader sees of a picture."""
    sample = sample_of(pixels)
    white = measure_white(sample)
    return seen_in(sample, 0.0 if white is None else white.sigma)


def fit(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    denoiser = Denoiser.from_pretrained(dtype="bfloat16")
    network = denoiser.weights.network
    plain = network.extract(network.space.narrowest).to(torch.bfloat16).to(memory_format=torch.channels_last)

    def restore(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
        near = x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        return plain(near, sigma=levels.to(torch.bfloat16))

    def tell(done: int, total: int) -> None:
        if done % 100 == 0:
            print(f"{done} of {total} crops, {time.perf_counter() - start:.0f} s", flush=True)

    corpus = corpus_of([Path(args.fit)], Path(".cache/corpus"), reductions=(1, 2, 3))
    readings = noise_reader.read(corpus, restore, see, crops=args.crops, progress=tell)
    reader = noise_reader.fit(readings)
    white = 2 ** readings.seen[:, -1]
    read = [255 * reader.level(seen) for seen in readings.seen]
    told = np.log2([255 * level_that_counts(a / 255, b / 255) for a, b in zip(read, white, strict=True)])
    found, as_read, measured, untouched = (
        noise_reader.mean_regrets(readings, levels)
        for levels in (told, np.log2(read), np.log2(white), np.full(len(white), -2.0))
    )
    lines = [
        f"{kind}: {found[kind][1]:.2f} dB (always as read {as_read[kind][1]:.2f}, always as measured {measured[kind][1]:.2f}, "
        f"untouched {untouched[kind][1]:.2f})"
        for kind in found
    ]
    notes = "Mean regret on crops of held-out pictures, dB behind the best level: " + "; ".join(lines) + "."
    print(notes.replace("; ", "\n"))
    card = Card(
        licence=FREE,
        data=describe_data([args.fit]),
        recipe=f"python benchmarks/noise_reader.py {shlex.join(sys.argv[1:])}",
        commit=current_commit(),
        steps=args.crops,
        seconds=round(time.perf_counter() - start, 1),
        device=environment().cpu,
        plans=(),
        notes=notes,
    )
    save_noise_reader(Path(args.out), reader, card)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """dB of two uint8 pictures, all channels jointly; infinite where they are equal."""
    return metrics.psnr(a.astype(np.float64), b.astype(np.float64), peak=255)


def score(denoiser: Denoiser, noisy: np.ndarray, clean: np.ndarray, budget: str) -> dict[str, float]:
    """PSNR as it came, at the measured level, at the one that is read, and at the best; and these levels."""

    def at(level: float) -> float:
        return psnr(as_hwc(denoiser(noisy, budget=budget, sigma=min(level, 75) / 255)), clean)

    sample = sample_of(noisy)
    white = measure_white(sample)
    measured = 0.0 if white is None else white.sigma
    best = {level: at(level) for level in LEVELS}
    found = {
        "as it came": psnr(noisy, clean),
        "measured": at(255 * measured),
        "read": psnr(as_hwc(denoiser(noisy, budget=budget)), clean),
        "best": max(best.values()),
    }
    levels = {
        "level measured": 255 * measured,
        "level read": 255 * read_level(sample, measured),
        "level best": float(max(best, key=best.__getitem__)),
    }
    return {**found, **levels}


def kept(denoiser: Denoiser, folder: Path, budget: str) -> list[dict[str, float]]:
    """What blind restoring does to pictures without noise: PSNR against the picture itself, and the levels."""
    rows = []
    for path in picture_paths(folder):
        pixels = read_picture(path).pixels
        result = denoiser.restore(pixels, budget=budget)
        rows.append({"kept": psnr(as_hwc(result.image), pixels), "level": 255 * estimate_noise(pixels).sigma})
    return rows


def mean_row(name: str, rows: list[dict[str, float]]) -> str:
    cells = [f"{np.mean([row[key] for row in rows]):.2f}" for key in rows[0]]
    return f"| {name} | {len(rows)} | " + " | ".join(cells) + " |"


def pairs_in(data: Path) -> Iterable[tuple[str, np.ndarray, np.ndarray]]:
    for _, noisy, clean in real_pairs(data / "real" / "polyu-canon"):
        yield "PolyU-Canon", noisy, clean
    sidd = data / "real" / "sidd-pair"
    yield "SIDD pair", read_rgb8(sidd / "noisy.mat", "im_noisy"), read_rgb8(sidd / "gt.mat", "im_gt")


def table(args: argparse.Namespace) -> None:
    denoiser = Denoiser.from_pretrained()
    data = Path(args.data)
    pairs: dict[str, list[dict[str, float]]] = {}
    for index, (name, noisy, clean) in enumerate(pairs_in(data)):
        if index % args.every == 0 or name == "SIDD pair":
            pairs.setdefault(name, []).append(score(denoiser, noisy, clean, args.budget))
    clean = {name: kept(denoiser, data / "test" / name, args.budget) for name in CLEAN}
    lines = [
        "# The level where noise is not white",
        "",
        f"`python benchmarks/noise_reader.py {shlex.join(sys.argv[1:])}`, commit {current_commit()}, {denoiser.dtype}, budget "
        f"`{args.budget}`. PSNR in dB, RGB jointly, 8 bits; levels in steps of 255, means over the pictures. *Measured*: the "
        "level of white noise (high frequencies of the smoothest patches). *Read*: all defaults. *Best*: of the levels "
        f"{', '.join(map(str, LEVELS))}, chosen by the clean picture.",
        "",
        "The reader was fitted to free pictures with synthetic noise alone; its card holds the regret for each kind. No "
        "picture below taught it anything, but two choices saw some of them: the defaults of the synthetic camera were chosen "
        "by tables over real pairs, PolyU-Canon among them (camera-noise.md), and that a reading counts only above the "
        "measurement by weak white noise on CBSD68, Kodak24 and LIVE1 (LOG).",
        "",
        "## Real pairs",
        "",
        "| set | pictures | " + " | ".join(next(iter(pairs.values()))[0]) + " |",
        "|---|---:|" + "---:|" * 7,
        *(mean_row(name, rows) for name, rows in pairs.items()),
        "",
        "## Pictures without noise, blind",
        "",
        "PSNR of the result against the picture itself: what of its texture was taken for noise. (CBSD68 and LIVE1 are JPEGs "
        "or were once.)",
        "",
        "| set | pictures | unchanged | least PSNR | 10 % quantile | greatest level |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, rows in clean.items():
        values = [row["kept"] for row in rows]
        lines.append(
            f"| {name} | {len(rows)} | {sum(map(math.isinf, values))} | {min(values):.1f} | "
            f"{np.quantile(values, 0.1):.1f} | {max(row['level'] for row in rows):.1f} |"
        )
    report = Path(args.out or "docs/results/noise-reader.md")
    found = {"command": shlex.join(sys.argv), "environment": asdict(environment()), "pairs": pairs}
    found["clean"] = {
        name: [row | {"kept": finite_or_none(row["kept"])} for row in rows] for name, rows in clean.items()
    }
    with whole_file(report) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    with whole_file(report.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", help="folder of pictures to fit the reader to")
    parser.add_argument("--data", default="../shared/data", help="holds real/ and test/")
    parser.add_argument("--crops", type=int, default=5000)
    parser.add_argument("--budget", default="balanced")
    parser.add_argument("--every", type=int, default=1, help="every so many real pairs")
    parser.add_argument("--out", help="the reader, or the report")
    args = parser.parse_args()
    if args.fit:
        if not args.out:
            parser.error("--fit needs --out, the file of the reader")
        fit(args)
    else:
        table(args)


if __name__ == "__main__":
    main()
