"""The pictures of benchmarks/dds_net.py."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from grainwise.core.files import whole_file
from grainwise.core.pictures import Picture, write_picture
from grainwise.networks.checkpoint import load_weights
from grainwise.training.stages import WEIGHTS


def plot_costs(results: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """PSNR against MACs/px: routing space, random sub-networks, I-Nets, gates; of the first seed that has them."""
    told = next(iter(results.values()))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    if "slimming" in told:
        way, drawn = told["slimming"]["way"], told["slimming"]["random"]
        axes.plot(
            [o["macs"] / 1e3 for o in way], [o["camera"]["psnr"] for o in way], "o-", label="progressive slimming"
        )
        for kind, marker in (("iid", "x"), ("global", "+")):
            some = [o for o in drawn if o["kind"] == kind]
            axes.plot(
                [o["macs"] / 1e3 for o in some], [o["camera"]["psnr"] for o in some], marker, label=f"random, {kind}"
            )
    if "inets" in told:
        some = list(told["inets"].values())
        axes.plot([o["macs"] / 1e3 for o in some], [o["camera"]["psnr"] for o in some], "s", label="I-Nets")
    if "gate" in told:
        some = [one["camera"] for key, one in told["gate"]["gate"].items() if key != "largest"]
        axes.plot([o["macs"] / 1e3 for o in some], [o["psnr"] for o in some], "*", markersize=11, label="gate")
    axes.set(xscale="log", xlabel="thousand MACs/px", ylabel="PSNR (dB)", title=f"DDS-{title}, camera noise")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    save(figure, path)


def plot_seconds(results: dict[str, dict[str, Any]], title: str, path: Path) -> None:
    """PSNR against the seconds of all test pictures."""
    told = next(iter(results.values()))
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    way = told["slimming"]["way"]
    axes.plot(
        [o["camera"]["seconds"] for o in way], [o["camera"]["psnr"] for o in way], "o-", label="progressive slimming"
    )
    if "gate" in told:
        some = [one["camera"] for key, one in told["gate"]["gate"].items() if key != "largest"]
        axes.plot([o["seconds"] for o in some], [o["psnr"] for o in some], "*", markersize=11, label="gate")
    axes.set(xscale="log", xlabel="seconds for all test pictures", ylabel="PSNR (dB)", title=f"DDS-{title}")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    save(figure, path)


def plot_beta(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Fig. 8."""
    told = next(iter(results.values()))["beta"]
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([float(beta) for beta in told], [one["camera"]["psnr"] for one in told.values()], "o-")
    axes.set(xlabel="beta (dB)", ylabel="PSNR (dB)", title="the middle budget")
    axes.grid(visible=True, alpha=0.25)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None} if path.suffix == ".svg" else None)


def crops(
    out: Path, backbone: str, pairs: list[tuple[str, np.ndarray, np.ndarray]], path: Path, side: int = 128
) -> bool:
    """Noisy, smallest, largest, clean, of the two noisiest pictures and one between, side by side; of the first seed there.

    Of fewer pictures there are fewer rows. Gives whether there was anything to draw.
    """
    weights = sorted((out / backbone).glob(f"IS-*/supernet/{WEIGHTS}"))
    if not weights or not pairs:
        return False
    network = load_weights(weights[0]).network
    noisiest = sorted(pairs, key=lambda pair: float(np.square(pair[1] - pair[2]).mean()), reverse=True)
    rows = []
    for index in sorted({0, min(1, len(pairs) - 1), (len(pairs) - 1) // 2}):
        _, noisy, clean = noisiest[index]
        x = torch.from_numpy(noisy[:side, :side]).permute(2, 0, 1)[None]
        row = [noisy[:side, :side]]
        for plan in (network.space.narrowest, network.space.widest):
            with torch.inference_mode():
                row.append(network.extract(plan)(x)[0].permute(1, 2, 0).numpy())
        rows.append(np.concatenate([*row, clean[:side, :side]], axis=1))
    pixels = (np.concatenate(rows).clip(0, 1) * 255).round().astype(np.uint8)
    write_picture(path, pixels, Picture(pixels))
    return True
