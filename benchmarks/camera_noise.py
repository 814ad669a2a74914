"""The camera's synthetic noise beside real noise: how it grows with brightness, and how neighbours and channels agree.

    python benchmarks/camera_noise.py --data ../shared/data/real --out docs/results

`--data` holds `sidd-pair` (noisy.mat, gt.mat) and `polyu-canon` (pairs NAME_real, NAME_mean). The clean pictures of the
pairs are what the synthetic cameras photograph, so that brightness and content are the same. The cameras are drawn from
the defaults, of which each group takes a part, named above its table. The defaults of the camera's denoiser, of the
colour matrix and of the demosaicing were chosen by looking at these very tables, over all scenes.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from grainwise.core.commit import current_commit
from grainwise.data.camera import Camera, photograph
from grainwise.data.mat import read_rgb8
from grainwise.data.pairs import real_pairs
from grainwise.evaluation.noise_statistics import BINS, NoiseStatistics, noise_statistics

SIDD_LIKE = Camera(shot=(0.012, 0.022), tone=0.0, developed=0.0)
"""The upper end of the ISO range, and SIDD's processing: gamma alone, no JPEG."""
CANON_LIKE = Camera(shot=(3e-4, 5e-3), developed=1.0, quality=(75, 75))
"""About what the sensors' sizes make of ISO 800 to 12,800; PolyU's crops were saved as JPEG of quality 75."""
ROWS = [
    *((f"std x 255, {c}", lambda s, k=k: 255 * s.std[k]) for k, c in enumerate("RGB")),
    *((f"lag {lag}, {c}", lambda s, k=k, i=lag - 1: s.lags[k, i]) for lag in (1, 2, 3) for k, c in enumerate("RGB")),
    *((f"correlation {c}", lambda s, k=k: s.channels[k]) for k, c in enumerate(("R-G", "G-B", "R-B"))),
]


def synthetic(pictures: Iterable[np.ndarray], camera: Camera, draws: int) -> list[NoiseStatistics]:
    generator = np.random.default_rng(0)
    found = []
    for picture in pictures:
        for _ in range(draws):
            clean, noisy = photograph(picture, camera.draw(generator), generator)
            found.append(noise_statistics(noisy, clean))
    return found


def quantiles(statistics: list[NoiseStatistics]) -> np.ndarray:
    """[rows, 3]: the 10 %, 50 % and 90 % quantiles over pictures."""
    return np.quantile([[read(s) for _, read in ROWS] for s in statistics], (0.1, 0.5, 0.9), axis=0).T


def table(real: np.ndarray, ours: np.ndarray) -> list[str]:
    """Real beside synthetic, and whether each median lies within the other's 10 % to 90 %."""
    lines = [
        "| statistic | real | synthetic | real median within synthetic | synthetic median within real |",
        "|---|---:|---:|---|---|",
    ]
    for (name, _), r, o in zip(ROWS, real, ours, strict=True):
        single = r[0] == r[2]
        told = f"{r[1]:.2f}" if single else f"{r[1]:.2f} ({r[0]:.2f} to {r[2]:.2f})"
        inside = "yes" if o[0] <= r[1] <= o[2] else "**no**"
        back = "one picture" if single else "yes" if r[0] <= o[1] <= r[2] else "**no**"
        lines.append(f"| {name} | {told} | {o[1]:.2f} ({o[0]:.2f} to {o[2]:.2f}) | {inside} | {back} |")
    return lines


def curve_table(real: list[NoiseStatistics], ours: list[NoiseStatistics]) -> list[str]:
    """Medians of the standard deviation by brightness."""
    ends = 256 * np.arange(BINS + 1) // BINS
    lines = ["| std x 255 at clean value | " + " | ".join(f"{a}-{b - 1}" for a, b in pairwise(ends))]
    lines[0] += " |"
    lines.append("|---|" + "---:|" * BINS)
    for name, statistics in (("real", real), ("synthetic", ours)):
        for letter, middles in zip("RGB", curve(statistics)[1], strict=True):
            cells = ["-" if np.isnan(value) else f"{value:.1f}" for value in middles]
            lines.append(f"| {letter}, {name} | " + " | ".join(cells) + " |")
    return lines


