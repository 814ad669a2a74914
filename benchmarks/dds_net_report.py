"""The report of benchmarks/dds_net.py: tables, verdicts and pictures from the numbers of its runs."""

import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dds_net_claims import Results, at_cost, budgets_of, mixture, oracle, over_seeds, random_gain, verdicts
from dds_net_plots import crops, plot_beta, plot_costs, plot_seconds
from resumable_runs import CLEAR, RULE

from grainwise.core.commit import current_commit
from grainwise.core.files import whole_file
from grainwise.evaluation.environment import environment

PAPER_ENDS = {
    "vdnet": {"IS": (38.88, 39.34), "ID": (38.73, 39.28), "none": (38.65, 39.27), "n=5": (39.89, 39.32)},
    "danet": {"IS": (39.02, 39.56), "ID": (38.84, 39.51), "none": (38.77, 39.49)},
    "mprnet": {"IS": (39.25, 39.82), "ID": (39.16, 39.75), "none": (39.11, 39.74)},
}
"""Smallest and largest sub-network on SIDD, dB (tables III and VI); 39.89 as printed, where 38.89 must be meant."""
PAPER_GATES = {
    "vdnet": ((19.4e3, 39.01), (113e3, 39.24), (213e3, 39.32)),
    "danet": ((22.4e3, 39.11), (101e3, 39.46), (207e3, 39.54)),
    "mprnet": ((485e3, 39.29), (0.94e6, 39.43), (5.11e6, 39.79)),
}
"""Table I, DDS-Nets on SIDD: MACs/px and dB. Only VDNet's small recipe has the base width of the paper."""
NEAREST = 1.25
PAPER_BASE = {"vdnet": 32, "danet": 32, "mprnet": 80}
"""Base widths of the supernets; the paper's tables allow these (docs/methods/dds-net.md)."""
NAMES = {"vdnet": "VDNet", "danet": "DANet", "mprnet": "MPRNet"}
ARMS = ("IS", "ID", "none")
MADE = "made"
"""Beside the parts of a seed: where the networks of each were trained, by their cards."""


def mean_of(results: Results, read: Callable[[dict[str, Any]], float], form: str = ".2f") -> str:
    """The mean over the seeds, or a dash."""
    values = over_seeds(results, read)
    return format(statistics.fmean(values), form) if values else "-"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def ends_table(results: Results, backbone: str, part: str, arms: tuple[str, ...]) -> list[str]:
    """Tables III and VI: smallest and largest sub-network of each arm."""
    rows = []
    for arm in arms:
        paper = PAPER_ENDS[backbone].get("IS" if arm == "n=4" else arm)
        key = "IS" if arm == "n=4" else arm
        for index, end in enumerate(("smallest", "largest")):
            row = [f"{arm}, {end}", mean_of(results, lambda one, e=end, k=key: one[part][k][e]["macs"] / 1e3, ".1f")]
            row += [
                mean_of(results, lambda one, e=end, k=key: one[part][k][e]["camera"]["psnr"]),
                mean_of(results, lambda one, e=end, k=key: one[part][k][e]["camera"]["ssim"], ".4f"),
                mean_of(results, lambda one, e=end, k=key: one[part][k][e]["real"]["psnr"]),
                "-" if paper is None else f"{paper[index]:.2f}",
            ]
            rows.append(row)
    rows = [row for row in rows if row[1] != "-"]
    head = ["trained, sub-network", "K MACs/px", "camera, dB", "SSIM", "PolyU-Canon, dB", "paper, SIDD, dB"]
    return table(head, rows)


def score_cells(results: Results, read: Callable[[dict[str, Any]], dict[str, Any]]) -> list[str]:
    """PSNR and SSIM on camera noise, PSNR on the real pairs."""
    return [
        mean_of(results, lambda one: read(one)["camera"]["psnr"]),
        mean_of(results, lambda one: read(one)["camera"]["ssim"], ".4f"),
        mean_of(results, lambda one: read(one)["real"]["psnr"]),
    ]


def paper_gate(backbone: str, budget: float) -> str:
    """The paper's gate whose cost is nearest to ``budget``, or a dash where that is further than `NEAREST` times off."""
    macs, psnr = min(PAPER_GATES[backbone], key=lambda one: abs(math.log(one[0] / budget)))
    near = 1 / NEAREST <= macs / budget <= NEAREST
    return f"{psnr:.2f} at {macs / 1e3:.1f}K" if near and backbone == "vdnet" else "-"


