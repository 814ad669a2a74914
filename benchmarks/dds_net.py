"""DDS-Net's tables and claims at our scale: Tables I, III, IV, V, VI and Fig. 8, the wall-clock, and a verdict for each claim.

    python benchmarks/dds_net.py --train ../shared/data/train-free --test ../shared/data/test/cbsd68 \\
        --real ../shared/data/real/polyu-canon --steps 1500

Every run trains a `-small` recipe of `grainwise train`. Runs, searches, gates and scores lie under --out and are not made
again: after any interruption, the same command goes on, and later ones may add --parts, --backbones, --seeds. The report, its
JSON and its pictures are made of all that lies there.

Parts: `distillation` trains the supernet with in-place synergy (IS), in-place distillation (ID) and without; `slimming`
searches the routing space of IS and draws random sub-networks; `gate` trains gates over that space, with and without each
loss, and with extreme labels; `beta` varies the threshold; `inets` trains a static network for each budget; `shared`
trains them again, for the steps at which 16 of them take the multiply-adds of one supernet's training; `n` trains with 3 and 5
sub-networks a step; `speed` times extracted networks (run it on a quiet machine). Each part brings along what it needs.
"""

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dds_net_budgets import passes_of, ratio_for, shared_steps
from dds_net_claims import OURS
from dds_net_report import MADE, report
from dds_net_scores import SIDE, Fixed, Pairs, Routed, Scores, cut, photographed, scored, speed_of

from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.core.pictures import picture_paths
from grainwise.data.pairs import real_pairs
from grainwise.networks.checkpoint import Weights, load_gated, load_weights
from grainwise.networks.ratios import RatioNetwork
from grainwise.networks.registry import create_network
from grainwise.networks.routes import RoutingSpace
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime.blind import BlindDenoiser
from grainwise.runtime.machine import tune_allocator
from grainwise.training import recipes
from grainwise.training.dds_stages import GATED, POOL, GateStage, budget_name
from grainwise.training.recipe import Recipe
from grainwise.training.samplers import sampler_of
from grainwise.training.slimming import ROUTES
from grainwise.training.stages import WEIGHTS, Run, Told, begun, run_stages

PARTS = ("distillation", "slimming", "gate", "inets", "shared", "n", "beta", "speed")
ARMS: dict[str, tuple[str, ...]] = {
    "IS": (),
    "ID": ("method.ensemble=false",),
    "none": ("method.synergy=false",),
    "n=3": ("method.subnets=3",),
    "n=5": ("method.subnets=5",),
}
DISTILLED = ("IS", "ID", "none")
GATES: dict[str, dict[str, Any]] = {
    "gate": {},
    "no gate loss": {"label_weight": 0.0},
    "no budget loss": {"weight": 0.0},
    "extreme labels": {"labels": "extremes"},
    OURS: {"labels": "gains", "weight": 0.0},
}
BETAS = (0.0, 0.05, 0.1, 0.4, 0.8)
"""Beside the recipe's own."""
RANDOM = 24
"""Random sub-networks of each kind, unless --random says otherwise: every layer by itself, and near one ratio for all."""
ON_THE_WAY = 16
"""Sub-networks of the routing space that are scored on the test pictures."""


@dataclass(frozen=True)
class Subject:
    """A backbone and a seed."""

    backbone: str
    seed: int


