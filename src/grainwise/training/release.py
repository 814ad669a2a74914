"""From a finished run to a weights file: which plans it recommends, what they score, and its card."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from grainwise.core.errors import TrainingError
from grainwise.data.crops import Batches
from grainwise.networks.checkpoint import Card, MeasuredPlan, load_weights, save_weights
from grainwise.networks.gain_predictor import GainPredictor
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan
from grainwise.training.distillation import TeachingSettings
from grainwise.training.held_out import HeldOut
from grainwise.training.loop import Result
from grainwise.training.routing import families_of, fit
from grainwise.training.samplers import plans_within

if TYPE_CHECKING:
    from grainwise.training.recipe import Recipe

FREE = "CC BY-SA 4.0"
"""The licence of weights that free pictures alone have taught."""

MOST_MEASURED = 256
"""Plans whose PSNR is measured, beside the named ones."""

LEAST_GAIN = 0.005
"""A plan is recommended if it beats every cheaper one by this many dB."""

LICENCES = {
    "cid22": "CC BY-SA 4.0, CID22 (Cloudinary)",
    "clic2025-half": "Unsplash licence",
    "popos-unsplash-quarter": "Unsplash licence / public domain",
    "gb82": "CC0",
    "cbsd432": "BSDS500, research only",
}
FREE_FOLDERS = ("train-free", *list(LICENCES)[:4])


def recommended_plans(network: Network, held_out: HeldOut, most: int = MOST_MEASURED) -> tuple[MeasuredPlan, ...]:
    """Plans that beat all cheaper ones on the held-out crops, cheapest first; the named ones always.

    Args:
        network: whose plans they are.
        held_out: the crops.
        most: of the plans near a uniform one so many are measured, spread over their costs.
    """
    space = network.space
    dims = space.dims
    near = sorted(plans_within(network), key=lambda plan: (network.macs_per_pixel(plan), plan))
    middle = space.plan({dim.name: dim.widths[(len(dim.widths) - 1) // 2] for dim in dims})
    between = [plan for plan in near if plan not in (space.narrowest, space.widest)]
    if middle == space.narrowest and between:  # two widths a dim have no middle one
        middle = between[len(between) // 2]
    names = {middle: "balanced", space.narrowest: "fast", space.widest: "best"}
    plans = {*names, *near[:: -(-len(near) // most)]}
    kept: list[MeasuredPlan] = []
    best = float("-inf")
    for plan in sorted(plans, key=network.macs_per_pixel):
        psnr = held_out.psnr(network, plan)
        if plan in names or psnr > best + LEAST_GAIN:
            cost = round(network.macs_per_pixel(plan))
            kept.append(MeasuredPlan(str(plan), cost, {held_out.label: round(psnr, 3)}, names.get(plan, "")))
        best = max(best, psnr)
    return tuple(kept)


def release(
    recipe: "Recipe",
    network: Network,
    result: Result,
    batches: Batches,
    held_out: HeldOut,
    path: Path,
    *,
    command: str,
    commit: str,
    device: torch.device,
    most: int = MOST_MEASURED,
) -> Card:
    """Load the averaged weights into ``network``, measure its plans, fit its predictor, and write the weights file.

    Args:
        recipe: of the run.
        network: what was trained.
        result: of the loop.
        batches: what the run learned from; the predictor is fitted to it.
        held_out: scores the plans.
        path: of the weights file.
        command: the command line that made the run.
        commit: the commit that the run was started from.
        device: on which it ran.
        most: see `recommended_plans`.
    """
    network.load_state_dict(result.weights)
    network.eval().cpu()
    licence, data = rights(recipe)
    card = Card(
        licence=licence,
        data=data,
        recipe=command,
        commit=commit,
        steps=result.steps,
        seconds=round(result.seconds, 1),
        device=torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{_cpu_name()}, {torch.get_num_threads()} threads",
        plans=recommended_plans(network, held_out, most),
    )
    predictor = None
    if recipe.predictor_crops:
        plans = [network.space.parse(measured.plan) for measured in card.plans]
        predictor = fit_predictor(network, plans, batches, crops=recipe.predictor_crops)
    save_weights(path, network, card, predictor)
    return card


def rights(recipe: "Recipe") -> tuple[str, tuple[str, ...]]:
    """The licence of what a recipe trains, and what taught it: pictures, teachers, and the weights that it starts from.

    It is `FREE` where every folder of pictures is free, and every teacher and the first weights have that licence.
    """
    owed = recipe.method.sources() if isinstance(recipe.method, TeachingSettings) else {}
    if recipe.init:
        before = load_weights(recipe.init).card
        owed[f"first weights {Path(recipe.init).name}, taught with {'; '.join(before.data)}"] = before.licence
    free = all(Path(folder).name in FREE_FOLDERS for folder in recipe.data) and set(owed.values()) <= {FREE}
    licence = FREE if free else "as the pictures, the teachers and the first weights allow; see data"
    return licence, (*describe_data(recipe.data), *owed)


def fit_predictor(network: Network, plans: Sequence[ChannelPlan], batches: Batches, *, crops: int) -> GainPredictor:
    """The predictor of a network whose finest level can be routed.

    Raises:
        TrainingError: another network.
    """
    if not isinstance(network, HalfUNet):
        raise TrainingError("a gain predictor is fitted to half_unet alone; set predictor_crops=0")
    return fit(network, families_of(network, plans), batches, crops=crops)


def describe_data(folders: Sequence[str]) -> tuple[str, ...]:
    """Each known set below the folders, with its licence; unknown folders as they are."""
    described = []
    for folder in folders:
        if Path(folder).name == "train-free":
            described += [f"{name} ({LICENCES[name]})" for name in list(LICENCES)[:4]]
        else:
            name = Path(folder).name
            described.append(f"{name} ({LICENCES.get(name, 'licence not known')})")
    return tuple(described)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
