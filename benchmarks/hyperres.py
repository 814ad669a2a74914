"""The claims of HyperRes (arXiv 2206.05970) at the scale of this machine, and ours beside the paper's.

    python benchmarks/hyperres.py --train ../shared/data/train-free --test ../shared/data/test --steps 2000 --limit 10

Parts (--parts): "tables": one hyper-network against one network for each level (tables 1 to 3); "between": between and outside
the trained noise levels, against AdaFM and DNI; "input": PSNR against the level that the network is told (figure 5); "blind":
the level estimated, against told; "widths": one slimmable hyper-network against hyper-networks of each width alone. Every
network is trained for the same --steps. Runs and scores lie under --out and are not made again: after any interruption, the
same command goes on. The report (Markdown, JSON, and pictures where matplotlib is installed) is made of the parts asked for.
All of it takes about 1.25 s a step of one core: 45 minutes with 2,000 steps.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from hyperres_report import write_report

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.evaluation.degraded import Bicubic, Jpeg, evaluate_degraded
from grainwise.evaluation.environment import environment
from grainwise.evaluation.measure import evaluate
from grainwise.evaluation.protocol import RGB_U8, Noise
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.networks.interpolation import interpolated
from grainwise.networks.network import Network
from grainwise.networks.registry import create_network
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.blur_scale import estimate_scale
from grainwise.runtime.jpeg_quality import estimate_jpeg
from grainwise.runtime.machine import tune_allocator
from grainwise.runtime.noise_level import estimate_noise
from grainwise.training import recipes
from grainwise.training.loop import CHECKPOINT, train

PARTS = ("tables", "between", "input", "blind", "widths")
TASKS = ("denoise", "dejpeg", "sr")
FREE_TO_CHANGE = ("parts", "tasks", "out", "report")
"""What a later call with the same --out may set otherwise."""

TRAINED: dict[str, tuple[float, ...]] = {
    "denoise": (15, 30, 45, 60, 75),
    "dejpeg": (10, 30, 50, 80),
    "sr": (2, 3, 4, 5),
}
"""Levels of the training: 255 sigma, JPEG quality, scale."""
TABLED: dict[str, tuple[float, ...]] = {
    "denoise": (5, 15, 30, 45, 60, 75, 90), "dejpeg": (10, 30, 50, 70, 80), "sr": (2, 3, 4, 5, 6)
}  # fmt: skip
"""Levels of the tables; those that are not trained have no network of their own."""
BETWEEN, OUTSIDE = (22, 37, 52, 67), (5, 10, 85, 95)
TRUE = (15, 45, 75)
TOLD = (0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
"""Figure 5: shares of the true noise level that the network is told."""
SETS = {"denoise": "cbsd68", "dejpeg": "live1", "sr": "set5"}
DEGRADATIONS = {"denoise": "gaussian", "dejpeg": "jpeg", "sr": "bicubic-opencv"}
WIDTHS = (16, 24, 32)

Pixels = npt.NDArray[Any]
Method = Callable[[Pixels, float], Pixels]
Estimate = Callable[[Pixels, float], float]


@dataclass(frozen=True)
class Run:
    """One training run.

    Args:
        name: of its folder.
        task: see `TASKS`.
        levels: that it is taught.
        config: of HyperRes, beside the task.
        subnets: of the sandwich; 1 teaches the widest alone.
        learns: see `LevelsMethod`.
        start: the run whose weights it starts from.
    """

    name: str
    task: str
    levels: tuple[float, ...]
    config: tuple[tuple[str, Any], ...] = ()
    subnets: int = 1
    learns: str = "all"
    start: "Run | None" = None


def hyper(task: str) -> Run:
    return Run(f"{task}-hyper", task, TRAINED[task])


def dedicated(task: str, level: float, start: "Run | None" = None) -> Run:
    """A plain network for one level; with ``start``, fine-tuned from another one's."""
    name = f"{task}-alone-{level:g}" if start is None else f"{task}-dni-{level:g}"
    return Run(name, task, (level,), (("convs", "slim"),), start=start)


