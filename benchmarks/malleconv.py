"""What MalleConv and MalleNet give: quality, time and memory against networks as costly, part by part, with verdicts.

    python benchmarks/malleable_operator.py
    python benchmarks/malleconv.py --train ../shared/data/train-free --test ../shared/data/test

Parts, chosen by --parts: `operator` takes in what `malleable_operator.py` measured, and trains nothing; `networks` trains
MalleNet and networks with as many MACs/px for equal time (--minutes); `added` trains plain backbones with and without one
MalleConv for equal steps (--steps); `ablation` changes one choice of the last backbone's MalleConv (--ablation-steps).
Every run and timing lies under --out and is not made again: after any interruption, the same command goes on; --time-again
times the networks anew, on a quiet machine. The report is made of all that was measured there, by whichever call.
"""

import argparse
import json
import shlex
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from malleconv_report import write
from resumable_runs import Runs, Scoring, restorer

from grainwise.cli.restorers import pictures_in
from grainwise.data.crops import NoisyCropSettings
from grainwise.evaluation.bench import Contender, bench
from grainwise.evaluation.protocol import RGB_U8, Noise
from grainwise.networks.checkpoint import load_weights
from grainwise.primitives.malle_conv import MalleConv
from grainwise.runtime.machine import tune_allocator
from grainwise.training.distillation import StudentSettings
from grainwise.training.loop import LoopConfig
from grainwise.training.recipe import Recipe

PARTS = ("operator", "networks", "added", "ablation")
LEVELS = (15, 25, 50)
SETS = {"networks": ("cbsd68", "kodak24"), "added": ("cbsd68",), "ablation": ("cbsd68",)}
FREE_TO_CHANGE = ("parts", "widths", "seeds", "backbones", "only", "out", "report", "operator", "repeats", "time_again")
"""What a later call with the same --out may set otherwise."""

Build = tuple[str, dict[str, Any]]
"""A network: its name and its configuration."""

MALLENET: dict[str, Any] = {"condition": "sigma"}
"""The released network, but told the noise level and without norms; with them beside it."""


def networks(width: int) -> dict[str, Build]:
    """MalleNet at C = ``width`` and what it is compared with, all within 1.5 % of its MACs/px."""
    plain, default = {16: (17, [[24], [48], [96]]), 32: (34, [[45], [91], [181]])}[width]
    return {
        f"MalleNet, C = {width}": ("mallenet", {"widths": [width], **MALLENET}),
        f"MalleNet, C = {width}, small start for gates": (
            "mallenet",
            {"widths": [width], "gate": False, "start": 0.05, **MALLENET},
        ),
        f"MalleNet, C = {width}, batch norm": ("mallenet", {"widths": [width], "norm": "batch", **MALLENET}),
        f"plain U-Net (MalleNet without MalleConv, C = {plain})": (
            "mallenet",
            {"widths": [plain], "malle_levels": [], **MALLENET},
        ),
        f"default network, {'/'.join(str(level[0]) for level in default)}": ("half_unet", {"widths": default}),
    }


@dataclass(frozen=True)
class Backbone:
    """A plain network, the same narrowed to pay for a MalleConv within 1 % of its MACs/px, and the place of that MalleConv."""

    network: str
    config: dict[str, Any]
    narrowed: dict[str, Any]
    after: str

    def arms(self) -> dict[str, Build]:
        """Bare, with a MalleConv added, and with one added to the narrowed network."""

        def with_one(config: dict[str, Any]) -> Build:
            return "with_malle_conv", {"network": self.network, "config": config, "after": {self.after: ADDED}}

        return {
            "bare": (self.network, self.config),
            "one MalleConv": with_one(self.config),
            "narrowed, one MalleConv": with_one(self.narrowed),
        }


ADDED = {"kernel": 3, "blocks": 1, "width": 16, "gate": False, "start": 0.05}
"""The MalleConv that is added: 3x3 kernels and offset, cells of 4 pixels of the feature, a small predictor.

Its kernels start small, in place of the paper's gate, which is an ablation: in runs as short as these it stays at 0.
"""

BACKBONES = {
    "half_unet": Backbone("half_unet", {"widths": [[24], [48], [96]]}, {"widths": [[24], [48], [90]]}, "down.0"),
    "mdrn": Backbone(
        "mdrn",
        {"widths": [[24], [96], [48], [24]]},
        {"widths": [[24], [93], [48], [24]]},
        "blocks.0.corrections.0.degrade",
    ),
    "flat": Backbone(
        "hyperres",
        {"convs": "slim", "blocks": 4, "stream": [32]},
        {"convs": "slim", "blocks": 4, "stream": [32], "inner": [28]},
        "blocks.1.conv2",
    ),
}
"""Two that work at several resolutions, and HyperRes's trunk with plain convolutions, which has one and is blind."""