def main_table(results: Results, backbone: str) -> list[str]:
    """Table I: for each budget the I-Net, the static sub-network of its cost, and the gate."""
    rows = []
    for budget in budgets_of(results, "inets") or budgets_of(results, "gate"):
        name = f"{float(budget) / 1e3:g}K"

        def inet(one: dict[str, Any], b: str = budget) -> dict[str, Any]:
            held: dict[str, Any] = one["inets"][b]
            return held

        def gate(one: dict[str, Any], b: str = budget) -> dict[str, Any]:
            held: dict[str, Any] = one["gate"]["gate"][b]
            return held

        def static(one: dict[str, Any], of: Callable[[dict[str, Any]], dict[str, Any]] = inet) -> float:
            return at_cost(one["slimming"]["way"], of(one)["macs"])

        cost = mean_of(results, lambda one, of=inet: of(one)["macs"] / 1e3, ".1f")
        spent = mean_of(results, lambda one, of=gate: of(one)["camera"]["macs"] / 1e3, ".1f")
        rows += [
            [f"{name}, I-Net, static", cost, *score_cells(results, inet), "-"],
            [f"{name}, sub-network of the supernet", cost, mean_of(results, static), "-", "-", "-"],
            [f"{name}, DDS-Net, gate", spent, *score_cells(results, gate), paper_gate(backbone, float(budget))],
        ]
    head = ["budget, network", "K MACs/px", "camera, dB", "SSIM", "PolyU-Canon, dB", "paper, SIDD, dB"]
    return table(head, [row for row in rows if set(row[1:5]) != {"-"}])


def training_table(results: Results) -> list[str]:
    """What each training took; a pass is one sub-network on one batch."""
    trained: dict[str, tuple[str, str]] = {}
    for told in results.values():
        for part in ("distillation", "n", "inets", "shared"):
            for key in told.get(part, {}):
                words = {"inets": "I-Net, {:g}K", "shared": "I-Net, {:g}K, a 16th of a supernet's training"}.get(part)
                name = words.format(float(key) / 1e3) if words else f"supernet, {key}"
                trained.setdefault(name, (part, key))
    rows = []
    for name, (part, key) in trained.items():

        def read(one: dict[str, Any], p: str = part, k: str = key) -> dict[str, Any]:
            held: dict[str, Any] = one[p][k]
            return held

        rows.append([name, mean_of(results, lambda one, of=read: of(one)["steps"], ",.0f"),
                     mean_of(results, lambda one, of=read: of(one)["steps"] * of(one)["passes"], ",.0f"),
                     mean_of(results, lambda one, of=read: of(one)["seconds"] / 60, ".1f"),
                     mean_of(results, lambda one, of=read: of(one)["rate"], ".2g")])  # fmt: skip
    return table(["trained", "steps", "passes", "minutes", "learning rate"], rows)


def slimming_table(results: Results) -> list[str]:
    """Table IV: the routing space against random sub-networks, each at its own cost, and how many it beats."""
    rows = []
    for kind, words in (("iid", "every layer by itself (the paper)"), ("global", "around one ratio")):
        gain = mean_of(results, lambda one, k=kind: random_gain(one, k)[0], "+.3f")
        share = mean_of(results, lambda one, k=kind: 100 * random_gain(one, k)[1], ".0f")
        rows.append([words, gain, share])
    return table(["random sub-networks", "slimming less random at equal MACs, dB", "slimming is better, %"], rows)


def gate_cells(results: Results, read: Callable[[dict[str, Any]], dict[str, Any]], form: str = ".2f") -> list[str]:
    """Cost, PSNR, and PSNR less that of the static sub-network and of a blind mixture of the same cost."""

    def over_static(one: dict[str, Any]) -> float:
        return float(read(one)["psnr"]) - at_cost(one["slimming"]["way"], read(one)["macs"])

    def over_mixture(one: dict[str, Any]) -> float:
        return float(read(one)["psnr"]) - mixture(one["slimming"]["ends"], read(one)["macs"])

    def perfect(one: dict[str, Any]) -> float:
        way, macs = one["slimming"]["way"], read(one)["macs"]
        return oracle(way, macs) - at_cost(way, macs)

    return [
        mean_of(results, lambda one: read(one)["macs"] / 1e3, ".1f"),
        mean_of(results, lambda one: read(one)["psnr"], form),
        mean_of(results, over_static, "+.3f"),
        mean_of(results, over_mixture, "+.3f"),
        mean_of(results, perfect, "+.3f"),
    ]


GATE_HEAD = [
    "K MACs/px",
    "camera, dB",
    "less the static sub-network, dB",
    "less a blind mixture, dB",
    "a perfect gate less the static one, dB",
]


