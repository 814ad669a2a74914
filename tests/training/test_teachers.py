"""Teachers: what they see, what they give, and which files they come from."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from grainwise.core.errors import GrainwiseError, InputError, PlanError, UnknownNameError, WeightsError
from grainwise.data.crops import Batch
from grainwise.networks.checkpoint import Card, MeasuredPlan, save_weights
from grainwise.networks.mdrn import MDRN
from grainwise.training.teachers import (
    Answer,
    Ensemble,
    ForeignTeacher,
    Largest,
    LessNoisy,
    NetworkTeacher,
    answer_of,
    load_teacher,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning", "ignore:.isinstance.treespec:FutureWarning"
)

SMALLEST = {"widths": ((16, 24),) * 4, "blocks": 2}


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, 32, 40, generator=generator)
    sigma = torch.tensor([0.1, 0.2])
    return Batch(clean, clean + sigma.view(2, 1, 1, 1) * torch.randn(clean.shape, generator=generator), sigma)


@pytest.fixture
def mdrn() -> MDRN:
    torch.manual_seed(0)
    return MDRN(**SMALLEST)


class Blur(nn.Module):
    """A network that is not of the package and takes no level."""

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return nn.functional.avg_pool2d(noisy, 3, 1, 1)


class Told(nn.Module):
    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return noisy - sigma.view(-1, 1, 1, 1)


def test_a_network_teaches_at_its_plan_with_its_features(mdrn: MDRN, batch: Batch) -> None:
    plan = mdrn.space.narrowest
    lesson = NetworkTeacher(mdrn, plan, taps=["blocks.0", "blocks.1"])(batch, ())
    torch.testing.assert_close(lesson.output, mdrn(batch.noisy, plan, sigma=batch.sigma), rtol=0, atol=0)
    assert [list(f.shape) for f in lesson.features] == [[2, 16, 16, 20]] * 2
    assert not lesson.output.requires_grad
    widest = NetworkTeacher(mdrn)(batch, ())
    assert torch.equal(widest.output, mdrn(batch.noisy, mdrn.space.widest, sigma=batch.sigma))
    assert widest.features == ()


def test_taps_catch_what_the_module_gives_and_leave_no_hook(mdrn: MDRN, batch: Batch) -> None:
    plan = mdrn.space.widest
    answer = answer_of(mdrn, ["head", "blocks.0"], batch.noisy, plan, sigma=batch.sigma)
    assert torch.equal(mdrn.blocks[0](answer.features[0], plan), answer.features[1])
    assert not any(module._forward_hooks for module in mdrn.modules())
    with pytest.raises(InputError, match="blocks"):
        answer_of(mdrn, ["blocks"], batch.noisy, plan, sigma=batch.sigma)
    assert not any(module._forward_hooks for module in mdrn.modules())


def test_a_teacher_is_a_copy(mdrn: MDRN, batch: Batch) -> None:
    teacher = NetworkTeacher(mdrn)
    before = teacher(batch, ()).output
    with torch.no_grad():
        mdrn.tail.weight.zero_()
    assert torch.equal(teacher(batch, ()).output, before)


def test_identities_tell_weights_and_plans_apart(mdrn: MDRN) -> None:
    one, same = NetworkTeacher(mdrn), NetworkTeacher(mdrn)
    assert one.identity == same.identity
    assert one.identity != NetworkTeacher(mdrn, mdrn.space.narrowest).identity
    assert one.identity != LessNoisy(one, 0.5).identity != LessNoisy(one, 0.4).identity
    with torch.no_grad():
        mdrn.tail.weight[0, 0, 0, 0] += 1
    assert one.identity != NetworkTeacher(mdrn).identity


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_less_noisy_teacher_sees_the_same_noise_scaled(batch: Batch, share: float) -> None:
    seen: list[Batch] = []

    class Notes:
        identity = "notes"

        def __call__(self, batch: Batch, seniors: object) -> Answer:
            seen.append(batch)
            return Answer(batch.noisy)

    LessNoisy(Notes(), share)(batch, ())
    assert torch.equal(seen[0].clean, batch.clean)
    torch.testing.assert_close(seen[0].noisy - batch.clean, share * (batch.noisy - batch.clean))
    torch.testing.assert_close(seen[0].sigma, share * batch.sigma)


@pytest.mark.parametrize("share", [-0.1, 1.0, 2.0])
def test_more_noise_than_the_student_sees_is_refused(mdrn: MDRN, share: float) -> None:
    with pytest.raises(InputError, match="less noisy"):
        LessNoisy(NetworkTeacher(mdrn), share)


def test_in_place_teachers_need_seniors(batch: Batch) -> None:
    seniors = [Answer(torch.rand(2, 3, 4, 4, requires_grad=True)) for _ in range(3)]
    assert torch.equal(Largest()(batch, seniors).output, seniors[0].output)
    mean = Ensemble()(batch, seniors).output
    assert torch.equal(mean, torch.stack([s.output for s in seniors]).mean(0))
    assert not mean.requires_grad
    for teacher in (Largest(), Ensemble()):
        with pytest.raises(InputError, match="the largest has no teacher"):
            teacher(batch, ())


def test_weights_files_teach(tmp_path: Path, mdrn: MDRN, batch: Batch) -> None:
    plan = str(mdrn.space.narrowest)
    card = Card(licence="CC0", data=(), recipe="", commit="0", steps=1, seconds=1.0, device="cpu",
                plans=(MeasuredPlan(plan, 1),))  # fmt: skip
    mdrn.half().float()
    save_weights(tmp_path / "teacher.safetensors", mdrn, card)
    lesson = load_teacher(tmp_path / "teacher.safetensors", plan=plan, taps=["blocks.1"])(batch, ())
    assert torch.equal(lesson.output, mdrn(batch.noisy, mdrn.space.narrowest, sigma=batch.sigma))
    assert len(lesson.features) == 1
    with pytest.raises(PlanError):
        load_teacher(tmp_path / "teacher.safetensors", plan="stream=1")
    with pytest.raises(UnknownNameError, match="Did you mean blocks"):
        load_teacher(tmp_path / "teacher.safetensors", taps=["block.1"])
    with pytest.raises(WeightsError, match="there is no"):
        load_teacher(tmp_path / "other.safetensors")


@pytest.mark.parametrize("module", [Blur(), Told()])
def test_torchscript_teaches(tmp_path: Path, batch: Batch, module: nn.Module) -> None:
    given = (batch.noisy, batch.sigma) if isinstance(module, Told) else (batch.noisy,)
    torch.jit.script(module).save(str(tmp_path / "teacher.pt"))
    lesson = load_teacher(tmp_path / "teacher.pt")(batch, ())
    assert torch.equal(lesson.output, module(*given))


@pytest.mark.parametrize("module", [Blur(), Told()])
def test_onnx_teaches(tmp_path: Path, batch: Batch, module: nn.Module) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    given = (batch.noisy, batch.sigma) if isinstance(module, Told) else (batch.noisy,)
    torch.onnx.export(module.eval(), given, tmp_path / "teacher.onnx", dynamo=True, verbose=False)
    teacher = load_teacher(tmp_path / "teacher.onnx")
    torch.testing.assert_close(teacher(batch, ()).output, module(*given))
    small = Batch(batch.clean[:, :, :9], batch.noisy[:, :, :9], batch.sigma)
    with pytest.raises(InputError, match="cannot take pictures"):
        teacher(small, ())


def test_onnx_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "teacher.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(GrainwiseError, match="pip install onnxruntime"):
        load_teacher(tmp_path / "teacher.onnx")


def test_foreign_files_that_cannot_teach_are_refused(tmp_path: Path) -> None:
    class Three(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
            return a + b + c

    torch.jit.script(Three()).save(str(tmp_path / "three.pt"))
    with pytest.raises(InputError, match="takes 3 inputs"):
        load_teacher(tmp_path / "three.pt")
    with pytest.raises(InputError, match="no features to tap"):
        load_teacher(tmp_path / "three.pt", taps=["blocks.0"])
    with pytest.raises(InputError, match="no plan to choose"):
        load_teacher(tmp_path / "three.pt", plan="stream=16")
    with pytest.raises(WeightsError, match="there is no teacher"):
        load_teacher(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(WeightsError, match="no readable TorchScript"):
        load_teacher(tmp_path / "text.pt")


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(WeightsError, match="no readable ONNX"):
        load_teacher(tmp_path / "text.onnx")


@pytest.mark.parametrize(
    "output", [torch.rand(2, 3, 8, 8), torch.full((2, 3, 32, 40), float("nan")), "text"], ids=["shape", "nan", "text"]
)
def test_a_foreign_teacher_gives_finite_pictures_of_the_same_shape(batch: Batch, output: object) -> None:
    with pytest.raises(InputError, match="finite pictures"):
        ForeignTeacher(lambda noisy, sigma: output, "a test")(batch, ())


def test_the_shipped_weights_can_teach(batch: Batch) -> None:
    flat = torch.full_like(batch.clean, 0.5)
    lesson = load_teacher("default", taps=["middle.1"])(Batch(flat, flat + batch.noisy - batch.clean, batch.sigma), ())
    assert (lesson.output - flat).abs().mean() < 0.2 * (batch.noisy - batch.clean).abs().mean()
    assert lesson.features[0].shape[2:] == (4, 5)
