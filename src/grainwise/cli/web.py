"""grainwise web."""

from typing import Annotated

import typer

from grainwise.cli.options import Device, Dtype


def web(
    port: Annotated[int, typer.Option(help="To listen on, on this machine only; 0 takes any that is free.")] = 8017,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Weights in place of those that ship for their task, by name or file; may be given for each task.",
            show_default="default, dejpeg and upscale",
        ),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_memory: Annotated[float | None, typer.Option(help="What the process may take, in MB.")] = None,
    max_upload: Annotated[float, typer.Option(help="The largest file that is taken, in MB.")] = 512,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")] = True,
) -> int:
    """Open the page: drop a picture, clean or enlarge it, compare, download. Nothing leaves this machine."""
    import webbrowser

    from grainwise.cli.restorers import restorer_for
    from grainwise.core.errors import InputError
    from grainwise.networks.checkpoint import SHIPPED
    from grainwise.web.server import PageServer, serve

    given = [restorer_for(name, device=device, dtype=dtype, max_memory=max_memory) for name in model or []]
    shipped = [restorer_for(name, device=device, dtype=dtype, max_memory=max_memory) for name in SHIPPED]
    taken = {restorer.task for restorer in given}
    try:
        server = PageServer(
            [*given, *(each for each in shipped if each.task not in taken)], port=port, max_upload=max_upload
        )
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port}: {(error.strerror or str(error)).lower()}; try --port 0"
        ) from None

    def ready(url: str) -> None:
        typer.echo(f"{url}  (Ctrl-C ends it)")
        if browser:
            webbrowser.open(url)

    try:
        serve(server, ready)
    except KeyboardInterrupt:
        return 0
    return 0