BASE = "3x3, offset, small start, cells of 4, behind block 2"
PLACE = "blocks.1.conv2"
ABLATIONS: dict[str, dict[str, Any]] = {
    BASE: {PLACE: {}},
    "none": {},
    "1x1": {PLACE: {"kernel": 1}},
    "no offset": {PLACE: {"offset": False}},
    "1x1, no offset": {PLACE: {"kernel": 1, "offset": False}},
    "the gate": {PLACE: {"gate": True, "start": 1.0}},
    "neither gate nor small start": {PLACE: {"start": 1.0}},
    "cells of 8": {PLACE: {"pools": 3}},
    "cells of 16": {PLACE: {"pools": 4}},
    "cells of 32": {PLACE: {"pools": 5}},
    "pre-pooling by 2": {PLACE: {"pools": 1, "pre_pool": 2}},
    "pre-pooling by 4": {PLACE: {"pools": 0, "pre_pool": 4}},
    "behind the head": {"head": {}},
    "behind block 4": {"blocks.3.conv2": {}},
    "inside block 2": {"blocks.1.conv1": {}},
    "behind every block": {f"blocks.{block}.conv2": {} for block in range(4)},
    "a predictor of 32 channels": {PLACE: {"width": 32}},
    "kernels shared by 2 channels": {PLACE: {"group": 2}},
}
"""Where the flat backbone has its MalleConvs and what they change of `ADDED`; cells and places are of its feature, at 1/2."""


def ablation(name: str) -> Build:
    """The network of an ablation."""
    flat, places = BACKBONES["flat"], ABLATIONS[name]
    if not places:
        return flat.network, flat.config
    after = {path: ADDED | changed for path, changed in places.items()}
    return "with_malle_conv", {"network": flat.network, "config": flat.config, "after": after}


@dataclass(frozen=True)
class Run:
    """One training run: of which part and group, which network of it, from which seed."""

    part: str
    group: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder."""
        words = [self.part, self.group, self.arm, f"seed-{self.seed}"]
        return "/".join("-".join("".join(c if c.isalnum() else " " for c in word).split()) for word in words)


class Bench:
    """The runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.runs = Runs(args.out, {name: value for name, value in vars(args).items() if name not in FREE_TO_CHANGE})

    def wanted(self, part: str) -> dict[Run, Build]:
        """Every run of a part, seed after seed, so that what is there is comparable at any time."""
        args, found = self.args, {}
        for seed in args.seeds:
            groups: dict[str, dict[str, Build]] = {}
            if part == "networks":
                groups = {f"C = {width}": networks(width) for width in args.widths}
            elif part == "added":
                groups = {name: BACKBONES[name].arms() for name in args.backbones}
            elif part == "ablation":
                names = [BASE, *(name for name in args.only if name != BASE)]
                groups = {"flat": {name: ablation(name) for name in names}}
            found |= {
                Run(part, group, arm, seed): build for group, arms in groups.items() for arm, build in arms.items()
            }
        return found

    def recipe(self, run: Run, build: Build, steps: int) -> Recipe:
        """Small crops and Muon, which learns most in so short a time (LOG.md); the noise is from 0 to 55."""
        args = self.args
        return Recipe(
            name="default",
            data=(str(args.train),),
            network=build[0],
            config=build[1],
            crops=NoisyCropSettings(sigma=(0.0, 55 / 255), grey=0.0),
            method=StudentSettings(),
            loop=LoopConfig(
                steps=steps,
                batch=args.batch,
                crops=((0, args.crop),),
                optimizer="muon",
                warmup=min(50, steps),
                ema=0.99,
                seed=run.seed,
                checkpoint_every=100,
                validate_every=0,
            ),
        )

    def recipe_of(self, run: Run, build: Build) -> Recipe:
        """The recipe of a run, as long as runs of its part are."""
        if run.part != "networks":
            return self.recipe(run, build, self.args.steps if run.part == "added" else self.args.ablation_steps)
        pace = "-".join(run.name.split("/")[:-1])  # one for all seeds
        steps = self.runs.steps_in(self.args.minutes, pace, partial(self.recipe, run, build))
        return self.recipe(run, build, steps)

    def measure(self, part: str) -> list[dict[str, Any]]:
        """A row for each run of ``part``, trained, scored and timed now where that was not done; seed after seed.

        Rows that earlier calls wrote down, of other seeds, backbones, widths or arms, are among them.
        """
        wanted = self.wanted(part)
        limit = self.args.networks_limit if part == "networks" else self.args.limit
        scoring = Scoring(test=self.args.test, sets=SETS[part], levels=LEVELS, limit=limit)
        rows = []
        for run, build in wanted.items():
            make = partial(self.recipe_of, run, build)
            scores = self.runs.scores(run.name, make, scoring)
            rows.append({**asdict(run), **scores, "gates": gates(self.file(run))})
            print(run.name, scores["psnr"], flush=True)
        told = {Run(part, row["group"], row["arm"], row["seed"]): row for row in self.before(part) + rows}
        times = self.times(part, sorted(told, key=lambda run: run.seed))
        return [told[run] | times.get(f"{run.group}: {run.arm}", {}) for run in sorted(told, key=lambda run: run.seed)]

    def before(self, part: str) -> list[dict[str, Any]]:
        """The rows of ``part`` that are written down, of runs whose weights are still there."""
        rows: list[dict[str, Any]] = self.runs.note(f"rows-{part}", list)
        return [row for row in rows if self.file(Run(part, row["group"], row["arm"], row["seed"])).exists()]

    def file(self, run: Run) -> Path:
        """The weights of ``run``."""
        return Path(self.args.out) / run.name / "weights.safetensors"

    def times(self, part: str, runs: list[Run]) -> dict[str, Any]:
        """Seconds per megapixel and peak memory of the networks of ``part``, side by side, one seed of each."""
        first = {f"{run.group}: {run.arm}": run for run in reversed(runs)}
        note = f"times-{part}"
        if self.args.time_again:
            (self.args.out / f"{note}.json").unlink(missing_ok=True)
        known = self.runs.note(note, dict)
        if not set(first) <= set(known):
            pictures = pictures_in(self.args.test / "kodak24", 2)
            paths = {name: self.file(run) for name, run in first.items()}
            contenders = [Contender(name=name, restore=restorer(path)) for name, path in paths.items()]
            result = bench(
                contenders, pictures, Noise(sigma=25 / 255), RGB_U8, repeats=self.args.repeats, with_ssim=False
            )
            known = {
                row.name: {
                    "seconds_per_megapixel": row.seconds_per_megapixel,
                    "peak_mib": row.peak_extra_bytes and row.peak_extra_bytes / 2**20,
                }
                for row in result.rows
            }
            self.runs.write(note, known)
        return known


