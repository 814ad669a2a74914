"""What each part of MalleNet gives, at equal training time.

Every variant differs from the base by one choice. It is trained for the same CPU time: its number of steps is that time
divided by its measured time per step on this machine. Then it is scored on held-out crops and timed.

    python benchmarks/malle_ablation.py --train ../shared/data/train-free --minutes 30
    python benchmarks/malle_ablation.py --train ../shared/data/train-free --minutes 1 --only base "no MalleConv"

Each finished variant is one line of JSON on the output; the table is written when all are done.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grainwise.data.corpus import corpus_of
from grainwise.data.crops import NoisyCropSettings
from grainwise.networks.mallenet import MalleNet
from grainwise.primitives.malle_conv import MalleConv
from grainwise.runtime.machine import tune_allocator
from grainwise.training.distillation import StudentSettings
from grainwise.training.held_out import HeldOut
from grainwise.training.loop import LoopConfig, train

BASE: dict[str, Any] = {"condition": "sigma", "kernel": 1, "pre_pool": 4, "pools": 2}
"""1x1 kernels and offset as the released operator, without norms, so that every choice can be made alone."""

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "no MalleConv": {"malle_levels": []},
    "one MalleConv, at 1/4": {"malle_levels": [2]},
    "kernel 3x3": {"kernel": 3},
    "kernel 3x3, no offset": {"kernel": 3, "offset": False},
    "kernel 3x3, shared by 2": {"kernel": 3, "group": 2},
    "1x1, no offset": {"offset": False},
    "no gate": {"gate": False},
    "cells of 4": {"pre_pool": 1},
    "cells of 8 (finest levels)": {"pre_pool": 2},
    "cells of 32 (finest levels)": {"pools": 3},
    "large predictor": {"large": True},
    "batch norm": {"norm": "batch"},
}


def seconds_per_megapixel(plain: torch.nn.Module, told: dict[str, torch.Tensor], side: int = 1024) -> float:
    """Median of 3 runs of a [1, 3, side, side] picture."""
    x, times = torch.rand(1, 3, side, side), []
    with torch.inference_mode():
        for _ in range(4):
            start = time.perf_counter()
            plain(x, **told)
            times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / (side * side / 1e6)


def gates(network: MalleNet) -> list[float]:
    """The gates of the MalleConvs, finest level first."""
    parts = [part for part in network.modules() if isinstance(part, MalleConv)]
    return [round(float(part.gate.weight.detach()), 4) for part in parts if part.gate is not None]


class Run:
    """One variant on one set of pictures."""

    def __init__(self, args: argparse.Namespace, name: str) -> None:
        torch.manual_seed(0)
        self.name, self.args = name, args
        self.network = MalleNet(widths=(args.width,), **{**BASE, **VARIANTS[name]})
        self.network.to(memory_format=torch.channels_last)
        self.method = StudentSettings().build(self.network, seed=0)

    def train(self, data: Any, steps: int) -> tuple[float, list[float]]:  # noqa: ANN401 -- any source of batches
        """Seconds a step and the loss of each; leaves the averaged weights in the network."""
        config = LoopConfig(
            steps=steps,
            batch=self.args.batch,
            warmup=min(200, steps),
            ema=0.99,
            validate_every=0,
            checkpoint_every=10**9,
        )
        times: list[float] = []
        losses: list[float] = []

        def report(progress: Any) -> None:  # noqa: ANN401 -- the loop's Progress
            times.append(progress.seconds)
            losses.append(progress.losses["loss"])

        out = self.args.out / f"{self.name.replace('/', '-')}-{steps}-{time.time_ns()}"
        self.network.load_state_dict(train(config, self.method, data, out, report=report).weights)
        return statistics.median(np.diff(times)), losses


def measured(args: argparse.Namespace, name: str, data: Any, held_out: HeldOut) -> dict[str, Any]:  # noqa: ANN401
    """Time a step, then train for the time that is allowed, then score."""
    rate, _ = Run(args, name).train(data, 12)
    steps = max(20, int(args.minutes * 60 / rate))
    run = Run(args, name)
    _, losses = run.train(data, steps)
    network, plan = run.network.eval(), run.network.space.widest
    tenth = max(1, len(losses) // 10)
    return {
        "variant": name,
        "macs_per_pixel": round(network.macs_per_pixel(plan)),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "seconds_per_step": round(rate, 4),
        "loss": [round(statistics.mean(part), 5) for part in (losses[:tenth], losses[-tenth:])],
        "gates": gates(network),
        "psnr25": round(held_out.psnr(network, plan), 3),
        "s_per_mp": round(
            seconds_per_megapixel(network.extract(plan), network.facts.given(torch.tensor([25 / 255]))), 3
        ),
    }


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> str:
    """The results as a page."""
    head = "| variant | K MACs/px | parameters | steps | dB at sigma 25 | against base | s/MP | gates |"
    base = next((row["psnr25"] for row in rows if row["variant"] == "base"), None)
    lines = [
        "# MalleNet, part by part",
        "",
        f"C = {args.width}, {args.minutes:g} minutes of training each on {torch.get_num_threads()} thread(s), 64-pixel crops,",
        f"batch {args.batch}; scored on held-out crops under the `rgb-u8` protocol. Made by `benchmarks/malle_ablation.py`.",
        "",
        head,
        "|" + "---|" * (head.count("|") - 1),
    ]
    for row in rows:
        gain = "" if base is None else f"{row['psnr25'] - base:+.3f}"
        lines.append(
            f"| {row['variant']} | {row['macs_per_pixel'] / 1e3:.1f} | {row['parameters']:,} | {row['steps']} "
            f"| {row['psnr25']:.3f} | {gain} | {row['s_per_mp']:.3f} | {' '.join(map(str, row['gates']))} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/malle-ablation"))
    parser.add_argument("--page", type=Path, help="where to write the table, such as docs/results/malle-ablation.md")
    args = parser.parse_args()
    tune_allocator()
    corpus, rest = corpus_of([args.train], Path(".cache/corpus"), reductions=(1, 2), smallest=96).split(24)
    data = NoisyCropSettings(sigma=(0.0, 55 / 255), shares=(0.5, 0.5), grey=0.0).build(corpus)
    fixed = NoisyCropSettings(sigma=(25 / 255, 25 / 255), shares=(1.0,), grey=0.0)
    held_out = HeldOut(fixed.build(rest), fixed.label, size=96)
    rows = []
    for name in args.only:
        rows.append(measured(args, name, data, held_out))
        print(json.dumps(rows[-1]), flush=True)
    if args.page:
        args.page.write_text(table(rows, args))


if __name__ == "__main__":
    main()
