"""The paper's claims, judged by the numbers of the runs of benchmarks/dds_net.py."""

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
from resumable_runs import CLEAR, judge

OURS = "gains in dB (ours)"
"""The title of the gate that the paper does not have."""

Results = dict[str, dict[str, Any]]
"""By seed: what `Bench.results` says."""


def over_seeds(results: Results, read: Callable[[dict[str, Any]], float]) -> list[float]:
    """One number of every seed that has it."""
    found = []
    for told in results.values():
        try:
            found.append(read(told))
        except KeyError:
            continue
    return found


def at_cost(way: list[dict[str, Any]], macs: float) -> float:
    """PSNR of the routing space at a cost: linear in the logarithm between the sub-networks next to it.

    All of them count, whatever they score: to leave some out would be to choose by the test pictures.
    """
    points = sorted((math.log(one["macs"]), one["camera"]["psnr"]) for one in way)
    return float(np.interp(math.log(macs), *zip(*points, strict=True)))


def mixture(ends: dict[str, Any], macs: float) -> float:
    """PSNR of sending pictures to the smallest or the largest sub-network blindly, at a mean cost."""
    small, large = ends["smallest"], ends["largest"]
    share = min(1.0, max(0.0, (macs - small["macs"]) / (large["macs"] - small["macs"])))
    return float((1 - share) * small["camera"]["psnr"] + share * large["camera"]["psnr"])


def oracle(way: list[dict[str, Any]], macs: float) -> float:
    """PSNR of sending every picture where it does best, its errors known, at a mean cost of at most ``macs``.

    What a perfect gate over these sub-networks would reach: the best of the allocations that a price on multiply-adds makes.

    Raises:
        KeyError: the cheapest sub-network costs more.
    """
    costs = np.array([one["macs"] for one in way])
    psnr = np.array([one["camera"]["rows"] for one in way])
    pictures = np.arange(psnr.shape[1])
    best = -math.inf
    for price in (0.0, *np.geomspace(1e-4, 1e4, 2000) / costs.max()):
        routes = (psnr - price * costs[:, None]).argmax(0)
        if costs[routes].mean() <= macs:
            best = max(best, float(psnr[routes, pictures].mean()))
    if best == -math.inf:
        raise KeyError(macs)
    return best


def random_gain(told: dict[str, Any], kind: str) -> tuple[float, float]:
    """By how much the way beats random sub-networks of a kind at their own cost: mean dB, and the share that it beats.

    Raises:
        KeyError: none of that kind was drawn.
    """
    way, drawn = told["slimming"]["way"], [one for one in told["slimming"]["random"] if one["kind"] == kind]
    if not drawn:
        raise KeyError(kind)
    gains = [at_cost(way, one["macs"]) - one["camera"]["psnr"] for one in drawn]
    return statistics.fmean(gains), sum(gain > 0 for gain in gains) / len(gains)


def budgets_of(results: Results, part: str) -> list[str]:
    """The budgets of a part, ascending."""
    for told in results.values():
        if part in told:
            held = told[part]["gate"] if part == "gate" else told[part]
            return sorted((key for key in held if key != "largest"), key=float)
    return []


def gate_gain(told: dict[str, Any], title: str, budget: str) -> float:
    """A gate against the static sub-network of its mean cost."""
    one = told["gate"][title][budget]["camera"]
    return float(one["psnr"] - at_cost(told["slimming"]["way"], one["macs"]))


def inet_gain(told: dict[str, Any], budget: str, part: str = "inets") -> float:
    """The supernet's static sub-network against the I-Net of its cost."""
    one = told[part][budget]
    return float(at_cost(told["slimming"]["way"], one["macs"]) - one["camera"]["psnr"])


def dynamic_gain(told: dict[str, Any], budget: str) -> float:
    """The gate against the I-Net, less what the difference of their costs is worth on the routing space."""
    way, gate, one = told["slimming"]["way"], told["gate"]["gate"][budget]["camera"], told["inets"][budget]
    worth = at_cost(way, gate["macs"]) - at_cost(way, one["macs"])
    return float(gate["psnr"] - one["camera"]["psnr"] - worth)


def verdicts(results: Results) -> list[tuple[str, str]]:
    """(claim, verdict)."""
    told: list[tuple[str, str]] = []

    def small(one: dict[str, Any], arm: str) -> float:
        return float(one["distillation"][arm]["smallest"]["camera"]["psnr"])

    def gain(label: str, read: Callable[[dict[str, Any]], float], least: float = CLEAR) -> None:
        told.append((label, judge(over_seeds(results, read), least=least)))

    gain("(a) smallest sub-network: IS >= ID", lambda one: small(one, "IS") - small(one, "ID"), 0.0)
    gain("(a) smallest sub-network: ID >= no distillation", lambda one: small(one, "ID") - small(one, "none"), 0.0)
    gain("(a) smallest sub-network: IS >= no distillation", lambda one: small(one, "IS") - small(one, "none"), 0.0)
    for kind, words in (("iid", "every layer random by itself"), ("global", "random around one ratio")):
        gain(f"(b) slimming beats sub-networks, {words}, at equal MACs", lambda one, k=kind: random_gain(one, k)[0])
    for budget in budgets_of(results, "gate"):
        name = f"{float(budget) / 1e3:g}K"
        gain(
            f"(c) the gate beats the static sub-network of equal mean MACs, {name}",
            lambda one, b=budget: gate_gain(one, "gate", b),
        )
        gain(
            f"(c) beyond the paper: a gate that learns gains in dB beats the static sub-network, {name}",
            lambda one, b=budget: gate_gain(one, OURS, b),
        )
    inets = budgets_of(results, "inets")
    for budget in inets:
        name = f"{float(budget) / 1e3:g}K"
        gain(f"(d) the gate beats the I-Net at equal MACs, {name}", lambda one, b=budget: dynamic_gain(one, b))
        gain(f"(d) a static sub-network beats the I-Net at equal MACs, {name}", lambda one, b=budget: inet_gain(one, b))
    for budget in budgets_of(results, "shared"):
        gain(
            f"(d) a static sub-network beats the I-Net of a 16th of its training, {float(budget) / 1e3:g}K",
            lambda one, b=budget: inet_gain(one, b, "shared"),
        )
    if len(inets) > 1:
        first, *others = inets
        gain(
            "(d) most at the smallest budget (static sub-network)",
            lambda one: inet_gain(one, first) - max(inet_gain(one, other) for other in others),
        )
    return told
