"""How a student listens to its teachers."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.training.students import TINY, student, teacher_network

from grainwise.core.errors import InputError, UnknownNameError
from grainwise.data.crops import Batch
from grainwise.networks.half_unet import HalfUNet
from grainwise.networks.mdrn import MDRN
from grainwise.training.distances import DISTANCES
from grainwise.training.distillation import (
    Distiller,
    Fade,
    StudentMethod,
    StudentSettings,
    Teaching,
    feature_distance,
    nearer,
)
from grainwise.training.recipes import get_recipe
from grainwise.training.seeds import PLANS, seed_of
from grainwise.training.supernet import SupernetMethod, SupernetSettings
from grainwise.training.teachers import Answer, ForeignTeacher, LessNoisy, NetworkTeacher, answer_of


def perfect(batch: Batch) -> ForeignTeacher:
    return ForeignTeacher(lambda noisy, sigma: batch.clean, "the clean picture")


def gradient(loss: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, of)[0]


@pytest.mark.parametrize("name", DISTANCES)
def test_a_worse_teacher_does_not_pull_at_all(name: str) -> None:
    clean = torch.rand(2, 3, 16, 16)
    output = (clean + 0.1 * torch.randn(clean.shape)).requires_grad_()
    mine, theirs = torch.rand(2, 4, 8, 8, requires_grad=True), torch.rand(2, 6, 8, 8)
    distiller = Distiller(
        ForeignTeacher(lambda x, s: x, "none"), distance=DISTANCES[name], features=0.1, widths=[(4, 6)]
    )
    worse = Answer(output.detach() + torch.sign(output.detach() - clean) * 0.2, (theirs,))
    loss = distiller(Answer(output, (mine,)), clean, worse)
    pulls = torch.autograd.grad(loss, [output, mine, *distiller.parameters()])
    assert all(pull.abs().max() == 0 for pull in pulls)
    better = Answer(clean, (theirs,))
    loss = distiller(Answer(output, (mine,)), clean, better)
    assert all(pull.abs().max() > 0 for pull in torch.autograd.grad(loss, [output, mine, *distiller.parameters()]))


def test_the_mask_is_per_pixel() -> None:
    clean = torch.zeros(1, 3, 4, 4)
    output = torch.full_like(clean, 0.2).requires_grad_()
    theirs = torch.full_like(clean, 0.1)
    theirs[:, :, :2] = 0.3
    heard = nearer(theirs, output, clean)
    assert heard.shape == (1, 1, 4, 4)
    assert not heard[:, :, :2].any()
    assert heard[:, :, 2:].all()
    teacher = ForeignTeacher(lambda x, s: x, "none")
    loss = Distiller(teacher, distance=F.l1_loss, output=0.5)(Answer(output), clean, Answer(theirs))
    assert float(loss.detach()) == pytest.approx(0.5 * 0.5 * 0.1)
    pull = gradient(loss, output)
    assert not pull[:, :, :2].any()
    assert (pull[:, :, 2:] > 0).all()
    everywhere = Distiller(teacher, distance=F.l1_loss, masked=False)(Answer(output), clean, Answer(theirs))
    assert float(everywhere.detach()) == pytest.approx(0.5 * 0.1)


def test_feature_distance_ignores_scale_and_averages_the_finer_one_down() -> None:
    feature = torch.rand(2, 5, 8, 12) - 0.5
    assert feature_distance(feature, 7 * feature, None) == pytest.approx(0, abs=1e-6)
    coarse = F.avg_pool2d(feature, 2)
    assert feature_distance(feature, coarse, None) == pytest.approx(0, abs=1e-6)
    assert feature_distance(coarse, feature, None) == pytest.approx(0, abs=1e-6)
    other = torch.rand(2, 5, 8, 12)
    unit = [f / f.square().mean((1, 2, 3), keepdim=True).sqrt() for f in (feature, other)]
    torch.testing.assert_close(feature_distance(feature, other, None), (unit[0] - unit[1]).abs().mean())
    half = torch.zeros(2, 1, 16, 24)
    half[:, :, :8] = 1
    expected = (unit[0] - unit[1])[:, :, :4].abs().sum() / feature.numel()
    torch.testing.assert_close(feature_distance(feature, other, half), expected)


def test_the_loss_is_the_one_of_the_card(batch: Batch) -> None:
    net, teacher = student(), NetworkTeacher(teacher_network(), taps=["blocks.1"])
    distiller = Distiller(
        teacher, distance=F.l1_loss, output=0.5, features=0.1, masked=False, widths=[(16, 24)], seed=5
    )
    quiet = Distiller(LessNoisy(NetworkTeacher(student()), 0.5), distance=F.l1_loss)
    method = StudentMethod(net, teaching=Teaching([distiller, quiet], ["blocks.0"], Fade(100, 0.2)))
    losses = method(batch, 90)
    answer = answer_of(net, ["blocks.0"], batch.noisy, net.space.widest, sigma=batch.sigma)
    lesson = teacher(batch, ())
    adapted = F.conv2d(answer.features[0], distiller.adapters[0].weight)
    first = 0.5 * F.l1_loss(answer.output, lesson.output) + 0.1 * feature_distance(adapted, lesson.features[0], None)
    noisy = batch.clean + 0.5 * (batch.noisy - batch.clean)
    target = student()(noisy, net.space.widest, sigma=0.5 * batch.sigma).detach()
    target = torch.where(nearer(target, answer.output, batch.clean), target, answer.output.detach())
    expected = {
        "clean": F.l1_loss(answer.output, batch.clean),
        "teacher0": 0.5 * first,
        "teacher1": 0.5 * 0.5 * F.l1_loss(answer.output, target),
    }
    assert set(losses) == {"loss", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    torch.testing.assert_close(losses["loss"], torch.stack(list(expected.values())).sum())


def test_teachers_fade_out_over_the_last_steps() -> None:
    fade = Fade(1000, 0.15)
    weights = [fade(step) for step in range(1001)]
    assert weights[:851] == [1.0] * 851
    assert weights[925] == pytest.approx(0.5)
    assert weights[1000] == 0
    assert all(a > b for a, b in pairwise(weights[850:]))
    assert Fade(10, 0.0)(9) == 1
    for wrong in ((0, 0.1), (10, -0.1), (10, 1.1)):
        with pytest.raises(InputError, match="fade"):
            Fade(*wrong)


def test_without_teachers_it_learns_from_the_clean_picture(batch: Batch) -> None:
    net = student()
    losses = StudentMethod(net)(batch, 0)
    assert set(losses) == {"loss", "clean"}
    assert torch.equal(losses["loss"], F.l1_loss(net(batch.noisy, net.space.widest, sigma=batch.sigma), batch.clean))


def test_adapters_learn_but_teachers_do_not_and_neither_is_in_the_network(batch: Batch, saved: Path) -> None:
    settings = StudentSettings(
        teacher=str(saved / "teacher.safetensors"), teacher_taps=("blocks.0=blocks.1",), steps=10, masked=False
    )
    net = student()
    method = settings.build(net, seed=0)
    names = {name for name, _ in method.named_parameters()}
    assert names == {f"network.{name}" for name, _ in net.named_parameters()} | {
        "teaching.distillers.0.adapters.0.weight"
    }
    method(batch, 0)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())
    assert not any("adapter" in name or "distill" in name for name in net.state_dict())
    again = settings.build(student(), seed=0)
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), again.parameters(), strict=True))
    other = settings.build(student(), seed=1)
    assert not torch.equal(other.teaching.distillers[0].adapters[0].weight, list(method.parameters())[-1])


def test_a_teacher_of_another_architecture(batch: Batch, saved: Path) -> None:
    settings = StudentSettings(
        teacher=str(saved / "other.safetensors"), teacher_taps=("blocks.0=decoder.0.0", "head"), steps=10
    )
    method = settings.build(student(), seed=0)
    assert [list(a.weight.shape) for a in method.teaching.distillers[0].adapters] == [[24, 16, 1, 1]] * 2
    assert torch.isfinite(method(batch, 0)["teacher0"])


def test_both_kinds_of_teacher_from_settings(saved: Path) -> None:
    settings = StudentSettings(
        teacher=str(saved / "teacher.safetensors"), teacher_taps=("blocks.0",),
        quiet_teacher=str(saved / "quiet.safetensors"), quiet_taps=("blocks.0", "head"), quiet_noise=0.4,
        output=0.25, features=0.75, masked=False, steps=10, fade=0.5,
    )  # fmt: skip
    teaching = settings.teaching(student(), distance="charbonnier", seed=3)
    first, second = teaching.distillers
    assert isinstance(first.teacher, NetworkTeacher)
    assert isinstance(second.teacher, LessNoisy)
    assert second.teacher.share == 0.4
    assert teaching.taps == ("blocks.0", "blocks.0", "head")
    assert (len(first.adapters), len(second.adapters)) == (1, 2)
    for distiller in (first, second):
        assert (distiller.output, distiller.features, distiller.masked) == (0.25, 0.75, False)
        assert distiller.distance is DISTANCES["charbonnier"]
    assert teaching.fade == Fade(10, 0.5)
    assert set(settings.sources().values()) == {"CC BY-SA 4.0"}
    assert "cid22" in next(iter(settings.sources()))
    assert StudentSettings(teacher="x.pt").sources() == {"teacher x.pt (its data are not known)": "not known"}


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"steps": 0}, InputError, "at least 1 step"),
        ({"output": -1.0}, InputError, "at least 0"),
        ({"features": -1.0}, InputError, "at least 0"),
        ({"features": 0.0}, InputError, "above 0 and taps"),
        ({"teacher_taps": ("block.0=blocks.0",)}, UnknownNameError, "Did you mean blocks"),
        ({"teacher_taps": ("blocks.0=blocks.7",)}, UnknownNameError, "unknown module"),
        ({"quiet_taps": ("blocks.0",)}, InputError, "quiet_plan and quiet_taps belong"),
        ({"quiet_teacher": "default", "quiet_noise": 1.0}, InputError, "less noisy"),
        ({"distance": "l3"}, UnknownNameError, "distance"),
        ({"teacher": "defualt", "teacher_taps": ()}, UnknownNameError, "Did you mean default"),
    ],
)
def test_wrong_settings_are_refused(saved: Path, wrong: dict, error: type[Exception], words: str) -> None:
    settings = StudentSettings(teacher=str(saved / "teacher.safetensors"), teacher_taps=("blocks.0",), steps=10)
    with pytest.raises(error, match=words):
        replace(settings, **wrong).build(student(), seed=0)


def test_wrong_parts_are_refused(batch: Batch) -> None:
    with pytest.raises(InputError, match="one width"):
        StudentMethod(MDRN())
    with pytest.raises(InputError, match="Fade"):
        Teaching([Distiller(perfect(batch), distance=F.l1_loss)])
    grey = MDRN(**TINY, channels=1)
    with pytest.raises(InputError, match="takes"):
        Teaching([Distiller(NetworkTeacher(grey), distance=F.l1_loss)], (), Fade(9, 0)).lessons(batch, 0)
    lesson = Answer(batch.clean[:, :, :16])
    with pytest.raises(InputError, match="same channels and scale"):
        Distiller(perfect(batch), distance=F.l1_loss)(Answer(batch.noisy), batch.clean, lesson)


def supernet() -> HalfUNet:
    torch.manual_seed(4)
    return HalfUNet(widths=((16, 24), (16, 32)), blocks=(1, 1))


@pytest.mark.parametrize(
    ("pupils", "taught"),
    [
        ("narrowest", {"smallest"}),
        ("smaller", {"smallest", "random0"}),
        ("all", {"smallest", "random0", "largest"}),
    ],
)
def test_a_supernet_is_taught_where_it_is_asked(saved: Path, batch: Batch, pupils: str, taught: set[str]) -> None:
    settings = SupernetSettings(subnets=3, synergy=False, steps=100, pupils=pupils, masked=False)
    alone = settings.build(supernet(), seed=0)(batch, 10)
    tapped = replace(settings, teacher=str(saved / "teacher.safetensors"), teacher_taps=("decoder.0.0=blocks.1",))
    method = tapped.build(supernet(), seed=0)
    losses = method(batch, 10)
    assert {name for name in taught | set(alone) if losses[name] != alone[name]} == taught | {"loss"}
    lesson = method.teaching.distillers[0].lesson(batch)
    net = method.network
    answer = answer_of(net, ["decoder.0.0"], batch.noisy, net.space.narrowest, sigma=batch.sigma)
    adapter = method.teaching.distillers[0].adapters[0].weight
    assert adapter.shape == (24, 24, 1, 1)
    adapted = F.conv2d(answer.features[0], adapter[:, :16])
    pull = 0.5 * F.l1_loss(answer.output, lesson.output) + 0.1 * feature_distance(adapted, lesson.features[0], None)
    torch.testing.assert_close(losses["smallest"], alone["smallest"] + pull)


def test_unknown_pupils_are_refused() -> None:
    with pytest.raises(InputError, match="narrowest, smaller, all"):
        SupernetMethod(supernet(), pupils="some")


@pytest.mark.parametrize("subnets", [2, 4])
def test_in_place_synergy_is_what_it_was_before_it_shared_its_contract(batch: Batch, subnets: int) -> None:
    nets = supernet(), supernet()
    method = SupernetMethod(nets[0], subnets=subnets, seed=3)
    losses = method(batch, 7)
    net, space = nets[1], nets[1].space
    plans = method.sampler.draw(subnets - 2, np.random.default_rng(seed_of(3, 7, PLANS)))
    outputs = [net(batch.noisy, plan, sigma=batch.sigma) for plan in (space.widest, *plans)]
    formula = [F.l1_loss(outputs[0], batch.clean)]
    formula += [F.l1_loss(output, outputs[0].detach()) for output in outputs[1:]]
    smallest = net(batch.noisy, space.narrowest, sigma=batch.sigma)
    formula.append(F.l1_loss(smallest, torch.stack([output.detach() for output in outputs]).mean(0)))
    total = torch.stack(formula).sum()
    assert all(torch.equal(a, b) for a, b in zip(list(losses.values())[1:], formula, strict=True))
    assert torch.equal(losses["loss"], total)
    losses["loss"].backward()
    total.backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(*(n.parameters() for n in nets), strict=True))
    assert not [name for name in method.state_dict() if not name.startswith("network.")]


def test_the_method_of_a_recipe_is_as_long_as_its_loop(saved: Path) -> None:
    recipe = get_recipe("mdrn-small", [f"method.teacher={saved / 'teacher.safetensors'}", "loop.steps=77"])
    assert recipe.method.steps == 77
    assert recipe.network == "mdrn"
    assert get_recipe("mdrn").method.steps == get_recipe("mdrn").loop.steps
    with pytest.raises(InputError, match="follows loop.steps"):
        get_recipe("mdrn-small", ["loop.steps=77", "method.steps=5"])