def gates(weights: Path) -> list[float]:
    """The gates of the MalleConvs of a network, in its own order: what is left of them after training."""
    parts = [part for part in load_weights(weights).network.modules() if isinstance(part, MalleConv)]
    return [round(float(part.gate.weight.detach()), 3) for part in parts if part.gate is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="the folder of pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="the folder that holds cbsd68 and kodak24")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=2.3, help="of a run of `networks`")
    parser.add_argument("--steps", type=int, default=1000, help="of a run of `added`")
    parser.add_argument("--ablation-steps", type=int, default=1000, help="of a run of `ablation`")
    parser.add_argument("--widths", type=int, nargs="+", choices=[16, 32], default=[16], help="C of `networks`")
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS), help="of `ablation`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of every run")
    parser.add_argument("--limit", type=int, default=24, help="pictures of a test set, of `added` and `ablation`")
    parser.add_argument(
        "--networks-limit", type=int, help="pictures of a test set, of `networks`; all of them by default"
    )
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of a network and picture")
    parser.add_argument("--time-again", action="store_true", help="time the networks anew, and train nothing again")
    parser.add_argument(
        "--operator", type=Path, nargs="*", help="what malleable_operator.py wrote, if not beside the report"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/malleconv"), help="where runs are kept, and found again")
    parser.add_argument("--report", type=Path, default=Path("docs/results/malleconv.md"))
    args = parser.parse_args()
    tune_allocator()
    bench_of = Bench(args)
    for part in args.parts:
        if part != "operator":
            bench_of.runs.write(f"rows-{part}", bench_of.measure(part))
    results: dict[str, list[dict[str, Any]]] = {part: bench_of.runs.note(f"rows-{part}", list) for part in PARTS[1:]}
    files = args.operator if args.operator is not None else sorted(args.report.parent.glob("malleconv-operator*.json"))
    operators = [json.loads(path.read_text()) for path in files]
    write(args.report, operators, results, f"python benchmarks/malleconv.py {shlex.join(sys.argv[1:])}", vars(args))


if __name__ == "__main__":
    main()
