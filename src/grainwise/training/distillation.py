"""Distillation from heterogeneous teachers (HMDS of MDRN, arXiv 2204.13873): what a student learns from other networks.

Only the paper's abstract is public to us. It says that two strategies let the network "learn richer and more accurate features
from heterogeneous models", and that they help tiny models and high noise. The two strategies here are our reading: a teacher
of another architecture or size at the same noisy picture, and a teacher that sees a less noisy version of it
(`grainwise.training.teachers`). So are the losses:

    distance(output, clean)
    + s(t) * [ 0.5 * distance(output, teacher's output), where the teacher is nearer to the clean picture
             + 0.1 * sum over taps of mean | n(A f) - n(teacher's f) |, weighted by the same mask ]

A is a 1x1 adapter that learns beside the student and is thrown away: it is in a run's checkpoint, never in a weights file.
n divides by the root mean square of a picture's features. s(t) is 1, and falls to 0 over the last share of the steps, so that
the student ends on the clean pictures alone.

In-place synergy (`grainwise.training.supernet`) is the same with a teacher of shared weights, no mask, no taps, and no clean
picture beside it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grainwise.core.errors import InputError, TrainingError
from grainwise.data.crops import Batch
from grainwise.networks.checkpoint import load_weights
from grainwise.networks.network import Network
from grainwise.training.distances import Distance, get_distance
from grainwise.training.teachers import Answer, LessNoisy, Teacher, answer_of, check_taps, is_foreign, load_teacher


class Distiller(nn.Module):
    """How one teacher pulls at one student.

    Args:
        teacher: see `Teacher`. It is no part of this module: neither trained nor saved, but a checkpoint that is loaded
            must come from a run with the same one.
        distance: between outputs.
        output: weight of the pull towards the teacher's output.
        features: weight of the pull towards its features.
        masked: listen only where the teacher's output is nearer to the clean picture than the student's.
        widths: channels of each tapped feature, of (student, teacher); one adapter each. A narrower sub-network of the
            student uses the first columns of the adapter.
        seed: of the adapters' first weights.

    Raises:
        InputError: a negative weight, or a feature weight without features.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        distance: Distance,
        output: float = 0.5,
        features: float = 0.0,
        masked: bool = True,
        widths: Sequence[tuple[int, int]] = (),
        seed: int = 0,
    ) -> None:
        """Make the adapters."""
        super().__init__()
        if output < 0 or features < 0:
            raise InputError(f"the weights of a teacher are at least 0, got output={output} and features={features}")
        if (features > 0) != bool(widths):
            raise InputError(
                f"features are distilled with a weight above 0 and taps; got {features} and {len(widths)} taps"
            )
        self._teacher = (teacher,)
        self.distance, self.output, self.features, self.masked = distance, output, features, masked
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.adapters = nn.ModuleList(nn.Conv2d(mine, theirs, 1, bias=False) for mine, theirs in widths)

    @property
    def teacher(self) -> Teacher:
        """The teacher."""
        return self._teacher[0]

    def lesson(self, batch: Batch, seniors: Sequence[Answer] = ()) -> Answer:
        """What the teacher says of ``batch``; see `Teacher`."""
        with torch.no_grad():
            return self.teacher(batch, seniors)

    def forward(self, answer: Answer, clean: Tensor, lesson: Answer) -> Tensor:
        """The weighted loss.

        Args:
            answer: the student's, with a feature for each adapter.
            clean: [B, C, H, W].
            lesson: the teacher's, with as many.

        Raises:
            InputError: the teacher's output is of another shape.
        """
        if lesson.output.shape != answer.output.shape:
            raise InputError(
                f"the student gives {list(answer.output.shape)}, and its teacher {list(lesson.output.shape)}; "
                f"take a teacher of the same channels and scale: this is {self.teacher.identity}"
            )
        target, heard = lesson.output, None
        if self.masked:
            heard = nearer(lesson.output, answer.output, clean)
            target = torch.where(heard, target, answer.output.detach())
        loss = self.distance(answer.output, target)
        if self.output != 1:
            loss = self.output * loss
        for adapter, mine, theirs in zip(self.adapters, answer.features, lesson.features, strict=True):
            assert isinstance(adapter, nn.Conv2d)
            adapted = F.conv2d(mine, adapter.weight[:, : mine.shape[1]])
            loss = loss + self.features * feature_distance(adapted, theirs, heard)
        return loss

    def get_extra_state(self) -> Tensor:
        """A digest [32] uint8 of the teacher's identity."""
        return torch.tensor(list(hashlib.sha256(self.teacher.identity.encode()).digest()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse a state of another teacher.

        Raises:
            TrainingError: it is another one.
        """
        if not torch.equal(state.cpu(), self.get_extra_state()):
            raise TrainingError("the run was started with another teacher; resume it with its own, or start anew")


def nearer(one: Tensor, other: Tensor, clean: Tensor) -> Tensor:
    """[B, 1, H, W]: where ``one`` is nearer to ``clean`` than ``other``, in the mean absolute error over the channels."""
    errors = [(picture.detach() - clean).abs().mean(1, keepdim=True) for picture in (one, other)]
    return errors[0] < errors[1]


def feature_distance(mine: Tensor, theirs: Tensor, heard: Tensor | None) -> Tensor:
    """The mean absolute difference of two features [B, C, h, w], each divided by the root mean square of its picture.

    Where the sizes differ, both are averaged down to the lesser height and width. ``heard`` [B, 1, H, W] weighs the positions.
    """
    mine, theirs = mine.float(), theirs.float()
    size = (min(mine.shape[2], theirs.shape[2]), min(mine.shape[3], theirs.shape[3]))
    mine, theirs = (F.adaptive_avg_pool2d(f, size) if f.shape[2:] != size else f for f in (mine, theirs))
    difference = (_unit(mine) - _unit(theirs)).abs()
    if heard is not None:
        difference = difference * F.adaptive_avg_pool2d(heard.float(), size)
    return difference.mean()


def _unit(feature: Tensor) -> Tensor:
    return feature / feature.square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt()


@dataclass(frozen=True, slots=True)
class Fade:
    """The weight of all teachers over a run: 1, then a straight line to 0 over the last ``share`` of its ``steps``."""

    steps: int
    share: float

    def __post_init__(self) -> None:
        """Refuse a run without steps, and shares outside [0, 1]."""
        if self.steps < 1 or not 0 <= self.share <= 1:
            raise InputError(
                f"teachers fade over a share in [0, 1] of at least 1 step, got {self.share} of {self.steps}"
            )

    def __call__(self, step: int) -> float:
        """The weight at ``step``, which counts from 0."""
        length = self.share * self.steps
        return 1.0 if length == 0 else min(1.0, max(0.0, (self.steps - step) / length))


@dataclass(frozen=True, slots=True)
class Lessons:
    """What some teachers say of one batch, and how strongly their student listens at this step."""

    distillers: Sequence[Distiller]
    answers: Sequence[Answer]
    weight: float

    def pulls(self, answer: Answer, clean: Tensor) -> list[Tensor]:
        """The loss of each teacher; ``answer`` has the features of all teachers, one after the other."""
        losses, first = [], 0
        for distiller, lesson in zip(self.distillers, self.answers, strict=True):
            last = first + len(distiller.adapters)
            own = Answer(answer.output, answer.features[first:last])
            losses.append(self.weight * distiller(own, clean, lesson))
            first = last
        return losses


class Teaching(nn.Module):
    """All outside teachers of one network: their distillers, the student's taps, and how they fade.

    Args:
        distillers: one for each teacher.
        taps: the modules of the student whose outputs the distillers compare, for each of them in turn.
        fade: their weight over the run; None where there is no teacher.

    Raises:
        InputError: teachers without a fade.
    """

    def __init__(
        self, distillers: Sequence[Distiller] = (), taps: Sequence[str] = (), fade: Fade | None = None
    ) -> None:
        """Keep them."""
        super().__init__()
        if distillers and fade is None:
            raise InputError("teachers need to know how they fade over the run: give a Fade")
        self.distillers, self.taps, self.fade = nn.ModuleList(distillers), tuple(taps), fade

    def lessons(self, batch: Batch, step: int) -> Lessons:
        """Ask every teacher once."""
        distillers = [part for part in self.distillers if isinstance(part, Distiller)]
        weight = 0.0 if self.fade is None else self.fade(step)
        return Lessons(distillers, [distiller.lesson(batch) for distiller in distillers], weight)


class StudentMethod(nn.Module):
    """Maps a batch to the loss of a network of one width: the clean picture, and the pull of each teacher.

    Args:
        network: the student.
        distance: a name of `grainwise.training.distances.DISTANCES`.
        teaching: its teachers; without any it learns from the clean picture alone.

    Raises:
        InputError: the network has several widths; `SupernetMethod` teaches those.
    """

    def __init__(self, network: Network, *, distance: str = "l1", teaching: Teaching | None = None) -> None:
        """Check that there is one plan."""
        super().__init__()
        if network.space.narrowest != network.space.widest:
            raise InputError(
                f"this method teaches a network of one width, got one from {network.space.narrowest} to "
                f"{network.space.widest}; give its config one width a dim, or take the supernet's method"
            )
        self.network, self.distance = network, get_distance(distance)
        self.teaching = Teaching() if teaching is None else teaching

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one step: ``loss`` is the sum of ``clean`` and ``teacher0``, ``teacher1``."""
        plan = self.network.space.widest
        at, told = self.network.told(batch.sigma, batch.degradation)
        lessons = self.teaching.lessons(batch, step)
        answer = answer_of(self.network, self.teaching.taps, batch.noisy, plan, *at, **told)
        losses = {"clean": self.distance(answer.output, batch.clean)}
        losses |= {f"teacher{index}": pull for index, pull in enumerate(lessons.pulls(answer, batch.clean))}
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}


@dataclass(frozen=True, kw_only=True)
class TeachingSettings:
    """See `Teaching` and `Distiller`. Settings of a method whose student may have outside teachers.

    Args:
        teacher: a file that `load_teacher` reads, to learn from at the same noisy picture; or empty.
        teacher_plan: of that teacher; the widest where it is empty.
        teacher_taps: features to learn from it: names of modules, ``STUDENT=TEACHER``, or one name for both.
        quiet_teacher: a file that `load_teacher` reads, which sees a less noisy picture; or empty.
        quiet_plan, quiet_taps: as above, of that teacher.
        quiet_noise: the share of the noise that it sees.
        output: weight of the teachers' outputs.
        features: weight of their features, where there are taps.
        masked: listen to a teacher only where it is nearer to the clean picture.
        fade: the last share of the run over which the teachers' weight falls to 0.
        steps: of the whole run. A recipe sets it to those of its loop.
    """

    teacher: str = ""
    teacher_plan: str = ""
    teacher_taps: tuple[str, ...] = ()
    quiet_teacher: str = ""
    quiet_plan: str = ""
    quiet_taps: tuple[str, ...] = ()
    quiet_noise: float = 0.5
    output: float = 0.5
    features: float = 0.1
    masked: bool = True
    fade: float = 0.15
    steps: int = 0

    def teaching(self, network: Network, *, distance: str, seed: int) -> Teaching:
        """The teachers of these settings, for ``network``.

        Raises:
            InputError: settings of a teacher that is not there, or whatever else its parts refuse.
        """
        asked = (
            (self.teacher, self.teacher_plan, self.teacher_taps, 1.0, "teacher"),
            (self.quiet_teacher, self.quiet_plan, self.quiet_taps, self.quiet_noise, "quiet"),
        )
        distillers: list[Distiller] = []
        taps: list[str] = []
        for path, plan, pairs, noise, name in asked:
            if not path:
                if plan or pairs:
                    raise InputError(f"{name}_plan and {name}_taps belong to a teacher, and none is given")
                continue
            mine, theirs = zip(*(_tap(pair) for pair in pairs), strict=True) if pairs else ((), ())
            teacher = load_teacher(path, plan=plan, taps=theirs)
            if name == "quiet":
                teacher = LessNoisy(teacher, noise)
            distiller = self._distiller(network, teacher, mine, distance, seed + len(distillers))
            distillers.append(distiller)
            taps += mine
        return Teaching(distillers, taps, Fade(self.steps, self.fade) if distillers else None)

    def sources(self) -> dict[str, str]:
        """What the student owes its teachers, for its card: a line for each, and the licence of the teacher's weights."""
        told = {}
        for path in filter(None, (self.teacher, self.quiet_teacher)):
            if is_foreign(path):
                told[f"teacher {Path(path).name} (its data are not known)"] = "not known"
            else:
                card = load_weights(path).card
                told[f"teacher {Path(path).name}, taught with {'; '.join(card.data)}"] = card.licence
        return told

    def _distiller(
        self, network: Network, teacher: Teacher, taps: Sequence[str], distance: str, seed: int
    ) -> Distiller:
        check_taps(network, taps)
        widths = feature_widths(network, teacher, taps)
        return Distiller(
            teacher,
            distance=get_distance(distance),
            output=self.output,
            features=self.features if taps else 0.0,
            masked=self.masked,
            widths=widths,
            seed=seed,
        )


@dataclass(frozen=True, kw_only=True)
class StudentSettings(TeachingSettings):
    """See `StudentMethod` and `TeachingSettings`."""

    distance: str = "l1"

    def build(self, network: Network, *, seed: int) -> StudentMethod:
        """The method of these settings."""
        teaching = self.teaching(network, distance=self.distance, seed=seed)
        return StudentMethod(network, distance=self.distance, teaching=teaching)


def feature_widths(network: Network, teacher: Teacher, taps: Sequence[str]) -> list[tuple[int, int]]:
    """Channels of each tapped feature of (student at its widest, teacher), found by showing both a small grey picture."""
    if not taps:
        return []
    x = torch.full((1, network.facts.channels, 32, 32), 0.5)
    levels = network.facts.level_range
    batch = Batch(x, x, torch.zeros(1), None if levels is None else torch.tensor(levels[1]))
    training = network.training
    with torch.no_grad():
        at, told = network.told(batch.sigma, batch.degradation)
        answer = answer_of(network.eval(), taps, batch.noisy, network.space.widest, *at, **told)
        network.train(training)
        lesson = teacher(batch, ())
    return [(mine.shape[1], theirs.shape[1]) for mine, theirs in zip(answer.features, lesson.features, strict=True)]


def _tap(pair: str) -> tuple[str, str]:
    mine, _, theirs = pair.partition("=")
    return mine, theirs or mine
