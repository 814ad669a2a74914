"""Teach the level estimator of HyperRes for some steps, and compare it with the classical estimate of the noise level.

    python benchmarks/level_estimator.py --train ../shared/data/train-free --test ../shared/data/test/cbsd68

Noise: unclipped Gaussian, seed 0 for each picture. "within 1" and "within 2": share of pictures whose estimate is off by less
than 1, by at most 2, of 255 sigma, as the paper's code counts.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from grainwise.core.pictures import picture_paths, read_picture
from grainwise.data.corpus import corpus_of
from grainwise.data.degradations import LevelCrops
from grainwise.evaluation.protocol import gaussian_noisy
from grainwise.networks.level_estimator import LevelEstimator
from grainwise.runtime.noise_level import estimate_noise
from grainwise.training.estimator import train_estimator
from grainwise.training.loop import LoopConfig

GREATEST = 100 / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("runs/estimator"))
    parser.add_argument("--limit", type=int, default=68)
    args = parser.parse_args()
    torch.manual_seed(0)
    corpus = corpus_of([args.train], Path(".cache/corpus"), reductions=(1,), smallest=128)
    noise = {"degradation": "gaussian", "levels": (0, GREATEST), "drawn": True}
    data = LevelCrops(corpus=corpus, shares={1: 1.0}, texture=0.0, **noise)
    config = LoopConfig(steps=args.steps, batch=args.batch, crops=((0, 128),), learning_rate=5e-4, warmup=50)
    estimator = LevelEstimator(level_range=(0, GREATEST), width=args.width)
    start = time.perf_counter()
    path = train_estimator(
        estimator, data, config, args.out, licence="", data=(str(args.train),), recipe="benchmarks/level_estimator.py"
    )
    print(f"{path}: {args.steps} steps, {(time.perf_counter() - start) / 60:.1f} min\n")

    def learned(noisy: np.ndarray) -> float:
        return estimator.estimate(torch.from_numpy(noisy).permute(2, 0, 1)[None]).value

    def classical(noisy: np.ndarray) -> float:
        return estimate_noise(noisy).sigma

    pictures = [read_picture(path).pixels.astype(np.float32) / 255 for path in picture_paths(args.test)[: args.limit]]
    print("| method | sigma | mean abs. error | within 1 | within 2 | ms |\n|---|---:|---:|---:|---:|---:|")
    for name, method in (("learned", learned), ("classical", classical)):
        for sigma in (5, 15, 25, 50, 75):
            print(f"| {name} | {sigma} | {row(method, pictures, sigma)} |")


def row(method: Callable[[np.ndarray], float], pictures: list[np.ndarray], sigma: int) -> str:
    start = time.perf_counter()
    found = [method(gaussian_noisy(picture, sigma / 255)) for picture in pictures]
    each = 1e3 * (time.perf_counter() - start) / len(pictures)
    errors = np.abs(255 * np.array(found) - sigma)
    return f"{errors.mean():.2f} | {100 * (errors < 1).mean():.0f} % | {100 * (errors <= 2).mean():.0f} % | {each:.0f}"


if __name__ == "__main__":
    main()
