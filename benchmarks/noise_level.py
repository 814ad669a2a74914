"""Compare blind estimates of the noise level, and print a markdown table.

    python benchmarks/noise_level.py --data shared/data/test/cbsd68 shared/data/test/kodak24
    python benchmarks/noise_level.py --data shared/data/test/cbsd68 --curve
    python benchmarks/noise_level.py --real shared/data/real/polyu-canon

Protocol: Gaussian noise, seed 0 for each picture; "float" is not clipped, "8 bit" is clipped to [0, 1] and rounded.
All figures are of 255 * sigma. Times are of this machine, one thread where OMP_NUM_THREADS=1 is set.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyvips
import torch
from numpy.typing import NDArray

from grainwise.runtime.noise_level import NoiseEstimate, estimate_noise

Array: TypeAlias = NDArray[np.float32]
Method: TypeAlias = Callable[[Array], float]
GREY = np.array([0.299, 0.587, 0.114], np.float32)
PICTURES = {".webp", ".png", ".jpg", ".jpeg"}
MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def read(path: Path) -> Array:
    """Read a picture as float32 HWC RGB in [0, 1]."""
    values = pyvips.Image.new_from_file(str(path)).colourspace("srgb")[:3].numpy()
    return np.asarray(values, np.float32).reshape(values.shape[0], values.shape[1], -1) / np.float32(255)


def pictures(folder: Path, grey: bool) -> Iterator[tuple[str, Array]]:
    """Give the name and the pixels of each picture of ``folder``, in the order of the names."""
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES):
        clean = read(path)
        yield path.stem, (clean @ GREY)[:, :, None] if grey and clean.shape[2] == 3 else clean


def donoho(noisy: Array) -> float:
    """Median of the finest diagonal Haar coefficients over 0.6745 (Donoho 1995)."""
    a, b = noisy[:-1:2, :-1:2] - noisy[1::2, :-1:2], noisy[:-1:2, 1::2] - noisy[1::2, 1::2]
    return float(np.median(np.abs(a - b))) / 2 / 0.6745


def immerkaer(noisy: Array) -> float:
    """Mean absolute difference of two Laplacians (Immerkaer 1996)."""
    height, width = noisy.shape[:2]
    total = sum(MASK[i, j] * noisy[i : height - 2 + i, j : width - 2 + j] for i in range(3) for j in range(3))
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(total).mean())


def cut(noisy: Array, stride: int) -> Array:
    """Cut 8x8 patches, (n, C * 64)."""
    windows = np.lib.stride_tricks.sliding_window_view(noisy, (8, 8), axis=(0, 1))[::stride, ::stride]
    return np.ascontiguousarray(windows).reshape(-1, noisy.shape[2] * 64)


def chen(noisy: Array) -> float:
    """Eigenvalues of the patch covariance, the largest dropped until mean and median agree (Chen et al. 2015)."""
    patches = cut(noisy, 3)
    patches -= patches.mean(0)
    values = np.linalg.eigvalsh((patches.T @ patches / len(patches)).astype(np.float64))
    for count in range(len(values), 0, -1):
        mean = values[:count].mean()
        if mean <= np.median(values[:count]) * (1 + 1e-7):
            break
    return float(np.sqrt(max(mean, 0)))


def ponomarenko(noisy: Array) -> float:
    """Median variance of high DCT coefficients of the fifth of the patches with the least low ones (2007)."""
    u, v = np.mgrid[:8, :8]
    matrix = np.cos(np.pi * (2 * v + 1) * u / 16) / 2
    matrix[0] /= np.sqrt(2)
    basis = np.kron(matrix, matrix).astype(np.float32)
    high = ((u + v) >= 8).ravel()
    energy = np.square(cut(noisy, 4).reshape(-1, noisy.shape[2], 64) @ basis.T)
    low = energy[:, :, ~high][:, :, 1:].sum((1, 2))
    weak = np.argpartition(low, len(low) // 5)[: max(1, len(low) // 5)]
    return float(np.sqrt(np.median(energy[weak][:, :, high].mean(0))))


METHODS: dict[str, Method] = {
    "Donoho": donoho,
    "Immerkaer": immerkaer,
    "Chen PCA": chen,
    "Ponomarenko": ponomarenko,
    "grainwise": lambda noisy: estimate_noise(noisy).sigma,
}


def noised(clean: Array, low: float, high: float, eight_bit: bool) -> Array:
    """Add Gaussian noise whose variance goes from ``low``^2 at black to ``high``^2 at white, in units of 1/255."""
    variance = (low**2 + (high**2 - low**2) * clean) / 255**2
    noisy = clean + np.random.default_rng(0).standard_normal(clean.shape, np.float32) * np.sqrt(variance)
    return (np.round(np.clip(noisy, 0, 1) * 255) / 255 if eight_bit else noisy).astype(np.float32)


def table(folders: list[Path], sigmas: list[float], grey: bool) -> None:
    """Print the errors of every method on every set, for both kinds of noise."""
    print("| set | noise | method | ms a picture |", " | ".join(f"{s:g}" for s in sigmas), "|")
    print("|---|---|---|---|" + "---|" * len(sigmas))
    for folder in folders:
        clean = [picture for _, picture in pictures(folder, grey)]
        for kind in ("float", "8 bit"):
            for name, method in METHODS.items():
                cells, seconds = [], 0.0
                for sigma in sigmas:
                    errors = []
                    for picture in clean:
                        noisy = noised(picture, sigma, sigma, kind == "8 bit")
                        start = time.perf_counter()
                        told = method(noisy)
                        seconds += time.perf_counter() - start
                        errors.append(255 * told - sigma)
                    size = np.abs(errors)
                    cells.append(f"{np.mean(errors):+.2f} / {size.mean():.2f} / {size.max():.2f}")
                milliseconds = 1000 * seconds / len(clean) / len(sigmas)
                label = folder.name + (" grey" if grey else "")
                print(f"| {label} | {kind} | {name} | {milliseconds:.0f} |", " | ".join(cells), "|", flush=True)


def curves(folders: list[Path], grey: bool) -> None:
    """Print how often noise is said to depend on brightness, and how good the map is."""
    print("| set | noise | black..white | called dependent | sigma, relative error: mean / mean abs / max | map, rms |")
    print("|---|---|---|---|---|---|")
    cases = ((5, 5), (15, 15), (25, 25), (50, 50), (75, 75), (3, 10), (5, 10), (5, 25), (15, 30), (20, 60))
    for folder in folders:
        clean = [picture for _, picture in pictures(folder, grey)]
        for kind in ("float", "8 bit"):
            for low, high in cases:
                found: list[NoiseEstimate] = []
                errors, maps = [], []
                for picture in clean:
                    found.append(estimate_noise(noisy := noised(picture, low, high, kind == "8 bit")))
                    true = np.sqrt(low**2 + (high**2 - low**2) * picture.mean(2)) / 255
                    errors.append(100 * (found[-1].sigma / np.sqrt((true**2).mean()) - 1))
                    told = found[-1].map(torch.from_numpy(noisy).permute(2, 0, 1)[None])[0, 0].numpy()
                    maps.append(100 * np.sqrt(((told / true - 1) ** 2).mean()))
                share = 100 * np.mean([one.depends_on_brightness for one in found])
                size = np.abs(errors)
                print(
                    f"| {folder.name}{' grey' if grey else ''} | {kind} | {low}..{high} | {share:.1f} % "
                    f"| {np.mean(errors):+.1f} / {size.mean():.1f} / {size.max():.1f} % | {np.mean(maps):.1f} % |",
                    flush=True,
                )


def real(folder: Path) -> None:
    """Print what is told of real noisy pictures (``*_real.JPG``) against the residual to ``*_mean.JPG``, by camera."""
    print(
        "| camera | pictures | true | grainwise | of the mean picture | Donoho | Immerkaer | grainwise, 2x2 mean, x2 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows: dict[str, list[list[float]]] = {}
    for path in sorted(folder.glob("*_real.JPG")):
        noisy, mean = read(path), read(path.with_name(path.name.replace("_real", "_mean")))
        height, width = (side // 2 * 2 for side in noisy.shape[:2])
        half = noisy[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).mean((1, 3))
        told = [float((noisy - mean).std()), estimate_noise(noisy).sigma, estimate_noise(mean).sigma]
        told += [donoho(noisy), immerkaer(noisy), 2 * estimate_noise(half).sigma]
        rows.setdefault(path.name.split("_")[0], []).append(told)
    for camera, told_all in rows.items():
        cells = " | ".join(f"{255 * value:.2f}" for value in np.mean(told_all, axis=0))
        print(f"| {camera} | {len(told_all)} | {cells} |")


def main() -> None:
    """Read the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of clean pictures")
    parser.add_argument("--sigma", type=float, nargs="+", default=[0, 5, 15, 25, 50, 75], help="255 * sigma")
    parser.add_argument("--grey", action="store_true", help="reduce the pictures to grey first")
    parser.add_argument("--curve", action="store_true", help="the brightness curve instead of the comparison")
    parser.add_argument("--real", type=Path, help="a folder of pairs *_real.JPG, *_mean.JPG")
    options = parser.parse_args()
    if options.curve:
        curves(options.data, options.grey)
    elif options.data:
        print("Each cell: mean error / mean absolute error / largest absolute error, of 255 * sigma.\n")
        table(options.data, options.sigma, options.grey)
    if options.real:
        real(options.real)


if __name__ == "__main__":
    main()