class Bench:
    """All that lies under one folder."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out = args, Path(args.out)
        self.corpora: Any = None
        self.sets: dict[str, Pairs] = {}
        self.seconds: dict[str, float] = {}
        self.trained: set[str] = set()
        tune_allocator()
        self.same_as_before()

    def same_as_before(self) -> None:
        """Refuse a folder whose runs had other settings."""
        settings = {
            name: str(getattr(self.args, name))
            for name in ("train", "test", "real", "steps", "inet_steps", "slim_crops", "limit", "random", "set")
        }
        note = self.out / "settings.json"
        before = json.loads(note.read_text()) if note.exists() else settings
        before = {"random": str(RANDOM), **before}
        changed = [name for name, value in settings.items() if before[name] != value]
        if changed:
            raise InputError(f"{self.out} holds runs with another {', '.join(changed)}; take another --out")
        with whole_file(note) as temporary:
            temporary.write_text(json.dumps(settings))

    def recipe(self, subject: Subject, *changes: str) -> Recipe:
        """The small recipe of a backbone with the settings of this benchmark."""
        return recipes.get_recipe(
            f"dds-{subject.backbone}-small",
            [
                f"data={','.join(map(str, self.args.train))}",
                f"loop.steps={self.args.steps}",
                f"loop.seed={subject.seed}",
                f"stages.gate.loop.seed={subject.seed}",
                f"stages.slim.crops={self.args.slim_crops}",
                "loop.validate_every=0",
                *self.args.set,
                *changes,
            ],
        )

    def run(self, recipe: Recipe, folder: Path, stages: tuple[str, ...]) -> Run:
        """Run the stages that are not finished."""
        if self.corpora is None:
            self.corpora = recipes.corpora(recipe, Path(".cache/corpus"))
        last = [time.monotonic()]

        def tell(told: Told) -> None:
            if told.words != "done" and (told.line or time.monotonic() - last[0] > 60):
                last[0] = time.monotonic()
                left = "" if told.seconds_left is None else f", {told.seconds_left / 60:.1f} min left"
                print(
                    f"{folder.name}: {told.line or f'{told.stage} {told.done}/{told.total}, {told.words}'}{left}",
                    flush=True,
                )

        run = Run(
            recipe=recipe,
            out=folder,
            make_corpora=lambda _: self.corpora,
            make_network=partial(recipes.network_of, recipe),
            command="python benchmarks/dds_net.py",
            commit=current_commit(),
            tell=tell,
        )
        wanted = [stage for stage in recipe.stages if stage.name in stages]
        run_stages(wanted, run, resume=any(begun(stage, run.folder(stage.name)) for stage in wanted))
        return run

    def pairs(self, name: str) -> Pairs:
        """The test pictures, photographed by a random camera each, or the real pairs; cut from the middle."""
        if name not in self.sets:
            if name == "real":
                paths = list(real_pairs(self.args.real))[: self.args.limit]
                self.sets[name] = [(title, cut(noisy), cut(clean)) for title, noisy, clean in paths]
            else:
                found = [path for folder in self.args.test for path in picture_paths(folder)][: self.args.limit]
                self.sets[name] = [photographed(path, index) for index, path in enumerate(found)]
        return self.sets[name]

    def noisy_scores(self) -> dict[str, Any]:
        """The pictures as they are."""
        return {
            name: scored(lambda noisy, _: noisy, self.pairs(name)) for name in ("camera", "real") if self.holds(name)
        }

    def holds(self, name: str) -> bool:
        return name == "camera" or self.args.real is not None

    def cached(self, path: Path, make: Callable[[], Scores]) -> Scores:
        """What the file at ``path`` says, made now where there is none."""
        if not path.exists():
            start = time.perf_counter()
            value = make()
            with whole_file(path) as temporary:
                temporary.write_text(json.dumps(value))
            print(f"{path.relative_to(self.out)}: {time.perf_counter() - start:.1f} s", flush=True)
        held: Scores = json.loads(path.read_text())
        return held

    def plan_score(self, network: RatioNetwork, plan: ChannelPlan, path: Path, *, real: bool = False) -> Scores:
        """What a sub-network scores."""

        def make() -> dict[str, Any]:
            denoiser = Fixed(network, plan)
            sets = ("camera", "real") if real and self.holds("real") else ("camera",)
            cost = network.macs_per_pixel(plan) + network.macs_per_picture(plan) / SIDE**2
            return {"plan": str(plan), "macs": cost, **{name: scored(denoiser, self.pairs(name)) for name in sets}}

        return self.cached(path, make)

    def folder(self, subject: Subject, arm: str) -> Path:
        return self.out / subject.backbone / f"{arm}-{subject.seed}"

    def supernet(self, subject: Subject, arm: str) -> RatioNetwork:
        """The trained supernet of an arm."""
        folder = self.folder(subject, arm)
        self.run(self.recipe(subject, *ARMS[arm]), folder, ("supernet",))
        network = self.weights(folder).network
        assert isinstance(network, RatioNetwork)
        return network

    def weights(self, folder: Path) -> Weights:
        """What a run has trained; where, by its card, is noted for the report."""
        held = load_weights(folder / "supernet" / WEIGHTS)
        self.trained.add(f"{held.card.device}, commit {held.card.commit}")
        return held

    def arms(self, subject: Subject) -> list[str]:
        """The arms of Table III that are asked for, and those that are trained already."""
        trained = [arm for arm in DISTILLED if (self.folder(subject, arm) / "supernet" / WEIGHTS).exists()]
        return [arm for arm in DISTILLED if arm in trained or arm in self.args.arms]

    def network(self, subject: Subject) -> dict[str, Any]:
        """The supernet's configuration and the costs of its ends."""
        recipe = self.recipe(subject)
        with torch.device("meta"):
            network = create_network(recipe.network, recipe.config)
        ends = {"smallest": network.space.narrowest, "largest": network.space.widest}
        return {"config": recipe.config, **{name: network.macs_per_pixel(plan) for name, plan in ends.items()}}

    def ends(self, subject: Subject, arm: str) -> Scores:
        """Smallest and largest sub-network of an arm, and its training time."""
        network, folder = self.supernet(subject, arm), self.folder(subject, arm)
        found = self.end_scores(network, folder)
        card = self.weights(folder).card
        passes = passes_of(self.recipe(subject, *ARMS[arm]))
        rate = self.recipe(subject, *ARMS[arm]).loop.learning_rate
        return {**found, "steps": card.steps, "seconds": card.seconds, "passes": passes, "rate": rate}

    def end_scores(self, network: RatioNetwork, folder: Path) -> dict[str, Scores]:
        """What the smallest and the largest sub-network score."""
        space = network.space
        return {
            name: self.plan_score(network, plan, folder / "scores" / f"{name}.json", real=True)
            for name, plan in (("smallest", space.narrowest), ("largest", space.widest))
        }

    def slimming(self, subject: Subject) -> Scores:
        """The way of progressive slimming, and random sub-networks, on the test pictures."""
        network, folder = self.supernet(subject, "IS"), self.folder(subject, "IS")
        self.run(self.recipe(subject), folder, ("slim",))
        space = RoutingSpace.load(folder / "slim" / ROUTES, network)
        way = [
            self.plan_score(network, route.plan, folder / "scores" / f"way-{index:02d}.json")
            for index, route in enumerate(space.thinned(ON_THE_WAY))
        ]
        drawn: list[Any] = []
        for kind in ("iid", "global"):
            plans = sampler_of(kind, network, 0).draw(self.args.random, np.random.default_rng((subject.seed, 50)))
            for index, plan in enumerate(plans):
                path = folder / "scores" / f"random-{kind}-{index:02d}.json"
                drawn.append({"kind": kind, **self.plan_score(network, plan, path)})
        found = [[route.macs_per_pixel, route.psnr, route.ssim, route.seconds] for route in space.routes]
        return {"way": way, "random": drawn, "routes": found, "ends": self.end_scores(network, folder)}

    def gate(self, subject: Subject, title: str, **changes: Any) -> Scores:
        """A gate for each budget, over the routing space of IS."""
        network, folder = self.supernet(subject, "IS"), self.folder(subject, "IS")
        recipe = self.recipe(subject)
        run = self.run(recipe, folder, ("slim",))
        stage = next(stage for stage in recipe.stages if isinstance(stage, GateStage))
        stage = replace(stage, **changes)
        place, shared = folder / f"gate {title}".replace("gate gate", "gate"), folder / "gate" / POOL
        if not (place / POOL).exists() and shared.exists():
            with whole_file(place / POOL) as temporary:
                shutil.copyfile(shared, temporary)
        if not all(path.exists() for path in stage.results(place)):
            stage.go(run, place, resume=stage.started(place))
        largest = network.macs_per_pixel(network.space.widest)
        return {"largest": largest, **{str(budget): self.gate_score(place, budget) for budget in stage.budgets}}

    def gate_score(self, place: Path, budget: float) -> Scores:
        """What a gate makes of the test pictures."""
        folder = place / budget_name(budget)

        def make() -> dict[str, Any]:
            told: dict[str, Any] = {}
            for name in ("camera", "real"):
                if self.holds(name):
                    routed = Routed(BlindDenoiser(load_gated(folder / GATED), device="cpu", dtype="float32"))
                    told[name] = {**scored(routed, self.pairs(name)), **routed.account()}
            return told

        return self.cached(folder / "score.json", make)

    def inets(self, subject: Subject, *, shared: bool = False) -> Scores:
        """A static network for each budget, trained alone: as long as the supernet, or for its share of that training.

        At every rate of --inet-rates; the one that scores best on the test pictures counts, which can only favour I-Nets.
        """
        told: dict[str, Any] = {}
        steps = shared_steps(self.recipe(subject)) if shared else self.args.inet_steps or self.args.steps
        for budget in self.gate_stage(subject).budgets:
            full = self.recipe(subject)
            ratio = ratio_for(full, budget)
            config = json.dumps({**full.config, "ratios": [ratio, ratio], "attention": False})
            changes = (f"config={config}", "method.subnets=1", f"loop.steps={steps}")
            for rate in self.args.inet_rates or [full.loop.learning_rate]:
                recipe = self.recipe(subject, *changes, f"loop.learning_rate={rate}")
                at_rate = "" if rate == full.loop.learning_rate else f" rate {rate:g}"
                folder = self.folder(subject, f"I-{budget_name(budget)}{' shared' if shared else ''}{at_rate}")
                one = self.inet(recipe, folder)
                best = told.get(str(budget), one)
                told[str(budget)] = max((best, one), key=lambda each: float(each["camera"]["psnr"]))
        return told

    def inet(self, recipe: Recipe, folder: Path) -> Scores:
        """A static network: what it scores, and what its training took."""
        self.run(recipe, folder, ("supernet",))
        loaded = self.weights(folder)
        assert isinstance(loaded.network, RatioNetwork)
        score = self.plan_score(loaded.network, loaded.network.space.widest, folder / "score.json", real=True)
        spent = {"steps": loaded.card.steps, "seconds": loaded.card.seconds, "passes": passes_of(recipe)}
        return {**score, **spent, "rate": recipe.loop.learning_rate}

    def gate_stage(self, subject: Subject) -> GateStage:
        return next(stage for stage in self.recipe(subject).stages if isinstance(stage, GateStage))

    def speed(self, subject: Subject) -> Scores:
        """Seconds of the smallest and the largest sub-network on 512x512, and of a gate over both."""

        def make() -> dict[str, Any]:
            recipe = self.recipe(subject)
            network = create_network(recipe.network, recipe.config).eval()
            assert isinstance(network, RatioNetwork)
            return speed_of(network)

        return self.cached(self.out / subject.backbone / "speed.json", make)

    def results(self, subject: Subject, parts: list[str]) -> dict[str, Any]:
        """Every part that is asked for, and what it needs."""
        told: dict[str, Any] = {"network": self.network(subject), MADE: {}}

        def timed(part: str, make: Callable[[], Scores]) -> None:
            if part in parts:
                start = time.perf_counter()
                self.trained.clear()
                told[part] = make()
                told[MADE][part] = sorted(self.trained)
                self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start
                print(f"{subject.backbone}, seed {subject.seed}, {part}: {self.seconds[part]:.0f} s", flush=True)

        timed("distillation", lambda: {arm: self.ends(subject, arm) for arm in self.arms(subject)})
        timed("slimming", lambda: self.slimming(subject))
        timed("inets", lambda: self.inets(subject))
        timed("shared", lambda: self.inets(subject, shared=True))
        timed("gate", lambda: {title: self.gate(subject, title, **changes) for title, changes in GATES.items()})
        timed("n", lambda: {arm: self.ends(subject, arm) for arm in ("n=3", "IS", "n=5")})
        timed("beta", lambda: self.betas(subject))
        timed("speed", lambda: self.speed(subject))
        return told

    def betas(self, subject: Subject) -> Scores:
        """The middle budget at other thresholds."""
        stage = self.gate_stage(subject)
        middle = stage.budgets[len(stage.budgets) // 2]
        told = {str(stage.beta): self.gate(subject, "gate")[str(middle)]}
        for beta in BETAS:
            told[str(beta)] = self.gate(subject, f"beta {beta:g}", beta=beta, budgets=(middle,))[str(middle)]
        return dict(sorted(told.items(), key=lambda item: float(item[0])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="folders of pictures to train on")
    parser.add_argument("--test", type=Path, nargs="+", required=True, help="folders of clean test pictures")
    parser.add_argument("--real", type=Path, help="a folder of real pairs that nothing trains on")
    parser.add_argument("--backbones", nargs="+", choices=("vdnet", "danet", "mprnet"), default=["vdnet"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS[:-1]))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=1500, help="of every supernet")
    parser.add_argument("--inet-steps", type=int, default=0, help="of every I-Net; 0 for --steps")
    parser.add_argument(
        "--inet-rates", type=float, nargs="+", default=[], help="learning rates of I-Nets, of which the best counts"
    )
    parser.add_argument("--slim-crops", type=int, default=32, help="held-out crops of the search")
    parser.add_argument(
        "--arms", nargs="+", choices=DISTILLED, default=list(DISTILLED), help="of the part distillation"
    )
    parser.add_argument("--random", type=int, default=RANDOM, help="random sub-networks of each kind; 0 for none")
    parser.add_argument("--limit", type=int, default=48, help="pictures of each test set")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of the recipes"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/dds-net"), help="where runs are kept, and found again")
    parser.add_argument("--report", type=Path, default=Path("docs/results/dds-net.md"))
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        help="other --out, or the JSON of an earlier report, whose results the report shows too",
    )
    args = parser.parse_args()
    bench = Bench(args)
    for subject in [Subject(backbone, seed) for backbone in args.backbones for seed in args.seeds]:
        part = bench.out / subject.backbone / f"results-{subject.seed}.json"
        before = json.loads(part.read_text()) if part.exists() else {}
        found = bench.results(subject, args.parts)
        told = {**before, **found, MADE: {**before.get(MADE, {}), **found[MADE]}}
        with whole_file(part) as temporary:
            temporary.write_text(json.dumps(told))
    noisy = bench.cached(bench.out / "noisy.json", bench.noisy_scores)
    command = f"python benchmarks/dds_net.py {shlex.join(sys.argv[1:])}"
    report([bench.out, *args.beside], noisy, bench.pairs("camera"), command, args.report)


if __name__ == "__main__":
    main()