def curve(statistics: list[NoiseStatistics]) -> np.ndarray:
    """[3, 3, bins]: the same quantiles of the standard deviation by brightness, x 255, over pictures that have the bin."""
    curves = np.array([s.curve for s in statistics])
    found = np.full((3, 3, BINS), np.nan)
    for channel, index in np.ndindex(3, BINS):
        values = curves[:, channel, index]
        if not np.isnan(values).all():
            found[:, channel, index] = 255 * np.nanquantile(values, (0.1, 0.5, 0.9))
    return found


def plot(path: Path, groups: dict[str, tuple[list[NoiseStatistics], list[NoiseStatistics]]]) -> None:
    figure = Figure(figsize=(11, 3.4 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 3, squeeze=False)
    middles = 255 * (np.arange(BINS) + 0.5) / BINS
    for line, (name, (real, ours)) in zip(axes, groups.items(), strict=True):
        for channel, axis in enumerate(line):
            for statistics, colour, label in ((real, "black", "real"), (ours, "tab:red", "synthetic")):
                low, middle, high = curve(statistics)[:, channel]
                axis.plot(middles, middle, color=colour, label=label)
                axis.fill_between(middles, low, high, color=colour, alpha=0.15)
            axis.set(title=f"{name}, {('red', 'green', 'blue')[channel]}", xlabel="clean value", ylim=(0, None))
        line[0].set_ylabel("noise, std x 255")
        line[0].legend()
    figure.savefig(path, dpi=80)


def speed() -> list[str]:
    """Crops a second of one core, by processor time."""
    lines = ["| crop | as a raw converter | as default | all developed in the camera |", "|---|---:|---:|---:|"]
    for size in (64, 128):
        crop = np.random.default_rng(0).random((size, size, 3), np.float32)
        cells = []
        for developed in (0.0, 0.5, 1.0):
            camera, generator = replace(Camera(), developed=developed), np.random.default_rng(0)
            photograph(crop, camera.draw(generator), generator)
            start = time.process_time()
            for _ in range(300):
                photograph(crop, camera.draw(generator), generator)
            cells.append(f"{300 / (time.process_time() - start):.0f}")
        lines.append(f"| {size}x{size} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    noisy = read_rgb8(args.data / "sidd-pair" / "noisy.mat", "im_noisy").astype(np.float32) / 255
    clean = read_rgb8(args.data / "sidd-pair" / "gt.mat", "im_gt").astype(np.float32) / 255
    canon = [(a / np.float32(255), b / np.float32(255)) for _, a, b in real_pairs(args.data / "polyu-canon")]
    groups = {
        "SIDD pair": ([noise_statistics(noisy, clean)], synthetic([clean], SIDD_LIKE, 100)),
        "PolyU-Canon": (
            [noise_statistics(a, b) for a, b in canon],
            synthetic([b[128:384, 128:384] for _, b in canon], CANON_LIKE, 3),
        ),
    }
    text = ["# Synthetic camera noise beside real noise", ""]
    text += [f"`python benchmarks/camera_noise.py --data ../shared/data/real`, commit {current_commit()}."]
    text += [
        "Median over pictures, 10 % and 90 % quantiles in brackets. Lags: correlation with the neighbour 1, 2, 3 pixels"
    ]
    text += [
        "away, mean of across and down. The synthetic cameras photograph the clean pictures of the pairs. The defaults"
    ]
    text += [
        "of the camera's denoiser, of the colour matrix and of the demosaicing were chosen by these very tables, so they"
    ]
    text += ["say how well the model can be like real noise, not how well it foretells that of another camera."]
    for (name, (real, ours)), camera in zip(groups.items(), (SIDD_LIKE, CANON_LIKE), strict=True):
        text += ["", f"## {name}: {len(real)} real, {len(ours)} synthetic", "", f"`{camera}`", ""]
        text += [*table(quantiles(real), quantiles(ours)), "", *curve_table(real, ours)]
    text += [
        "",
        "![noise against brightness](camera-noise.png)",
        "",
        "## Speed, crops a second of one core",
        "",
        *speed(),
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "camera-noise.md").write_text("\n".join(text) + "\n")
    plot(args.out / "camera-noise.png", groups)
    print("\n".join(text))


if __name__ == "__main__":
    main()
