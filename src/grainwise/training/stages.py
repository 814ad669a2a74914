"""A run in stages: each has a folder of its own, goes on where it was killed, and hands a file to the next.

A recipe names its stages as data. What a stage needs of the run, the pictures, the network, where to write and whom to tell,
is handed to it as one `Run`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import nn

from grainwise.core.errors import InputError, TrainingError, UnknownNameError
from grainwise.core.files import whole_file
from grainwise.data.corpus import Corpus
from grainwise.networks.checkpoint import Weights, load_weights
from grainwise.networks.network import Network
from grainwise.networks.registry import name_of
from grainwise.training.held_out import HeldOut
from grainwise.training.kept_settings import check, keep, path_of
from grainwise.training.loop import CHECKPOINT, Progress, train
from grainwise.training.release import MOST_MEASURED, release

if TYPE_CHECKING:
    from grainwise.training.recipe import Recipe

WEIGHTS = "weights.safetensors"
COMMIT = "commit.txt"
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Where a stage stands.

    Attributes:
        stage: its name.
        done, total: in units of its own.
        words: what it does, and how well.
        seconds_left: about, or None where nothing is known yet.
        line: what is worth a line of a log, or empty.
    """

    stage: str
    done: int
    total: int
    words: str = ""
    seconds_left: float | None = None
    line: str = ""

    @classmethod
    def training(cls, stage: str, told: Progress, words: str, line: str = "") -> "Told":
        """Where the loop of a stage stands."""
        return cls(
            stage=stage, done=told.step, total=told.steps, words=words, seconds_left=told.seconds_left, line=line
        )


Tell = Callable[[Told], object]
"""Told where a stage stands; returning False stops a stage that trains, after a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the stages of a run share.

    Args:
        recipe: of the run.
        out: its folder.
        make_corpora: gives the pictures to train on and those held out; told how many are decoded, of how many.
        make_network: gives the network with its first weights.
        command: the command line that made the run, for the cards.
        commit: the commit of now; an earlier start of the run counts more.
        tell: see `Tell`.
        begin: called by a stage when it has all that it needs; `run_stages` writes down then that it starts, and with what
            settings, so that a run that is refused leaves nothing behind.
    """

    recipe: "Recipe"
    out: Path
    make_corpora: Callable[[Callable[[int, int], object]], tuple[Corpus, Corpus]]
    make_network: Callable[[], Network]
    command: str
    commit: str
    tell: Tell
    begin: Callable[["Stage"], object] = lambda _: None

    @cached_property
    def corpora(self) -> tuple[Corpus, Corpus]:
        """The pictures to train on and those held out, decoded at the first use."""
        return self.make_corpora(lambda n, all_: self.tell(Told(stage="decoding pictures", done=n, total=all_)))

    def folder(self, stage: str) -> Path:
        """The folder of a stage: that of the run where it is the only one."""
        return self.out if len(self.recipe.stages) == 1 else self.out / stage

    def held_out(self, *, size: int, count: int) -> HeldOut:
        """``count`` crops of ``size`` pixels a side of the pictures held out."""
        validation = self.recipe.validation
        return HeldOut(validation.build(self.corpora[1]), validation.label, size=size, count=count)

    def trained(self, stage: str) -> Weights:
        """What an earlier stage has trained, on the device of the run.

        Raises:
            TrainingError: it is not finished, or its weights are of another network than the recipe's.
        """
        path = self.folder(stage) / WEIGHTS
        if not path.is_file():
            raise TrainingError(f"there is no {path}; run the stage {stage} before, as --stages {ALL} does")
        weights = load_weights(path)
        fresh = self.make_network()
        if (name_of(weights.network), weights.network.config) != (name_of(fresh), fresh.config):
            raise TrainingError(
                f"{path} holds {name_of(weights.network)} {weights.network.config}, and the recipe asks for "
                f"{name_of(fresh)} {fresh.config}; give the settings that it was trained with"
            )
        weights.network.to(self.device)
        return weights

    @property
    def device(self) -> torch.device:
        """Where the network runs: on a GPU, where there is one and the recipe does not forbid it."""
        use = torch.cuda.is_available() and self.recipe.loop.device != "cpu"
        return torch.device("cuda" if use else "cpu")


