"""A network on a device: what restorers share, whether they cut pictures into tiles or see them whole."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from grainwise.networks.checkpoint import GatedWeights, Weights
from grainwise.networks.network import Network
from grainwise.primitives.channels import ChannelPlan
from grainwise.runtime import agreement, machine, memory
from grainwise.runtime.cost import CostModel

MOST_MERGED = 8
"""Networks with the kernels of one level that are kept for the next call."""

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class Placed(ABC):
    """A network on a device, and its extracted sub-networks, which are kept; one serves many threads.

    Args:
        weights: the network with its card, perhaps with a gate.
        network: the network itself.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        dtype: of the arithmetic: ``"float32"``, ``"bfloat16"``, ``"float16"`` (GPU only), or ``"auto"``: of a `Restorer` the
            fastest, where dtypes were timed here with its weights; else bfloat16 where the hardware multiplies it; float32
            where the network disagrees there.
        max_memory: what the process may take, in MB (2**20 bytes), pictures included; None sets no limit.

    Attributes:
        weights, device, dtype, max_memory: see above.
        model: the name or path that the weights were loaded by, or their name.
        notify: called with a line of text before what takes long.

    Raises:
        InputError: a device or dtype that is not there, or where the network differs from float32 on the CPU by more than
            `grainwise.runtime.agreement.TOLERANCE`; or a limit that is no number above 0.
    """

    weights: Weights | GatedWeights

    def __init__(
        self, weights: Weights | GatedWeights, network: Network, *, device: str, dtype: Dtype, max_memory: float | None
    ) -> None:
        """Choose device and dtype, and prepare the allocator."""
        machine.tune_allocator()
        self.weights, self.model, self.network = weights, weights.name, network
        self.device = machine.find_device(device)
        self.max_memory = memory.checked_limit(max_memory)
        self._extracted: dict[tuple[ChannelPlan, float | None], nn.Module] = {}
        self._lock = threading.Lock()
        self.notify: Callable[[str], object] | None = None
        self.dtype = (self._measured_dtype() if dtype == "auto" else None) or machine.find_dtype(dtype, self.device)
        self._check_arithmetic(chosen=dtype != "auto")

    @abstractmethod
    def check_budget(self, budget: str | float | None) -> None:
        """Refuse a budget that no call can keep.

        Raises:
            BudgetError: it cannot be read or met.
        """

    def known_costs(self) -> CostModel | None:
        """What plans cost on this machine, if it was ever measured."""
        return None

    def _measured_dtype(self) -> torch.dtype | None:
        """The dtype that was the fastest on this machine, if any was timed here."""
        return None

    def _network(self, plan: ChannelPlan, kernels: float | None = None) -> nn.Module:
        """The extracted network of ``plan`` on the device, made once; merged at the level ``kernels``, 0 to 1, if given."""
        with self._lock:
            key = (plan, kernels)
            if key not in self._extracted:
                merged = [other for other in self._extracted if other[1] is not None]
                for other in merged[: max(0, len(merged) + 1 - MOST_MERGED)]:
                    del self._extracted[other]
                plain = self.network.extract(plan, *(() if kernels is None else (kernels,)))
                plain.to(self.device, self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                self._extracted[key] = plain
            return self._extracted[key]

    def _check_arithmetic(self, *, chosen: bool) -> None:
        """Ask whether the network gives the pixels of float32 on the CPU; where nobody chose the dtype, float32 is next.

        Raises:
            InputError: it does not, see `agreement`.
        """
        if not agreement.needs_asking(self.device, self.dtype):
            return
        widest = self.network.space.widest
        found = agreement.difference(self.network, lambda level: self._network(widest, level), self.device)
        self._extracted.clear()
        if not chosen and self.dtype != torch.float32 and not agreement.agrees(self.dtype, found):
            self.dtype = torch.float32
            self._check_arithmetic(chosen=False)
            return
        agreement.refuse(self.weights.name, self.device, self.dtype, found)

    def _started(self, kernels: float | None) -> set[ChannelPlan]:
        """Plans that have run in this process with the kernels of this level, 0 to 1, and are still held."""
        with self._lock:
            return {plan for plan, level in self._extracted if level == kernels}

    def _free_bytes(self) -> int:
        """What the picture's result and the network may take; on a GPU no more than is free there."""
        if self.max_memory is None:
            free = memory.available_bytes()
        else:
            machine.release_memory()
            free = memory.bytes_within(self.max_memory)
        if self.device.type == "cuda":
            free = min(free, int(torch.cuda.mem_get_info(self.device)[0]))
        return free
