"""The verdicts and tables of benchmarks/dds_net.py follow from the numbers."""

import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from grainwise.core.pictures import read_picture
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_weights
from grainwise.networks.registry import create_network
from grainwise.training.recipes import get_recipe

pytest.importorskip("matplotlib")

BEATS_RANDOM = "(b) slimming beats sub-networks, every layer random by itself, at equal MACs"
FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """The module of the report."""
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("dds_net_report", FOLDER / "dds_net_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(FOLDER))


def score(macs: float, psnr: float) -> dict[str, Any]:
    return {"macs": macs, "camera": {"psnr": psnr, "ssim": 0.9, "seconds": 1.0}, "real": {"psnr": 36.0}}


def routed(macs: float, psnr: float) -> dict[str, Any]:
    told = score(macs, psnr)
    return {"camera": {**told["camera"], "macs": macs, "gate_share": 0.01}, "real": told["real"]}


def subject(shift: float = 0.0) -> dict[str, Any]:
    """A routing space of 30 dB at 10K, one more for each doubling; IS, ID and none 0.2 dB apart at the smallest."""
    way = [score(10e3 * 2**i, 30.0 + i) for i in range(5)]
    ends = {
        arm: {"smallest": score(10e3, 30 - gap), "largest": score(160e3, 34 - gap / 2)}
        for arm, gap in (("IS", 0.0), ("ID", 0.2 - shift), ("none", 0.4))
    }
    drawn = [{"kind": kind, **score(20e3, 30.5)} for kind in ("iid", "global")]
    drawn += [{"kind": kind, **score(40e3, 32.1)} for kind in ("iid", "global")]
    for end in ends.values():
        end |= {"steps": 1500, "passes": 4, "seconds": 1800.0, "rate": 1e-3}
    spent = {"steps": 3000, "passes": 1, "seconds": 600.0, "rate": 3e-4}
    inets = {"20000.0": score(20e3, 30.4) | spent, "80000.0": score(80e3, 32.9) | spent}
    shared = {"20000.0": score(20e3, 30.1) | spent | {"steps": 400}}
    gates = {"gate": {"largest": 160e3, "20000.0": routed(20e3, 31.3), "80000.0": routed(75e3, 33.0)}}
    gates["gains in dB (ours)"] = {"largest": 160e3, "20000.0": routed(20e3, 31.2), "80000.0": routed(80e3, 33.1)}
    for one in way:
        one["camera"]["rows"] = [one["camera"]["psnr"] - 2, one["camera"]["psnr"] + 2]
    return {
        "distillation": ends,
        "slimming": {"way": way, "random": drawn, "routes": [], "ends": ends["IS"]},
        "inets": inets,
        "shared": shared,
        "gate": gates,
        "n": {"n=3": ends["ID"], "IS": ends["IS"], "n=5": ends["none"]},
        "beta": {"0.2": routed(80e3, 33.1)},
    }


def test_the_static_sub_network_of_a_cost_lies_on_the_way_as_it_is(made: ModuleType) -> None:
    way = [*subject()["slimming"]["way"], score(20e3 * 2**0.5, 20.0)]
    assert made.at_cost(way, 20e3) == pytest.approx(31)
    assert made.at_cost(way, 20e3 * 2**0.5) == pytest.approx(20)
    assert made.at_cost(subject()["slimming"]["way"], 20e3 * 2**0.5) == pytest.approx(31.5)
    assert made.at_cost(way, 1e9) == pytest.approx(34)
    ends = subject()["distillation"]["IS"]
    assert made.mixture(ends, 85e3) == pytest.approx(32)
    assert made.mixture(ends, 1.0) == pytest.approx(30)


def test_a_perfect_gate_sends_each_picture_where_it_does_best(made: ModuleType) -> None:
    rows = {10e3: [30.0, 30.0], 20e3: [30.1, 32.0], 40e3: [30.2, 32.1]}
    way = [{"macs": macs, "camera": {"psnr": np.mean(psnr), "rows": psnr}} for macs, psnr in rows.items()]
    assert made.oracle(way, 15e3) == pytest.approx(31.0)
    assert made.oracle(way, 10e3) == pytest.approx(30.0)
    assert made.oracle(way, 1e9) == pytest.approx(31.15)
    with pytest.raises(KeyError):
        made.oracle(way, 9e3)


def test_each_claim_is_judged(made: ModuleType) -> None:
    told = dict(made.verdicts({"0": subject(), "1": subject()}))
    short = {claim: verdict.split(" (")[0] for claim, verdict in told.items()}
    assert short == {
        "(a) smallest sub-network: IS >= ID": "holds",
        "(a) smallest sub-network: ID >= no distillation": "holds",
        "(a) smallest sub-network: IS >= no distillation": "holds",
        "(b) slimming beats sub-networks, every layer random by itself, at equal MACs": "holds",
        "(b) slimming beats sub-networks, random around one ratio, at equal MACs": "holds",
        "(c) the gate beats the static sub-network of equal mean MACs, 20K": "holds",
        "(c) the gate beats the static sub-network of equal mean MACs, 80K": "holds",
        "(c) beyond the paper: a gate that learns gains in dB beats the static sub-network, 20K": "holds",
        "(c) beyond the paper: a gate that learns gains in dB beats the static sub-network, 80K": "holds",
        "(d) the gate beats the I-Net at equal MACs, 20K": "holds",
        "(d) a static sub-network beats the I-Net at equal MACs, 20K": "holds",
        "(d) the gate beats the I-Net at equal MACs, 80K": "holds",
        "(d) a static sub-network beats the I-Net at equal MACs, 80K": "holds",
        "(d) a static sub-network beats the I-Net of a 16th of its training, 20K": "holds",
        "(d) most at the smallest budget (static sub-network)": "holds",
    }
    assert "+0.300" in told["(c) the gate beats the static sub-network of equal mean MACs, 20K"]
    assert "+0.600" in told["(d) a static sub-network beats the I-Net at equal MACs, 20K"]
    assert "+0.900" in told["(d) a static sub-network beats the I-Net of a 16th of its training, 20K"]
    assert "+0.900" in told["(d) the gate beats the I-Net at equal MACs, 20K"]
    assert "+0.200" in told["(b) slimming beats sub-networks, every layer random by itself, at equal MACs"]


def test_passes_are_the_sub_networks_of_a_step(made: ModuleType) -> None:
    passes_of = importlib.import_module("dds_net").passes_of
    for backbone in made.NAMES:
        assert passes_of(get_recipe(f"dds-{backbone}-small")) == 4
    assert passes_of(get_recipe("dds-vdnet-small", ["method.subnets=1"])) == 1


def test_the_small_recipes_reach_their_budgets(made: ModuleType) -> None:
    budgets = importlib.import_module("dds_net_budgets")
    for backbone in made.NAMES:
        recipe = get_recipe(f"dds-{backbone}-small")
        for budget in recipe.stages[2].budgets:
            ratio = budgets.ratio_for(recipe, budget)
            static = create_network(recipe.network, {**recipe.config, "ratios": [ratio, ratio], "attention": False})
            assert static.macs_per_pixel(static.space.widest) == pytest.approx(budget, rel=0.2)


def test_sixteen_static_networks_share_the_training_of_a_supernet(made: ModuleType) -> None:
    shared_steps = importlib.import_module("dds_net_budgets").shared_steps
    two = get_recipe("dds-danet-small", ["loop.steps=1000", "method.subnets=2"])
    small, large = 5594, 113616
    mean = (large - small) / math.log(large / small)
    assert shared_steps(two) == pytest.approx(1000 * (small + large) / (16 * mean), abs=1)
    assert shared_steps(two) < shared_steps(get_recipe("dds-danet-small", ["loop.steps=1000"])) < 600


def test_crops_of_any_seed_and_of_one_picture(made: ModuleType, tmp_path: Path) -> None:
    network = create_network("vdnet", {"base": 8, "ratios": [1, 2]})
    plan = MeasuredPlan(str(network.space.widest), 1)
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=(plan,))
    rng = np.random.default_rng(0)
    pairs = [(str(i), *rng.random((2, 16, 16, 3), dtype=np.float32)) for i in range(4)]
    assert not made.crops(tmp_path, "vdnet", pairs, tmp_path / "a.png", 16)
    save_weights(tmp_path / "vdnet" / "IS-3" / "supernet" / "weights.safetensors", network, card)
    for count, rows in ((1, 1), (2, 2), (4, 2)):
        assert made.crops(tmp_path, "vdnet", pairs[:count], tmp_path / "a.png", 16)
        assert read_picture(tmp_path / "a.png").pixels.shape == (16 * rows, 64, 3)


