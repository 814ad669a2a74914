"""Runs with teachers: they resume bit for bit, refuse another teacher, and leave a network without adapters."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.training.killing import killed_and_resumed
from tests.training.students import student

from grainwise.core.errors import Cancelled, TrainingError
from grainwise.data.crops import Batch, NoisyCrops
from grainwise.networks.checkpoint import load_weights
from grainwise.training.distillation import Distiller, Fade, StudentMethod, StudentSettings, Teaching
from grainwise.training.loop import LoopConfig, Progress, train
from grainwise.training.teachers import Answer

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

SHORT = {"steps": 8, "batch": 2, "crops": ((0, 32),), "warmup": 2, "checkpoint_every": 3, "validate_every": 0}


def taught_run(saved: Path, steps: int = 8) -> StudentMethod:
    settings = StudentSettings(
        teacher=str(saved / "teacher.safetensors"), teacher_taps=("blocks.0=blocks.1",),
        quiet_teacher=str(saved / "quiet.safetensors"), steps=steps, fade=0.5,
    )  # fmt: skip
    return settings.build(student(), seed=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_run_with_teachers_equals_the_unbroken_one(
    data: NoisyCrops, tmp_path: Path, saved: Path, precision: str
) -> None:
    config = LoopConfig(**SHORT, precision=precision)
    whole = train(config, taught_run(saved), data, tmp_path / "whole")

    def stop(told: Progress) -> bool:
        return told.step < 5

    with pytest.raises(Cancelled, match="step 5"):
        train(config, taught_run(saved), data, tmp_path / "broken", report=stop)
    resumed = train(config, taught_run(saved), data, tmp_path / "broken", resume=True)
    assert set(resumed.weights) == set(student().state_dict())
    assert all(torch.equal(value, resumed.weights[name]) for name, value in whole.weights.items())
    states = [torch.load(tmp_path / out / "checkpoint.pt", weights_only=True)["method"] for out in ("whole", "broken")]
    assert any("adapters" in name for name in states[0])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    (saved / "teacher.safetensors").rename(saved / "gone.safetensors")
    (saved / "other.safetensors").rename(saved / "teacher.safetensors")
    settings = StudentSettings(
        teacher=str(saved / "teacher.safetensors"), teacher_taps=("blocks.0=decoder.0.0",),
        quiet_teacher=str(saved / "quiet.safetensors"), steps=8, fade=0.5,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="another teacher"):
        train(config, settings.build(student(), seed=0), data, tmp_path / "broken", resume=True)


def test_a_killed_run_of_a_recipe_with_a_teacher_resumes_bit_for_bit(
    pictures: Path, tmp_path: Path, saved: Path
) -> None:
    settings = [
        f"data={pictures}", "crops.shares=[1]", "loop.steps=12", "loop.checkpoint_every=1", "hold_out=3",
        "loop.crops=[[0,32]]", "loop.batch=2", "loop.validate_every=0", "method.teacher_taps=blocks.2=blocks.1",
        f"method.teacher={saved / 'teacher.safetensors'}", "method.quiet_teacher=default",
    ]  # fmt: skip
    killed = killed_and_resumed("mdrn-tiny", tmp_path, settings)
    weights = load_weights(killed / "weights.safetensors")
    assert weights.network.space.narrowest == weights.network.space.widest
    assert [plan.name for plan in weights.card.plans] == ["best"]
    assert any("teacher teacher.safetensors, taught with cid22" in entry for entry in weights.card.data)


def test_a_student_comes_nearer_to_its_teacher(data: NoisyCrops, tmp_path: Path) -> None:
    class Clean:
        identity = "the clean picture"

        def __call__(self, batch: Batch, seniors: object) -> Answer:
            return Answer(batch.clean)

    losses: list[float] = []
    teaching = Teaching([Distiller(Clean(), distance=F.l1_loss, output=1.0)], (), Fade(60, 0.0))
    config = LoopConfig(steps=60, batch=4, crops=((0, 32),), warmup=5, precision="fp32", learning_rate=2e-3)
    method = StudentMethod(student(), teaching=teaching)
    train(config, method, data, tmp_path, report=lambda p: losses.append(p.losses["teacher0"]))
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