def adafm() -> tuple[Run, Run]:
    """AdaFM-Net at the lowest level, then its modulation alone at the highest."""
    ends = (TRAINED["denoise"][0], TRAINED["denoise"][-1])
    config = (("convs", "adafm"), ("conditioned", "body"), ("level_range", [end / 255 for end in ends]))
    first = Run("denoise-adafm-1", "denoise", ends[:1], config)
    return first, Run("denoise-adafm-2", "denoise", ends[1:], config, learns="modulation", start=first)


def widths() -> tuple[Run, dict[int, Run]]:
    """(the slimmable hyper-network, hyper-networks of each width)."""
    levels = TRAINED["denoise"]
    alone = {
        width: Run(f"denoise-width-{width}", "denoise", levels, (("stream", [width]), ("inner", [width])))
        for width in WIDTHS
    }
    alone[WIDTHS[-1]] = hyper("denoise")
    config = (("stream", list(WIDTHS)), ("inner", list(WIDTHS)))
    return Run("denoise-slimmable", "denoise", levels, config, subnets=len(WIDTHS)), alone


class Bench:
    """The runs under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, Path(args.out)
        self.data: tuple[Any, Any] | None = None
        note = self.out / "settings.json"
        settings = {name: str(value) for name, value in vars(args).items() if name not in FREE_TO_CHANGE}
        before = json.loads(note.read_text()) if note.exists() else settings
        changed = [name for name, value in settings.items() if before[name] != value]
        if changed:
            raise InputError(f"{self.out} holds runs with another {', '.join(changed)}; take another --out")
        with whole_file(note) as temporary:
            temporary.write_text(json.dumps(settings))

    def changes(self, run: Run) -> list[str]:
        """The settings of a run, beside those of its recipe."""
        unit = 255 if run.task == "denoise" else 1
        config = {
            "task": {"sr": "upscale"}.get(run.task, run.task),
            "blocks": self.args.blocks,
            "stream": [WIDTHS[-1]],
            "channels": 1 if run.task == "dejpeg" else 3,
            **dict(run.config),
        }
        return [
            f"data={','.join(map(str, self.args.train))}",
            f"config={json.dumps(config)}",
            f"crops.degradation={DEGRADATIONS[run.task]}",
            f"crops.levels={json.dumps([level / unit for level in run.levels])}",
            f"crops.luma={json.dumps(run.task == 'dejpeg')}",
            f"method.subnets={run.subnets}",
            f"method.learns={run.learns}",
            f"loop.steps={self.args.steps}",
            f"loop.warmup={min(100, self.args.steps // 5)}",
            f"loop.crops=[[0,{self.args.crop}]]",
            f"loop.batch={self.args.batch}",
            "loop.validate_every=0",
            *([] if run.start is None else [f"init={self.weights(run.start)}"]),
            *self.args.set,
        ]

    def weights(self, run: Run) -> Path:
        """The weights of ``run``, trained now where they are not there."""
        folder = self.out / run.name
        path = folder / "weights.safetensors"
        if path.exists():
            return path
        recipe = recipes.get_recipe(f"hyperres-{run.task}-small", self.changes(run))
        print(f"training {run.name}: {recipe.loop.steps} steps", flush=True)
        if self.data is None:
            self.data = recipes.corpora(recipe, Path(self.args.cache))
        network = recipes.network_of(recipe)
        method, batches = recipe.method.build(network, seed=recipe.loop.seed), recipe.crops.build(self.data[0])
        result = train(recipe.loop, method, batches, folder, resume=(folder / CHECKPOINT).exists())
        network.load_state_dict(result.weights)
        plan = network.space.widest
        measured = MeasuredPlan(str(plan), round(network.macs_per_pixel(plan)), {}, "best")
        card = Card(licence="for this benchmark only", data=tuple(map(str, self.args.train)), recipe=run.name,
                    commit=current_commit(), steps=result.steps, seconds=result.seconds, device="cpu",
                    plans=(measured,))  # fmt: skip
        save_weights(path, network, card)
        return path

    def network(self, run: Run) -> Network:
        return load_weights(self.weights(run)).network

    def score(self, name: str, task: str, level: float, make: Callable[[], Method]) -> float:
        """The PSNR of a method under a name at a level, measured now where that is not written down."""
        note = self.out / "scores.json"
        scores: dict[str, float] = json.loads(note.read_text()) if note.exists() else {}
        key = f"{name} {SETS[task]} {level:g}"
        if key not in scores:
            restore, pictures = make(), pictures_in(self.args.test / SETS[task], self.args.limit)
            if task == "denoise":
                found = evaluate(restore, pictures, Noise(sigma=level / 255), RGB_U8, with_ssim=False)
            else:
                kind = Jpeg(quality=int(level)) if task == "dejpeg" else Bicubic(scale=int(level), antialias=False)
                found = evaluate_degraded(restore, pictures, kind, with_ssim=False)
            scores[key] = round(found.psnr, 4)
            print(f"{key}: {scores[key]:.2f} dB", flush=True)
            with whole_file(note) as temporary:
                temporary.write_text(json.dumps(scores, indent=1))
        return scores[key]

    def of(self, run: Run, level: float, plan: ChannelPlan | None = None, name: str = "") -> float:
        """The PSNR of a run, told the level."""
        label = name or (run.name if plan is None else f"{run.name} {plan}")
        return self.score(label, run.task, level, lambda: told(self.network(run), plan))


def told(
    network: Network, plan: ChannelPlan | None = None, *, level_of: Estimate | None = None, share: float = 1.0
) -> Method:
    """A network as a method under test, called with a picture and the true level in the units of the task.

    Args:
        network: HyperRes with layers of any kind.
        plan: its plan; None is the widest.
        level_of: estimates the level that it is told; None tells the true one.
        share: of the level that is told.
    """

    def restore(picture: Pixels, value: float) -> Pixels:
        known = share * (value if level_of is None else level_of(picture, value))
        at = () if network.facts.level_range is None else (float(network.facts.level(known)),)
        x = torch.from_numpy(np.ascontiguousarray(picture, np.float32)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            y = network.extract(plan or network.space.widest, *at)(x.expand(-1, network.facts.channels, -1, -1))
        return y[0].permute(1, 2, 0).numpy()[..., : picture.shape[2]]

    return restore


def dni(bench: Bench) -> Method:
    """Interpolation of all weights between the networks of the lowest and the highest noise level."""
    low, high = TRAINED["denoise"][0], TRAINED["denoise"][-1]
    first = bench.network(dedicated("denoise", low))
    second = bench.network(dedicated("denoise", high, dedicated("denoise", low)))

    def restore(picture: Pixels, sigma: float) -> Pixels:
        mixed = create_network("hyperres", first.config)
        share = (255 * sigma - low) / (high - low)
        mixed.load_state_dict(interpolated(first.state_dict(), second.state_dict(), share))
        return told(mixed.eval())(picture, sigma)

    return restore


def estimated(task: str) -> Estimate:
    """The classical blind estimate of a task."""
    if task == "denoise":
        return lambda picture, _: estimate_noise(picture).sigma
    if task == "dejpeg":
        return lambda picture, _: min(95.0, estimate_jpeg(picture).quality)
    return lambda picture, _: estimate_scale(picture).scale


def tables(bench: Bench, tasks: list[str]) -> dict[str, Any]:
    """Task -> level -> PSNR of the one hyper-network and, where it was trained, of the level's own network."""
    found: dict[str, Any] = {}
    for task in tasks:
        rows = found[task] = {}
        for level in TABLED[task]:
            rows[level] = {"hyper": bench.of(hyper(task), level)}
            if level in TRAINED[task]:
                rows[level]["dedicated"] = bench.of(dedicated(task, level), level)
    return found


