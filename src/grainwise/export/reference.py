"""What a file must compute: its network in torch, told as the file is told."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from grainwise.core.errors import ExportError
from grainwise.core.resampling import matlab_resize
from grainwise.export.graph import Told
from grainwise.networks.checkpoint import Weights
from grainwise.networks.tasks import DENOISE, UPSCALE
from grainwise.runtime.budget import Choice

Array = npt.NDArray[Any]
Runner = Callable[[Mapping[str, Array]], Array]
"""Inputs by name -> the output."""


def check_half(weights: Weights, choice: Choice) -> None:
    """Refuse to store weights as float16 that are no such numbers.

    Raises:
        ExportError: they are not.
    """
    network = weights.network.extract(choice.plan).float()
    if not all(torch.equal(value, value.half().float()) for value in network.parameters()):
        raise ExportError(
            f"the weights of {weights.name} are no 16-bit numbers, and rounding them would change the pictures; store 32 bits"
        )


def reference(weights: Weights, choice: Choice, told: Told) -> Runner:
    """The plain torch network of ``choice`` in float32, called with the inputs of a file.

    Args:
        weights: network and card.
        choice: the plan.
        told: see `grainwise.export.graph.onnx_graph`.
    """
    network, facts, plan = weights.network, weights.network.facts, choice.plan
    if facts.task == DENOISE:
        plain = network.extract(plan).float()

        def denoised(inputs: Mapping[str, Array]) -> Array:
            x = torch.from_numpy(inputs["input"])
            built_in = torch.full((x.shape[0],), told) if isinstance(told, float) else torch.zeros(x.shape[0])
            sigma = torch.from_numpy(inputs["sigma"]) if "sigma" in inputs else built_in
            with torch.inference_mode():
                y: Array = plain(x, **facts.given(sigma)).numpy()
            return y

        return denoised

    def restored(inputs: Mapping[str, Array]) -> Array:
        value = told if isinstance(told, float) else float(inputs["level"][0])
        x = inputs["input"]
        if facts.task == UPSCALE:
            x = enlarged(x, value)
        with torch.inference_mode():
            y: Array = network.extract(plan, facts.level(value)).float()(torch.from_numpy(x)).numpy()
        return y

    return restored


def enlarged(x: Array, scale: float) -> Array:
    """[B, C, H, W] enlarged as a picture of integers is before its network sees it: clipped to [0, 1]."""
    pictures = [matlab_resize(picture.transpose(1, 2, 0), scale).clip(0, 1).transpose(2, 0, 1) for picture in x]
    out: Array = np.ascontiguousarray(np.stack(pictures))
    return out