def gate_table(results: Results) -> list[str]:
    """Table V: each gate against the static sub-network and the blind mixture of its cost."""
    rows = []
    titles = list(dict.fromkeys(title for told in results.values() for title in told.get("gate", {})))
    for budget in budgets_of(results, "gate"):
        for title in titles:

            def read(one: dict[str, Any], t: str = title, b: str = budget) -> dict[str, Any]:
                held: dict[str, Any] = one["gate"][t][b]["camera"]
                return held

            share = mean_of(results, lambda one, of=read: 100 * of(one)["gate_share"], ".1f")
            rows.append([f"{float(budget) / 1e3:g}K, {title}", *gate_cells(results, read), share])
    return table(["budget, gate", *GATE_HEAD, "gate's time, %"], rows)


def beta_table(results: Results) -> list[str]:
    """Fig. 8 in numbers."""
    rows = []
    for beta in sorted({beta for told in results.values() for beta in told.get("beta", {})}, key=float):

        def read(one: dict[str, Any], b: str = beta) -> dict[str, Any]:
            held: dict[str, Any] = one["beta"][b]["camera"]
            return held

        rows.append([beta, *gate_cells(results, read, ".3f")])
    return table(["beta, dB", *GATE_HEAD], rows)


def speed_table(every: dict[str, Results]) -> list[str]:
    """Smallest against largest, extracted, and the gate."""
    rows = []
    for backbone, results in every.items():
        for speed in (told["speed"] for told in results.values() if "speed" in told):
            small, large, gate = speed["smallest"], speed["largest"], speed["gate"]
            faster, cheaper = large["seconds"] / small["seconds"], large["macs"] / small["macs"]
            middle = (small["seconds"] + large["seconds"]) / 2
            added = 100 * gate["macs"] / ((small["macs"] + large["macs"]) / 2)
            cells = [f"{small['seconds']:.3f}", f"{large['seconds']:.3f}", f"{faster:.1f}", f"{cheaper:.1f}"]
            cells += [f"{faster / cheaper:.2f}", f"{100 * gate['seconds'] / middle:.2f}", f"{added:.2f}"]
            rows.append([f"{NAMES[backbone]}, {speed['cpu']}, {speed['threads']} thread(s)", *cells])
    head = ["512x512, extracted", "smallest, s", "largest, s", "faster", "fewer MACs", "faster / fewer MACs"]
    return table([*head, "gate, % of mean time", "gate, % of mean MACs"], rows) if rows else []


@dataclass
class Held:
    """The results of a backbone, the settings of its runs, and the folder that holds their weights, if any does."""

    results: Results
    settings: dict[str, str]
    out: Path | None


def held_in(source: Path, backbone: str) -> Held | None:
    """What a folder of runs, or the JSON of an earlier report, holds of a backbone."""
    if source.is_file():
        told = json.loads(source.read_text())
        results = told["results"].get(backbone)
        return Held(results, told["settings"][backbone], None) if results else None
    found = {
        file.stem.removeprefix("results-"): json.loads(file.read_text())
        for file in sorted((source / backbone).glob("results-*.json"))
    }
    return Held(found, json.loads((source / "settings.json").read_text()), source) if found else None


def gathered(sources: list[Path], backbone: str) -> Held | None:
    """What the first source that has it holds of a backbone, and what later ones with the same settings add to that.

    They add seeds, and to a seed the parts that it lacks.
    """
    first, *others = [held for source in sources if (held := held_in(source, backbone))] or [None]
    for other in others:
        if first is None or other is None or other.settings != first.settings:
            continue
        for seed, told in other.results.items():
            mine = first.results.get(seed, {})
            made = {**told.get(MADE, {}), **mine.get(MADE, {})}
            first.results[seed] = {**told, **mine, **({MADE: made} if made else {})}
        first.out = first.out or other.out
    if first is not None:
        first.results = dict(sorted(first.results.items(), key=lambda item: int(item[0])))
    return first


def made_lines(results: Results) -> list[str]:
    """Where the networks of each part were trained."""
    places: dict[str, list[str]] = {}
    for seed, told in results.items():
        for part, made in told.get(MADE, {}).items():
            for words in made if part in told else []:
                places.setdefault(words, []).append(f"{part} {seed}")
    return [f"Trained on {words}: {', '.join(parts)} (part, seed)." for words, parts in places.items()]


