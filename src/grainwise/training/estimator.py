"""Teaching a level estimator: the mean absolute error of the level (HyperRes, section 4.4).

The paper draws noise levels uniformly and takes one crop a step with a weight decay of 0.9; here any batches that say their
level do (`LevelCrops` with drawn levels, or `NoisyCrops`), and the loop's own settings.
"""

import platform
from pathlib import Path

from torch import Tensor, nn

from grainwise.core.commit import current_commit
from grainwise.core.errors import TrainingError
from grainwise.data.crops import Batch, Batches
from grainwise.networks.checkpoint import Card, save_estimator
from grainwise.networks.level_estimator import CROP, LevelEstimator
from grainwise.networks.tasks import DENOISE
from grainwise.training.loop import LoopConfig, Report, train


class EstimatorMethod(nn.Module):
    """Maps a batch to the error of its estimated levels.

    Args:
        network: the estimator.
    """

    def __init__(self, network: LevelEstimator) -> None:
        """Keep it."""
        super().__init__()
        self.network = network

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """``loss``: the mean absolute error of the level, 0 to 1 over the estimator's range.

        Raises:
            TrainingError: the batch does not say its level.
        """
        value = batch.degradation
        if value is None:
            if self.network.task != DENOISE:
                raise TrainingError(
                    "an estimator learns from batches that say their level, such as those of LevelCrops"
                )
            value = batch.sigma
        return {"loss": (self.network(batch.noisy) - self.network.level(value)).abs().mean()}


def train_estimator(
    estimator: LevelEstimator,
    batches: Batches,
    config: LoopConfig,
    out: Path,
    *,
    licence: str,
    data: tuple[str, ...],
    recipe: str,
    resume: bool = False,
    report: Report | None = None,
) -> Path:
    """Teach ``estimator``, and write it to ``out / "estimator.safetensors"``, whose path is given back.

    Args:
        estimator: with its first weights.
        batches: what it learns from.
        config: of the loop; its crops must be of 128 pixels.
        out: the run's folder.
        licence, data, recipe: for the card, see `Card`.
        resume: go on from the checkpoint in ``out``.
        report: see `grainwise.training.loop.train`.

    Raises:
        TrainingError: crops of another size, or what `train` raises.
    """
    if config.crops != ((0, CROP),):
        raise TrainingError(f"the estimator sees {CROP} pixels a side: set crops=((0, {CROP}),), not {config.crops}")
    result = train(config, EstimatorMethod(estimator), batches, out, resume=resume, report=report)
    estimator.load_state_dict(result.weights)
    estimator.eval().cpu()
    card = Card(
        licence=licence,
        data=data,
        recipe=recipe,
        commit=current_commit(),
        steps=result.steps,
        seconds=round(result.seconds, 1),
        device=platform.processor() or platform.machine(),
        plans=(),
    )
    path = out / "estimator.safetensors"
    save_estimator(path, estimator, card)
    return path
