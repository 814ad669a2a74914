"""What a sub-network is taught by: the loss of its paper against the clean picture, and a distance to a teacher's picture.

DDS-Net trains three backbones, each with the losses of its own paper. The largest sub-network has that loss whole; the others
learn from a picture, the clean one or a teacher's, by the term of that loss that knows a picture (`Lesson.follow`).
"""

from abc import ABC, abstractmethod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from grainwise.core.errors import InputError
from grainwise.data.crops import Batch
from grainwise.networks.mprnet import MPRNet
from grainwise.networks.network import Network
from grainwise.networks.vdnet import NoiseVarianceNet, VDNet
from grainwise.primitives.channels import ChannelPlan
from grainwise.training.distances import Distance
from grainwise.training.edges import edge_distance
from grainwise.training.variational import VariationalLoss, estimated_variance, known_variance

Variance = Literal["estimated", "known"]
Prediction = tuple[Tensor, ...]


class Lesson(nn.Module, ABC):
    """How the sub-networks of one kind of network are run and judged while they learn."""

    @abstractmethod
    def predict(self, network: Network, batch: Batch, plan: ChannelPlan) -> Prediction:
        """All outputs of the sub-network that its losses need."""

    @abstractmethod
    def picture(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The restored picture among them, [B, C, H, W]."""

    @abstractmethod
    def teach(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The whole loss against the clean picture: what the largest sub-network learns from."""

    @abstractmethod
    def follow(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """The distance to a picture ``target`` [B, C, H, W]: what the other sub-networks learn from."""

    def imitate(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """`follow`, where the picture is a teacher's."""
        return self.follow(prediction, target, batch)


class PictureLesson(Lesson):
    """One output, one distance. DANet+ learns so too, by the summed L1.

    Args:
        distance: between two pictures.
        to_teacher: the distance to a teacher's picture, where it is another one; see `rounded_distance`.
    """

    def __init__(self, distance: Distance, to_teacher: Distance | None = None) -> None:
        """Keep the distances."""
        super().__init__()
        self.distance, self.to_teacher = distance, to_teacher or distance

    def predict(self, network: Network, batch: Batch, plan: ChannelPlan) -> Prediction:
        """The restored picture."""
        at, told = network.told(batch.sigma, batch.degradation)
        return (network(batch.noisy, plan, *at, **told),)

    def picture(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The restored picture."""
        return prediction[0]

    def teach(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The distance to the clean picture."""
        return self.distance(prediction[0], batch.clean)

    def follow(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """The distance to ``target``."""
        return self.distance(prediction[0], target)

    def imitate(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """The distance to a teacher's ``target``."""
        return self.to_teacher(prediction[0], target)


class VariationalLesson(Lesson):
    """VDNet's: three terms for the largest sub-network, with S-Net, which learns from it alone; one term for the others.

    Args:
        loss: see `VariationalLoss`.
        variance: where the noise's variance map comes from: "estimated" from each pair (real noise), or "known", the square of
            the batch's noise level (synthetic noise).
        seed: of S-Net's first weights.

    Raises:
        InputError: variance of another kind.
    """

    def __init__(self, loss: VariationalLoss, variance: Variance, *, seed: int = 0) -> None:
        """Build S-Net."""
        super().__init__()
        if variance not in get_args(Variance):
            raise InputError(f"variance is one of {', '.join(get_args(Variance))}, got {variance!r}")
        self.loss, self.variance = loss, variance
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.noise = NoiseVarianceNet()

    def predict(self, network: Network, batch: Batch, plan: ChannelPlan) -> Prediction:
        """Mean of the noise, and logarithm of its variance.

        Raises:
            InputError: the network tells no variance.
        """
        if not isinstance(network, VDNet):
            raise InputError(f"the variational loss teaches a VDNet, got a {type(network).__name__}")
        return network.moments(batch.noisy, plan)

    def picture(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The noisy picture without the mean."""
        return batch.noisy - prediction[0].float()

    def teach(self, prediction: Prediction, batch: Batch) -> Tensor:
        """The variational loss."""
        known = self.variance == "known"
        with torch.no_grad():
            variance = (
                known_variance(batch.sigma, batch.noisy) if known else estimated_variance(batch.noisy, batch.clean)
            )
        shapes = self.noise(batch.noisy)
        mean, log_variance = prediction
        return self.loss((mean, log_variance), shapes, batch.noisy - batch.clean, variance)

    def follow(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """The divergence from a Gaussian around ``target``."""
        mean, log_variance = prediction
        return self.loss.follow((mean, log_variance), batch.noisy - target)


class StagesLesson(Lesson):
    """MPRNet's: the sum over its three pictures of a distance, and of an edge distance if wished.

    Pictures are not clamped before the distance, as the paper's code does: that would stop the gradient of every pixel outside
    [0, 1].

    Args:
        distance: between two pictures.
        edges: weight of the edge distance: 0 in the published denoiser, 0.05 in the paper.
        to_teacher: see `PictureLesson`.

    Raises:
        InputError: a negative weight.
    """

    def __init__(self, distance: Distance, edges: float = 0.0, to_teacher: Distance | None = None) -> None:
        """Keep them."""
        super().__init__()
        if edges < 0:
            raise InputError(f"the weight of the edge distance is at least 0, got {edges}")
        self.distance, self.edges, self.to_teacher = distance, edges, to_teacher or distance

    def predict(self, network: Network, batch: Batch, plan: ChannelPlan) -> Prediction:
        """The pictures of stage 3, 2 and 1.

        Raises:
            InputError: the network has no stages.
        """
        if not isinstance(network, MPRNet):
            raise InputError(f"the loss of three stages teaches an MPRNet, got a {type(network).__name__}")
        return network.stages(batch.noisy, plan)

    def picture(self, prediction: Prediction, batch: Batch) -> Tensor:
        """That of stage 3."""
        return prediction[0]

    def teach(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Against the clean picture."""
        return self.follow(prediction, batch.clean, batch)

    def follow(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """Every stage against ``target``."""
        return self._summed(self.distance, prediction, target)

    def imitate(self, prediction: Prediction, target: Tensor, batch: Batch) -> Tensor:
        """Every stage against a teacher's ``target``."""
        return self._summed(self.to_teacher, prediction, target)

    def _summed(self, distance: Distance, prediction: Prediction, target: Tensor) -> Tensor:
        losses = [distance(stage, target) for stage in prediction]
        if self.edges > 0:
            losses += [self.edges * edge_distance(stage, target) for stage in prediction]
        return torch.stack(losses).sum()