def between(bench: Bench, _: list[str]) -> dict[str, Any]:
    """Noise level -> PSNR of the hyper-network, of AdaFM and of DNI."""
    second = adafm()[1]
    return {
        level: {
            "hyper": bench.of(hyper("denoise"), level),
            "AdaFM": bench.of(second, level, name="AdaFM"),
            "DNI": bench.score("DNI", "denoise", level, lambda: dni(bench)),
        }
        for level in sorted((*TRAINED["denoise"], *BETWEEN, *OUTSIDE))
    }


def by_input(bench: Bench, _: list[str]) -> dict[str, Any]:
    """True noise level -> share of it that is told -> PSNR."""

    def one(level: float, share: float) -> float:
        name = "denoise-hyper" if share == 1 else f"denoise-hyper told x{share:g}"
        return bench.score(name, "denoise", level, lambda: told(bench.network(hyper("denoise")), share=share))

    return {level: {share: one(level, share) for share in TOLD} for level in TRUE}


def blind(bench: Bench, tasks: list[str]) -> dict[str, Any]:
    """Task -> trained level -> PSNR told and blind."""

    def one(task: str, level: float) -> float:
        method = lambda: told(bench.network(hyper(task)), level_of=estimated(task))  # noqa: E731
        return bench.score(f"{task}-hyper blind", task, level, method)

    return {
        task: {level: {"told": bench.of(hyper(task), level), "blind": one(task, level)} for level in TRAINED[task]}
        for task in tasks
    }