class Stage(Protocol):
    """One stage of a recipe: a frozen dataclass of settings."""

    @property
    def name(self) -> str:
        """Of the stage, and of its folder."""

    @property
    def processes(self) -> int | None:
        """How many processes it can use; None for any number."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The settings of the recipe that decide its result, beside its own."""

    @property
    def free(self) -> tuple[str, ...]:
        """Its own settings that it may go on without."""

    def results(self, folder: Path) -> tuple[Path, ...]:
        """The files that it leaves; it is finished when all are there."""

    def started(self, folder: Path) -> bool:
        """Whether it left something to go on from."""

    def go(self, run: Run, folder: Path, *, resume: bool) -> None:
        """Run it, from its last checkpoint where ``resume`` says so; `Run.begin` comes when it has all that it needs."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The network of the recipe, by its method and loop; `WEIGHTS` is the result.

    Args:
        name: of the stage.
        measured: plans that are measured for the card, see `grainwise.training.release.recommended_plans`.
    """

    name: str = "training"
    measured: int = MOST_MEASURED
    processes: ClassVar[int | None] = None
    reads: ClassVar[tuple[str, ...]] = (
        "data",
        "network",
        "config",
        "hold_out",
        "init",
        "crops",
        "validation",
        "method",
        "loop",
        "predictor_crops",
    )
    free: ClassVar[tuple[str, ...]] = ()

    def results(self, folder: Path) -> tuple[Path, ...]:
        """See `Stage.results`."""
        return (folder / WEIGHTS,)

    def started(self, folder: Path) -> bool:
        """See `Stage.started`."""
        return (folder / CHECKPOINT).exists()

    def go(self, run: Run, folder: Path, *, resume: bool) -> None:
        """See `Stage.go`."""
        recipe = run.recipe
        batches = recipe.crops.build(run.corpora[0])
        for _, size in recipe.loop.crops:
            batches.check(size)
        network = run.make_network()
        held_out = run.held_out(size=recipe.loop.crop_size(recipe.loop.steps), count=48)
        last: dict[str, float] = {}

        def report(told: Progress) -> object:
            line = ""
            if told.scores != last:
                last.clear()
                last.update(told.scores)
                scores = ", ".join(f"{name} {value:.2f} dB" for name, value in told.scores.items())
                line = f"step {told.step}, {told.seconds / 60:.1f} min: {scores}"
            return run.tell(Told.training(self.name, told, f"loss {told.losses['loss']:.4g}", line))

        def validate(live: nn.Module) -> dict[str, float]:
            assert isinstance(live, Network)
            ends = {"narrowest": live.space.narrowest, "widest": live.space.widest}
            return {name: held_out.psnr(live, plan) for name, plan in ends.items()}

        method = recipe.method.build(network, seed=recipe.loop.seed)
        run.begin(self)
        result = train(recipe.loop, method, batches, folder, resume=resume, validate=validate, report=report)
        if is_main():
            path = folder / WEIGHTS
            release(
                recipe,
                network,
                result,
                batches,
                held_out,
                path,
                command=run.command,
                commit=run.commit,
                device=run.device,
                most=self.measured,
            )


def chosen_stages(recipe: "Recipe", names: str | None) -> tuple[Stage, ...]:
    """The stages of a recipe that ``names`` says: ``all``, or some with commas between; None for the first one.

    They keep the order of the recipe.

    Raises:
        InputError: ``names`` is empty.
        UnknownNameError: the recipe has no such stage.
    """
    if names == ALL:
        return recipe.stages
    known = [stage.name for stage in recipe.stages]
    if names is None:
        return recipe.stages[:1]
    if not names.strip():
        raise InputError(
            f"no stage is named; give {ALL}, or some of {', '.join(known)} with commas between, or leave --stages out "
            "for the first one"
        )
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise UnknownNameError(f"stage of {recipe.name}", name, [*known, ALL])
    return tuple(stage for stage in recipe.stages if stage.name in wanted)


def _check(stages: Sequence[Stage], run: Run, *, resume: bool) -> None:
    """Refuse before any picture is decoded what cannot run."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if resume and not any(begun(stage, run.folder(stage.name)) for stage in stages):
        raise TrainingError(
            f"{run.out} holds no checkpoint to resume of the stages {', '.join(stage.name for stage in stages)}; start them "
            "without resuming"
        )
    for stage in stages:
        place = run.folder(stage.name)
        if resume and begun(stage, place):
            check(run.out, run.recipe, stage)
        if not resume and begun(stage, place):
            raise TrainingError(f"{place} holds a run already; go on with --resume, or choose another folder")
        if stage.processes is not None and processes > stage.processes:
            raise TrainingError(
                f"the stage {stage.name} runs in {stage.processes} process, got {processes}; run it with --resume and "
                f"--out {run.out} without accelerate launch"
            )


def _done(stage: Stage, folder: Path) -> bool:
    return all(result.exists() for result in stage.results(folder))


def begun(stage: Stage, folder: Path) -> bool:
    """Whether a stage left something to go on from, or has finished."""
    return stage.started(folder) or any(result.exists() for result in stage.results(folder))


def run_stages(stages: Sequence[Stage], run: Run, *, resume: bool) -> None:
    """Run stages in their order; where ``resume`` says so, finished ones are left alone and a broken one goes on.

    Raises:
        TrainingError: a stage was begun already and shall not be resumed, or with other settings, there is nothing to resume,
            or a stage is for one process and several run.
    """
    _check(stages, run, resume=resume)
    run = replace(run, commit=_first_commit(run))
    run = replace(run, begin=partial(_write_down, run))
    for stage in stages:
        folder = run.folder(stage.name)
        if _done(stage, folder):
            run.tell(Told(stage=stage.name, done=1, total=1, words="done", line=f"{stage.name}: done before"))
            continue
        stage.go(run, folder, resume=resume and stage.started(folder))


def _write_down(run: Run, stage: Stage) -> None:
    """Keep the commit of the run and the settings of a stage that starts."""
    if not is_main():
        return
    with whole_file(run.out / COMMIT) as temporary:
        temporary.write_text(run.commit + "\n")
    if not (begun(stage, run.folder(stage.name)) and path_of(run.out, stage).exists()):
        keep(run.out, run.recipe, stage)


def _first_commit(run: Run) -> str:
    """The commit that the run was started from, as its folder keeps it; that of now where it starts."""
    note = run.out / COMMIT
    if note.is_file() and any(begun(stage, run.folder(stage.name)) for stage in run.recipe.stages):
        return note.read_text().strip()
    return run.commit


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", "0")) == 0
