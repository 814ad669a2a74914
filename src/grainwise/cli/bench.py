"""grainwise bench."""

import json
from pathlib import Path
from typing import Annotated

import typer

from grainwise.cli.options import Device, Dtype, Json, Model, named

BUDGETS, NOISE, REPEATS = "fast,balanced,best", "gaussian:25", 3
BUSY = 1.3
"""A spread of the times that says that the machine was busy."""


def bench(
    data: Annotated[Path | None, typer.Option(help="A folder of clean pictures.")] = None,
    against: Annotated[str, typer.Option(help="Classical denoisers: opencv-nlm, wavelet, tv, bm3d; with commas.")] = "",
    model: Model = "default",
    budgets: Annotated[str, typer.Option(help="Budgets of ours, with commas.")] = BUDGETS,
    noise: Annotated[str, typer.Option(help="gaussian:25 (255 sigma).")] = NOISE,
    limit: Annotated[int | None, typer.Option(help="Take the first so many pictures.")] = None,
    repeats: Annotated[int, typer.Option(help="Timed calls of each method and picture.")] = REPEATS,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", parser=named, metavar="PATH", help="Folder for bench.json, .md and .png."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Only measure this machine: the fastest dtype, and the seconds of every plan, for --max-seconds.",
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Compare our plans with classical denoisers: quality, speed and memory, side by side in one run."""
    if calibrate:
        given = {"--data": data, "--against": against, "--out": out, "--limit": limit}
        given |= {"--budgets": budgets != BUDGETS, "--noise": noise != NOISE, "--repeats": repeats != REPEATS}
        return _calibrate([name for name, value in given.items() if value], model, device, dtype, as_json)
    from rich.console import Console
    from rich.table import Table

    from grainwise.cli.restorers import ALLOCATOR, pictures_in, restorer_of
    from grainwise.core.commit import current_commit
    from grainwise.core.errors import InputError
    from grainwise.core.files import try_writing, whole_file
    from grainwise.evaluation import report
    from grainwise.evaluation.baselines import get_baseline
    from grainwise.evaluation.bench import Contender, dense_conv_rate
    from grainwise.evaluation.bench import bench as run
    from grainwise.evaluation.protocol import parse_noise
    from grainwise.runtime.budget import choose_plan
    from grainwise.runtime.denoiser import Denoiser
    from grainwise.runtime.machine import tune_allocator

    if data is None:
        raise InputError("a comparison needs pictures: --data FOLDER; or measure this machine alone with --calibrate")
    noisy = parse_noise(noise)
    if out is not None:
        report.check_plot()
        try_writing(out / "bench.json")
        if noisy.sigma == 0:
            raise InputError(
                "a plot needs noise: without it PSNR is infinite; leave out --out, or take another --noise"
            )
    names = [name.strip() for name in against.split(",") if name.strip()]
    denoiser = Denoiser.from_pretrained(model, device=device, dtype=dtype)  # type: ignore[arg-type]
    kind = str(denoiser.dtype).removeprefix("torch.")
    contenders = [
        Contender(
            name=f"grainwise {budget}",
            restore=restorer_of(denoiser, budget),
            macs_per_pixel=choose_plan(denoiser.weights, budget).measured.macs_per_pixel,
            device=str(denoiser.device),
            dtype=kind,
        )
        for budget in (text.strip() for text in budgets.split(","))
    ]
    contenders += [Contender(name=name, restore=get_baseline(name)) for name in names]
    result = run(
        contenders,
        pictures_in(data, limit),
        noisy,
        repeats=repeats,
        data=data.resolve().name,
        commit=current_commit(),
        settle=0.25,
        allocator=ALLOCATOR if tune_allocator() else "",
    )
    rate = dense_conv_rate(denoiser.dtype)
    line = {**result.to_json(), "dense_conv_gmacs_per_second": rate}
    if out is not None:
        with whole_file(out / "bench.json") as temporary:
            temporary.write_text(json.dumps(line, indent=1) + "\n")
        with whole_file(out / "bench.md") as temporary:
            temporary.write_text(report.markdown(result))
        report.plot(result.rows, out / "bench.png")
    if as_json:
        typer.echo(json.dumps(line))
        return 0
    table = Table(*report.headings())
    for row in result.rows:
        table.add_row(*report.cells(row))
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    console.print(report.caption(result), highlight=False)
    console.print(f"dense 3x3 convolution, 64 channels, {kind}: {rate:.0f} GMAC/s", highlight=False)
    return 0


def _calibrate(others: list[str], model: str, device: str, dtype: str, as_json: bool) -> int:
    """Measure the cost model of this machine, keep it and show it; ``others`` are options of a comparison."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from grainwise.cli.restorers import restorer_for
    from grainwise.core.errors import InputError
    from grainwise.runtime.dtypes import fastest

    if others:
        raise InputError(f"--calibrate measures this machine alone; leave out {' and '.join(others)}")
    restorer, seconds, choice = restorer_for(model, device=device, dtype=dtype), dict[str, float](), None
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=as_json or not errors.is_terminal) as bar:
        task = bar.add_task("measuring", total=1.0)
        if dtype == "auto":
            timed, choice = restorer.time_dtypes()
            seconds.update(timed)
            restorer = restorer_for(model, device=device, dtype=fastest(seconds))
        costs, kept = restorer.time_machine(tell=lambda share: bar.update(task, completed=share))
    if as_json:
        line = {**costs.to_json(), "kept": None if kept is None else str(kept)}
        line |= {"seconds_by_dtype": seconds, "kept_dtype": None if choice is None else str(choice)}
        typer.echo(json.dumps(line))
        return 0
    table = Table("MACs/px", "s/MP", "in large tiles", "ms a tile", "ms at the start")
    for cost in costs.plans.values():
        rates = (cost.per_pixel, cost.per_pixel + cost.per_pixel_beyond)
        numbers = (*(1e6 * rate for rate in rates), 1e3 * cost.per_tile, 1e3 * cost.start)
        table.add_row(f"{cost.macs_per_pixel:.0f}", *(f"{number:.3f}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(
        ", ".join(f"{key} {value[:40]}" for key, value in costs.machine.items()), highlight=False, soft_wrap=True
    )
    if seconds:
        each = ", ".join(f"{name} {1e3 * taken:.0f} ms" for name, taken in seconds.items())
        taken_hence = f"--dtype auto is {fastest(seconds)}" if choice is not None else "not kept"
        console.print(f"a tile takes {each}: {taken_hence}", highlight=False, soft_wrap=True)
    if costs.spread > BUSY:
        console.print(
            f"the slow tenth took {costs.spread:.1f} times the median: measure again when the machine is quiet"
        )
    where = f"kept in {kept}" if kept is not None else "not kept: the cache folder cannot be written"
    console.print(where, highlight=False, soft_wrap=True)
    return 0
