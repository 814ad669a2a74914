"""Where a budget is better spent than evenly: between the cells of a picture, between its tiles, between pictures.

    python benchmarks/adaptive.py --test ../shared/data/test --free ../shared/data/train-free --parts cells pictures

`--test` holds cbsd68, kodak24 and kodak-full, `--free` the pictures of which the shipped weights learned all but one in 24;
what of these few is large counts as a fourth set. Tables of errors are kept in `--tables` and not made twice. Each part
writes its numbers to docs/results/adaptive.json, and docs/results/adaptive.md is written anew from all of it. With `--kept`
no network runs: pictures are routed and counted anew from the tables and the seconds that are there.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptive_cells import cells_part
from adaptive_pictures import Prices, Told, compare, reading_seconds, scored, seconds_of, tiles, with_price
from adaptive_report import report
from adaptive_routers import Router, Units, fit_gains, fit_gates, losses_of, together, units
from adaptive_tables import (
    CAMERA,
    CELL,
    Answerer,
    Table,
    fingerprint,
    learning_crops,
    mark_of,
    noisy_pictures,
    table_of,
)

from grainwise.cli.restorers import pictures_in
from grainwise.core.commit import current_commit
from grainwise.core.errors import InputError
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment
from grainwise.networks.checkpoint import Weights, load_weights
from grainwise.networks.half_unet import HalfUNet
from grainwise.runtime.machine import tune_allocator

PLANS = (
    "level0=16,level1=32,level2=48",
    "level0=32,level1=40,level2=48",
    "level0=48,level1=48,level2=48",
    "level0=64,level1=48,level2=80",
    "level0=64,level1=80,level2=112",
)
"""Five of the plans that the weights recommend. Of the others none is above the line between these, over the logarithm of the
cost, by more than 0.012 dB on the held-out crops of the card."""
BUDGETS = (18.7e3, 29608, 41.2e3, 57276, 93312)
"""The costs of the three middle plans, and two between plans."""
NOT_IN_DECIBELS = ("gate", "chance")
KINDS = ("10", "25", "50", CAMERA)
MIXED = ("cbsd68", "kodak24", "large")
TILED = ("large", "kodak-full")
HELD_OUT = ("large", "small")
SIDES = (8, 4, 2, 1)
"""Sides of tiles in cells."""
CHOSEN = "texture and tap"
"""What the router reads that the verdicts speak of; chosen by halves of the crops that it learns from."""


def about() -> dict[str, Any]:
    """Where and from what a part was measured."""
    return {"commit": current_commit(), "cpu": environment().cpu, "threads": torch.get_num_threads()}


class Pictures:
    """The part that routes pictures and tiles.

    Args:
        args: of the command line.
        weights: whose plans are routed.
        before: the numbers of this part whose seconds are taken over, with all tables; None to measure.
    """

    def __init__(self, args: argparse.Namespace, weights: Weights, before: dict[str, Any] | None = None) -> None:
        network = weights.network
        assert isinstance(network, HalfUNet)
        self.args, self.network, self.before = args, network, before
        self.plans = [network.space.parse(plan) for plan in PLANS]
        self.costs = np.array([network.macs_per_pixel(plan) for plan in self.plans])
        self.dtype = getattr(torch, args.dtype)
        self.answerer = Answerer(network, self.plans, self.dtype)
        self.weights = fingerprint(network)

    def table(self, kind: str) -> Table:
        """The table of one noise, or that of the crops to learn from."""
        args = self.args
        learning = kind == "learning"
        what = [kind, args.crops if learning else args.limit]
        folders = [] if learning else [args.test / name for name in ("cbsd68", "kodak24", "kodak-full")]
        mark = mark_of(self.weights, self.plans, self.dtype, [*folders, args.free], what)
        path = args.tables / f"{kind}.npz"
        held = Table.load(path, mark)
        if held is not None:
            return held
        if self.before is not None:
            raise InputError(f"{path} is not there or was made from something else; without --kept it is made")
        pictures = (
            learning_crops(args.free, args.cache, args.crops)
            if learning
            else noisy_pictures(folders, args.free, kind, args.limit)
        )
        made = table_of(self.answerer, pictures, lambda done: print(f"{kind}: {done}", flush=True))
        made.save(path, mark)
        return made

    def prices(self) -> Prices:
        """What the plans and the reading cost."""
        if self.before is not None:
            return Prices(self.costs, np.array(self.before["seconds"]), self.before["reading"])
        return Prices(self.costs, seconds_of(self.answerer.plain), reading_seconds(self.network))

    def about(self) -> dict[str, Any]:
        """Where, from what and how it was measured; of numbers that were there also the commit that measured them."""
        if self.before is not None:
            told = self.before["about"]
            return {**told, "commit": current_commit(), "measured": told.get("measured", told["commit"])}
        return {**about(), "dtype": self.args.dtype, "crops": self.args.crops, "limit": self.args.limit}

    def run(self) -> dict[str, Any]:
        """All numbers of the part, as JSON values."""
        learned = units(self.table("learning"))
        tables = {kind: self.table(kind) for kind in KINDS}
        prices = self.prices()
        fitted = fit_gains(learned, PLANS, self.network.space.narrowest["level0"])
        routers = {f"gain, {name}": losses_of(router) for name, router in fitted.items()}
        gates = fit_gates(learned, PLANS, self.costs, BUDGETS)
        gate = {budget: losses_of(router) for budget, router in gates.items()}
        told = told_by(routers, gate)
        sets = {kind: units(table, sets=MIXED) for kind, table in tables.items()}
        white = together([sets[kind] for kind in KINDS if kind != CAMERA])
        own = [units(tables[kind], sets=HELD_OUT) for kind in KINDS if kind != CAMERA]
        sets |= {"white": white, "mixed": together([white, sets[CAMERA]]), "held out, white": together(own)}
        return {
            "about": self.about(),
            "plans": list(PLANS),
            "costs": self.costs.tolist(),
            "seconds": prices.seconds.tolist(),
            "reading": prices.reading,
            "learned": {"count": len(learned), "gain": learned.gains.mean(0).tolist()},
            "sets": {name: self.one_set(known, told, prices) for name, known in sets.items()},
            "apart": self.apart(learned, sets, routers[f"gain, {CHOSEN}"], gate, prices),
            "tiles": self.tiles(tables, told, prices),
        }

    def one_set(self, known: Units, told: dict[str, Told], prices: Prices) -> dict[str, Any]:
        """Both objectives over the pictures of a set."""
        in_decibels = {name: one for name, one in told.items() if name not in NOT_IN_DECIBELS}
        return {
            "count": len(known),
            "psnr": known.psnr.mean(0).tolist(),
            "spread": float(known.gains[:, -1].std()),
            "scores": {
                objective: [asdict(score) for score in compare(known, which, prices, BUDGETS, objective=objective)]
                for objective, which in (("psnr", told), ("error", in_decibels))
            },
        }

    def apart(
        self, learned: Units, sets: dict[str, Units], router: Router, gate: dict[float, Router], prices: Prices
    ) -> dict[str, list[dict[str, Any]]]:
        """Each picture by itself, at the price that keeps the budget on the learned crops (for a gate: its calibration)."""
        return {
            name: [
                asdict(scored(kind, known, route, prices, budget))
                for budget in BUDGETS
                for kind, one in (("gain", router), ("gate", gate[budget]))
                for route in [with_price(one, learned, known, self.costs, budget)]
            ]
            for name, known in sets.items()
        }

    def tiles(self, tables: dict[str, Table], told: dict[str, Told], prices: Prices) -> dict[str, Any]:
        """By noise and side in pixels."""
        wanted = {name: one for name, one in told.items() if name in ("oracle", f"gain, {CHOSEN}")}
        return {
            kind: {
                str(side * CELL): [
                    asdict(score) for score in tiles(units(table, side=side, sets=TILED), wanted, prices, BUDGETS)
                ]
                for side in SIDES
            }
            for kind, table in tables.items()
        }


def told_by(routers: dict[str, Router], gate: dict[float, Router]) -> dict[str, Told]:
    """Every way to spend a budget, by name."""
    draws = np.random.default_rng(0)
    told: dict[str, Told] = {"oracle": lambda known, _: -known.psnr}
    for name, router in routers.items():
        told[name] = lambda known, _, one=router: one(known)  # type: ignore[misc]
    told["gate"] = lambda known, budget: gate[budget](known)
    told["chance"] = lambda known, _: draws.random(known.mse.shape)
    return told


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--free", type=Path, required=True)
    parser.add_argument("--parts", nargs="*", choices=("cells", "pictures"), default=["cells", "pictures"])
    parser.add_argument("--model", default="default")
    parser.add_argument("--limit", type=int, help="pictures of each folder, at least 1; not given: all, for cells 6")
    parser.add_argument("--sigmas", type=int, nargs="+", default=[10, 25, 50], help="of the cells")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the pictures")
    parser.add_argument("--crops", type=int, default=3200, help="that the routers of pictures learn from")
    parser.add_argument("--tables", type=Path, default=Path("runs/adaptive"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpus"))
    parser.add_argument("--kept", action="store_true", help="pictures: from the tables and the seconds that are there")
    parser.add_argument("--out", type=Path, default=Path("docs/results/adaptive"))
    args = parser.parse_args()
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit is at least 1, got {args.limit}")
    tune_allocator()
    weights = load_weights(args.model)
    if weights.predictor is None or not isinstance(weights.network, HalfUNet):
        parser.error(f"{args.model} holds no gain predictor")
    kept = args.out.with_suffix(".json")
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    before = found.get("pictures") if args.kept else None
    if args.kept and before is None:
        parser.error(f"--kept takes the seconds of the pictures from {kept}, which has none")
    if "cells" in args.parts:
        limit = 6 if args.limit is None else args.limit
        pictures = [entry for name in ("cbsd68", "kodak24") for entry in pictures_in(args.test / name, limit)]
        told = cells_part(weights.network, weights.predictor, pictures, args.sigmas)
        found["cells"] = {"about": {**about(), "pictures": len(pictures)}, **told}
    if "pictures" in args.parts:
        found["pictures"] = Pictures(args, weights, before).run()
    for suffix, text in ((".json", json.dumps(found, indent=1) + "\n"), (".md", report(found))):
        with whole_file(args.out.with_suffix(suffix)) as temporary:
            temporary.write_text(text)
    print(report(found))


if __name__ == "__main__":
    main()
