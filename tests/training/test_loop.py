"""The loop: it learns, it resumes bit for bit, and it says what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training.killing import killed_and_resumed

from grainwise.core.errors import Cancelled, InputError, TrainingError
from grainwise.data.crops import NoisyCrops
from grainwise.networks.half_unet import HalfUNet
from grainwise.training.loop import LoopConfig, Progress, train
from grainwise.training.supernet import SupernetMethod

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

SHORT = {"steps": 8, "batch": 2, "crops": ((0, 32), (4, 48)), "warmup": 2, "checkpoint_every": 3, "validate_every": 4}


def fresh() -> HalfUNet:
    torch.manual_seed(0)
    return HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))


@pytest.mark.parametrize(("precision", "optimizer"), [("fp32", "adamw"), ("bf16", "adamw"), ("bf16", "muon")])
def test_a_resumed_run_equals_the_unbroken_one(
    data: NoisyCrops, tmp_path: Path, precision: str, optimizer: str
) -> None:
    config = LoopConfig(**SHORT, precision=precision, optimizer=optimizer)
    whole = train(config, SupernetMethod(fresh()), data, tmp_path / "whole")

    def stop(told: Progress) -> bool:
        return told.step < 5

    with pytest.raises(Cancelled, match="step 5"):
        train(config, SupernetMethod(fresh()), data, tmp_path / "broken", report=stop)
    resumed = train(config, SupernetMethod(fresh()), data, tmp_path / "broken", resume=True)
    assert resumed.steps == whole.steps == 8
    for name, value in whole.weights.items():
        assert torch.equal(value, resumed.weights[name]), name


def test_a_killed_run_resumes_bit_for_bit(pictures: Path, tmp_path: Path) -> None:
    settings = [
        f"data={pictures}", "crops.shares=[1]", "loop.steps=14", "loop.checkpoint_every=1", "hold_out=3",
        "loop.crops=[[0,32]]", "loop.validate_every=0",
    ]  # fmt: skip
    killed_and_resumed("tiny", tmp_path, settings)


def test_it_learns(data: NoisyCrops, tmp_path: Path) -> None:
    losses: list[float] = []
    config = LoopConfig(steps=60, batch=4, crops=((0, 32),), warmup=5, precision="fp32", learning_rate=2e-3)
    train(
        config, SupernetMethod(fresh(), synergy=False), data, tmp_path, report=lambda p: losses.append(p.losses["loss"])
    )
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_progress_scores_and_tensorboard(data: NoisyCrops, tmp_path: Path) -> None:
    told: list[Progress] = []
    seen: list[dict[str, torch.Tensor]] = []

    def validate(network: torch.nn.Module) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"psnr": 30.0}

    method = SupernetMethod(fresh())
    result = train(LoopConfig(**SHORT), method, data, tmp_path, validate=validate, report=told.append)
    assert [p.step for p in told] == list(range(1, 9))
    assert told[-1].seconds_left == 0 < told[0].seconds_left
    assert result.scores == told[-1].scores == {"psnr": 30.0}
    assert len(seen) == 2
    assert all(torch.equal(value, result.weights[name]) for name, value in seen[-1].items())
    assert any((tmp_path / "tensorboard").iterdir())


def test_the_rate_warms_up_and_falls() -> None:
    config = LoopConfig(steps=1000, warmup=100, final_rate=0.01)
    rates = [config.rate(step) for step in range(1001)]
    assert rates[0] == 0.01
    assert rates[99] == 1.0
    assert rates == [*sorted(rates[:100]), *sorted(rates[100:], reverse=True)]
    assert rates[-1] == pytest.approx(0.01)


def test_wrong_runs_are_refused(data: NoisyCrops, tmp_path: Path) -> None:
    config = LoopConfig(**SHORT)
    with pytest.raises(TrainingError, match="no checkpoint to resume"):
        train(config, SupernetMethod(fresh()), data, tmp_path / "none", resume=True)
    train(config, SupernetMethod(fresh()), data, tmp_path / "run")
    with pytest.raises(TrainingError, match="holds a run already"):
        train(config, SupernetMethod(fresh()), data, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"learning_rate: 0.001 then, 0.5 now"):
        train(LoopConfig(**SHORT, learning_rate=0.5), SupernetMethod(fresh()), data, tmp_path / "run", resume=True)
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK damaged")
    with pytest.raises(TrainingError, match="cannot be read"):
        train(config, SupernetMethod(fresh()), data, tmp_path / "run", resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(data: NoisyCrops, tmp_path: Path) -> None:
    broken = fresh()
    broken.tail.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        train(LoopConfig(**SHORT), SupernetMethod(broken), data, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 trains here")
def test_fp16_without_a_gpu_is_refused(data: NoisyCrops, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fp16 trains on a GPU only"):
        train(LoopConfig(**SHORT, precision="fp16"), SupernetMethod(fresh()), data, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"crops": ()},
        {"crops": ((0, 0),)},
        {"crops": ((5, 64),)},
        {"ema": 1.0},
        {"clip": 0.0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        LoopConfig(**wrong)


def test_two_processes_train_together(pictures: Path, tmp_path: Path) -> None:
    settings = [f"data={pictures}", "crops.shares=[1]", "loop.steps=3", "hold_out=3", "loop.validate_every=0"]
    changes = [part for setting in settings for part in ("--set", setting)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "grainwise"]
    out = tmp_path / "run"
    command = [*launch, "train", "tiny", "--out", str(out), "--cache", str(tmp_path / "cache"), *changes]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    assert (out / "weights.safetensors").exists()