def test_what_was_not_measured_is_not_judged(made: ModuleType) -> None:
    only = {"distillation": subject()["distillation"]}
    bare = subject()
    bare["slimming"]["random"] = []
    assert dict(made.verdicts({"0": bare}))[BEATS_RANDOM] == "not measured"
    assert made.slimming_table({"0": bare})[2].endswith("| - | - |")
    told = dict(made.verdicts({"0": only, "1": {"distillation": subject(0.1)["distillation"]}}))
    assert told[BEATS_RANDOM] == "not measured"
    assert told["(a) smallest sub-network: IS >= ID"] == "undecided (+0.150 dB, seeds +0.200, +0.100)"
    alone = dict(made.verdicts({"0": only}))
    assert alone["(a) smallest sub-network: IS >= ID"].startswith("undecided, one seed for it (+0.200")


def test_the_scale_is_said(made: ModuleType) -> None:
    settings = {"steps": "2000", "inet_steps": "0", "limit": "24", "set": "[]"}
    network = {"config": {"base": 16}, "smallest": 5594.0, "largest": 113616.0}
    words = made.scale_words({"0": subject() | {"network": network}}, "danet", settings)
    assert words == (
        "Base width 16, reduced from the paper's 32: sub-networks of 5.6K to 113.6K MACs/px. "
        "Supernets of 2000 and I-Nets of 2000 steps; at most 24 pictures a set."
    )
    late = settings | {"inet_steps": "500", "set": "['method.synergy_from=9']"}
    words = made.scale_words({"0": subject()}, "vdnet", late)
    assert words.endswith("I-Nets of 500 steps; at most 24 pictures a set; changed: ['method.synergy_from=9'].")


