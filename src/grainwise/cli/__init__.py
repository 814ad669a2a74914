"""The command line: parse, call, print. Exit codes are decided here and nowhere else.

0: all done. 1: some pictures of several failed. 2: nothing could be done as asked. 130: stopped by the user.
"""

import sys
from typing import NoReturn


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line, print errors as one line, and exit."""
    import typer

    from grainwise.cli.app import app
    from grainwise.core.errors import GrainwiseError

    try:
        code = app(args=arguments, prog_name="grainwise", standalone_mode=False)
    except GrainwiseError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        print("grainwise: stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        wrong_usage = getattr(error, "format_message", None)  # of click, or of the copy of it inside typer
        if wrong_usage is None:
            raise
        _fail(wrong_usage())
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"grainwise: error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)