def by_width(bench: Bench, _: list[str]) -> dict[str, Any]:
    """Width -> noise level -> PSNR of the slimmable network at that width, and of one of that width alone."""
    slimmable, alone = widths()
    space = bench.network(slimmable).space
    plans = {width: space.plan({"stream": width, "inner": width}) for width in WIDTHS}
    return {
        width: {
            level: {"slimmable": bench.of(slimmable, level, plans[width]), "alone": bench.of(alone[width], level)}
            for level in TRAINED["denoise"]
        }
        for width in WIDTHS
    }


MEASURE: dict[str, Callable[[Bench, list[str]], dict[str, Any]]] = {
    "tables": tables, "between": between, "input": by_input, "blind": blind, "widths": by_width
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument("--test", type=Path, required=True, help="the folder that holds cbsd68, live1 and set5")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of the tables and of blind use")
    parser.add_argument("--limit", type=int, help="pictures a set")
    parser.add_argument("--steps", type=int, default=2_000, help="of every network")
    parser.add_argument("--blocks", type=int, default=4, help="16 in the paper")
    parser.add_argument("--crop", type=int, default=48)
    parser.add_argument("--batch", type=int, default=8, help="crops a step and level")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change any setting of the recipe"
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpus"), help="where decoded pictures are kept")
    parser.add_argument("--out", type=Path, default=Path("runs/hyperres"), help="where runs are kept, and found again")
    parser.add_argument("--report", type=Path, default=Path("docs/results/hyperres.md"))
    args = parser.parse_args(arguments)
    tune_allocator()
    bench = Bench(args)
    found = {part: MEASURE[part](bench, args.tasks) for part in PARTS if part in args.parts}
    costs = {}
    for run in {hyper(task) for task in args.tasks} if "tables" in found else ():
        net = bench.network(run)
        costs[run.task] = {"macs_per_pixel": round(net.macs_per_pixel(net.space.widest)),
                           "parameters": sum(p.numel() for p in net.parameters())}  # fmt: skip
    scale = {name: getattr(args, name) for name in ("steps", "blocks", "crop", "batch", "limit")}
    command = f"python benchmarks/hyperres.py {shlex.join(arguments or sys.argv[1:])}"
    write_report(args.report, found, costs, scale, TRAINED, command, environment(commit=current_commit()))


if __name__ == "__main__":
    main()