def test_a_report_shows_the_backbones_of_several_folders(made: ModuleType, tmp_path: Path) -> None:
    settings = {"steps": "2000", "inet_steps": "0", "limit": "24", "set": "[]"}
    for folder, backbones in (("a", ("danet",)), ("b", ("danet", "mprnet"))):
        for backbone in backbones:
            place = tmp_path / folder / backbone
            place.mkdir(parents=True)
            (place / "results-0.json").write_text(json.dumps({"distillation": {"IS": subject()["distillation"]["IS"]}}))
        (tmp_path / folder / "settings.json").write_text(json.dumps(settings | {"steps": folder}))
    page = tmp_path / "page.md"
    noisy = {"camera": {"psnr": 28.0}}
    made.report([tmp_path / "a", tmp_path / "b"], noisy, [], "a command", page)
    text = page.read_text()
    assert (
        text.index("## DDS-DANet")
        < text.index("Supernets of a ")
        < text.index("## DDS-MPRNet")
        < text.index("Supernets of b ")
    )
    assert "| IS, smallest | 10.0 | 30.00 |" in text
    assert "ID, smallest" not in text


def test_a_report_goes_on_from_an_earlier_one(made: ModuleType, tmp_path: Path) -> None:
    settings = {"steps": "2000", "inet_steps": "0", "limit": "24", "set": "[]"}
    here = ["one core, commit a"]
    earlier = tmp_path / "earlier.json"
    old = {"0": {**subject(), "made": {"n": here}}, "1": {"n": subject()["n"], "slimming": {"way": "old"}}}
    earlier.write_text(
        json.dumps({"results": {"danet": old, "mprnet": old}, "settings": {"danet": settings, "mprnet": {}}})
    )
    place = tmp_path / "new" / "danet"
    place.mkdir(parents=True)
    (place / "results-1.json").write_text(json.dumps({"slimming": {"way": "new"}, "made": {"slimming": here}}))
    (tmp_path / "new" / "settings.json").write_text(json.dumps(settings))
    held = made.gathered([tmp_path / "new", earlier], "danet")
    assert sorted(held.results) == ["0", "1"]
    assert held.results["1"]["slimming"] == {"way": "new"}
    assert held.results["1"]["n"] == subject()["n"]
    assert held.out == tmp_path / "new"
    assert made.made_lines(held.results) == ["Trained on one core, commit a: n 0, slimming 1 (part, seed)."]
    assert made.gathered([tmp_path / "new", earlier], "mprnet").out is None
    assert made.gathered([tmp_path / "new"], "mprnet") is None
    (tmp_path / "new" / "settings.json").write_text(json.dumps(settings | {"steps": "1"}))
    assert sorted(made.gathered([tmp_path / "new", earlier], "danet").results) == ["1"]


def test_the_tables_show_the_numbers(made: ModuleType) -> None:
    results = {"0": subject(), "1": subject()}
    main = made.main_table(results, "vdnet")
    assert "| 20K, I-Net, static | 20.0 | 30.40 | 0.9000 | 36.00 | - |" in main
    assert "| 20K, sub-network of the supernet | 20.0 | 31.00 | - | - | - |" in main
    assert "| 20K, DDS-Net, gate | 20.0 | 31.30 | 0.9000 | 36.00 | 39.01 at 19.4K |" in main
    assert [made.paper_gate("vdnet", budget) for budget in (99e3, 80e3, 2e6)] == ["39.24 at 113.0K", "-", "-"]
    assert made.paper_gate("mprnet", 500e3) == made.paper_gate("danet", 22e3) == "-"
    training = made.training_table(results)
    assert "| supernet, ID | 1,500 | 6,000 | 30.0 | 0.001 |" in training
    assert "| I-Net, 20K | 3,000 | 3,000 | 10.0 | 0.0003 |" in training
    assert "| I-Net, 20K, a 16th of a supernet's training | 400 | 400 | 10.0 | 0.0003 |" in training
    ends = made.ends_table(results, "vdnet", "distillation", made.ARMS)
    assert "| ID, smallest | 10.0 | 29.80 | 0.9000 | 36.00 | 38.73 |" in ends
    assert made.slimming_table(results)[-2].endswith("| +0.200 | 50 |")
    del results["0"]["gate"]["gains in dB (ours)"]
    gates = made.gate_table(results)
    assert gates[2].startswith("| 20K, gate | 20.0 | 31.30 | +0.300 |")
    assert gates[3].startswith("| 20K, gains in dB (ours) | 20.0 | 31.20 | +0.200 |")
    assert made.beta_table(results)[2].startswith("| 0.2 | 80.0 | 33.100 | +0.100 |")
    sub = made.ends_table(results, "vdnet", "n", ("n=3", "n=4", "n=5"))
    assert "| n=4, largest | 160.0 | 34.00 | 0.9000 | 36.00 | 39.34 |" in sub
