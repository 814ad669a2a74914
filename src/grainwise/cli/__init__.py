"""The command line: parse, call, print. Exit codes are decided here and nowhere else.

0: all done. 1: some pictures of several failed. 2: nothing could be done as asked. 130: stopped by the user. 141: nobody
reads any more what is printed.
"""

import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

STOPPED = 130
UNREAD = 141


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line, print errors as one line, and exit."""
    code: object = STOPPED
    interrupts = _Interrupts()
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    try:
        from grainwise.cli.app import app

        signal.signal(signal.SIGTERM, _terminate)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        code = app(args=arguments, prog_name="grainwise", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    except (BrokenPipeError, SystemExit) as error:
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise  # typer turns the one into the other
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(STOPPED if interrupts.came else UNREAD)
    except Exception as error:
        if not interrupts.came:
            from grainwise.core.errors import GrainwiseError

            if isinstance(error, OSError) and error.filename is None:
                _fail(
                    f"cannot print or write: {error.strerror or error}; check the free space, and where the output goes"
                )
            if isinstance(error, GrainwiseError | OSError):
                _fail(str(error))
            wrong_usage = getattr(error, "format_message", None)  # of click, or of the copy of it inside typer
            if wrong_usage is None:
                raise
            _fail(wrong_usage())
    if code == STOPPED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left is to let go
        print("grainwise: stopped", file=sys.stderr)  # noqa: T201
    sys.exit(code if isinstance(code, int) else 0)


class _Interrupts:
    """Remembers that the user stopped the command: C code, and imports, may tell of that by errors of their own.

    Where interrupts are ignored, as of a command in the background, they stay so.

    Attributes:
        came: whether there was one.
    """

    def __init__(self) -> None:
        self.came = False
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, self._take)

    def _take(self, number: int, frame: FrameType | None) -> NoReturn:
        self.came = True
        raise KeyboardInterrupt


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End like any error does, so that temporary files are removed."""
    sys.exit(128 + number)


def _fail(message: str) -> NoReturn:
    print(f"grainwise: error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)