def report(folders: list[Path], noisy: dict[str, Any], pairs: list[Any], command: str, path: Path) -> None:
    """Write ``path`` (Markdown), its numbers as JSON and its pictures; see `gathered` for which results."""
    here = environment(commit=current_commit())
    every: dict[str, Results] = {}
    settings: dict[str, dict[str, str]] = {}
    lines: list[str] = []
    for backbone in NAMES:
        held = gathered(folders, backbone)
        if held is not None:
            every[backbone], settings[backbone] = held.results, held.settings
            lines += backbone_part(held, backbone, pairs, path)
    untouched = ", ".join(f"{name} {one['psnr']:.2f} dB" for name, one in noisy.items())
    head = ["# DDS-Net at our scale", ""]
    head += [
        "Small crops on one CPU core, where the paper has 250,000 to 700,000 steps of 128x128 on SIDD. A supernet and an I-Net "
        "are compared at the steps that each backbone's part names, not at equal passes or time: a step of a supernet runs n "
        'sub-networks, that of an I-Net one. I-Nets "of a 16th" have the steps at which 16 of them, their costs spread evenly '
        "by logarithm over the supernet's range, take the multiply-adds of its training. An I-Net is the best of --inet-rates "
        "on the test pictures, a choice that favours it. Clean pictures photographed by a "
        "random camera (`grainwise.data.camera`) stand in for SIDD. So the orders below are to be compared with the paper's, "
        "never the decibels. Test pictures: the middle 256x256 of each, camera noise, blind; and the PolyU-Canon pairs, which "
        "nothing trained on; but the defaults of the camera were chosen by tables over real pairs, these among them "
        "(docs/results/camera-noise.md). PSNR and SSIM in "
        "protocol `rgb-u8`, mean over pictures, then over seeds.",
        "",
        f"`{command}`",
        "",
        f"Torch {here.torch}, page made at commit {here.commit}, {here.date}. Untouched pictures: {untouched}.",
        "",
        f'{RULE} A claim of ">=" holds where the mean is at least 0 and its interval above -{CLEAR} dB.',
        "",
    ]
    speeds = speed_table(every)
    if speeds:
        lines += ["## Wall-clock", "", *speeds]
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(head + lines).rstrip() + "\n")
    with whole_file(path.with_suffix(".json")) as temporary:
        held = {"environment": here.to_json(), "settings": settings, "noisy": noisy, "results": every}
        temporary.write_text(json.dumps(held, indent=1))


def scale_words(results: Results, backbone: str, settings: dict[str, str]) -> str:
    """Which network it is, beside the paper's, and for how long it learned."""
    inets = settings["steps"] if settings["inet_steps"] == "0" else settings["inet_steps"]
    words = f"Supernets of {settings['steps']} and I-Nets of {inets} steps; at most {settings['limit']} pictures a set"
    words += "." if settings["set"] == "[]" else f"; changed: {settings['set']}."
    for told in list(results.values())[:1]:
        if "network" in told:
            base, paper = told["network"]["config"]["base"], PAPER_BASE[backbone]
            low, high = (f"{told['network'][end] / 1e3:.1f}K" for end in ("smallest", "largest"))
            reduced = "" if base == paper else f", reduced from the paper's {paper}"
            words = f"Base width {base}{reduced}: sub-networks of {low} to {high} MACs/px. {words}"
    return words


def backbone_part(held: Held, backbone: str, pairs: list[Any], path: Path) -> list[str]:
    """The tables and verdicts of one backbone."""
    results = held.results
    lines = [f"## DDS-{NAMES[backbone]}, {len(results)} seed(s)", "", scale_words(results, backbone, held.settings), ""]
    lines += [*made_lines(results), ""]
    lines += ["| claim | verdict |", "|---|---|"]
    lines += [f"| {claim} | {verdict} |" for claim, verdict in verdicts(results) if verdict != "not measured"] + [""]
    has = {part for told in results.values() for part in told}
    if has & {"inets", "gate"} and "slimming" in has:
        lines += ["### Budgets (Table I)", "", *main_table(results, backbone)]
    if has & {"distillation", "n", "inets", "shared"}:
        lines += ["### Training", "", *training_table(results)]
    if "distillation" in has:
        lines += ["### Distillation (Table III)", "", *ends_table(results, backbone, "distillation", ARMS)]
    if "slimming" in has:
        lines += ["### Progressive slimming (Table IV)", "", *slimming_table(results)]
        for kind, plot in (("macs", plot_costs), ("seconds", plot_seconds)):
            picture = path.with_name(f"{path.stem}-{backbone}-{kind}.svg")
            plot(results, NAMES[backbone], picture)
            lines += [f"![PSNR against {kind}]({picture.name})", ""]
    if "gate" in has:
        lines += ["### The gate and its losses (Table V)", "", *gate_table(results)]
    if "n" in has:
        lines += ["### Sub-networks a step (Table VI)", "", *ends_table(results, backbone, "n", ("n=3", "n=4", "n=5"))]
    if "beta" in has:
        picture = path.with_name(f"{path.stem}-{backbone}-beta.svg")
        plot_beta(results, picture)
        lines += ["### The threshold (Fig. 8)", "", *beta_table(results), f"![PSNR against beta]({picture.name})", ""]
    shown = path.with_name(f"{path.stem}-{backbone}-crops.png")
    if (held.out is not None and crops(held.out, backbone, pairs, shown)) or shown.is_file():
        lines += ["Noisy, smallest sub-network, largest sub-network, clean:", "", f"![crops]({shown.name})", ""]
    return lines
