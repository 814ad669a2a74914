"""grainwise web, as a process."""

import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Ran

DOCS = (Path(__file__).parents[2] / "docs" / "web.md").read_text()
COMMANDS = re.findall(r"^grainwise web.*$", DOCS, re.MULTILINE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_stopped(number: int, code: int) -> None:
    command = [sys.executable, "-m", "grainwise", "web", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert b"grainwise" in answer.read()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err == ""


def test_a_port_that_is_taken(run: Callable[..., Ran]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = run("web", "--port", taken.getsockname()[1], "--no-browser")
    assert ran.code == 2
    assert ran.out == ""
    assert "--port 0" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_limits_are_refused(run: Callable[..., Ran]) -> None:
    for option, value, words in (("--max-upload", "0", "above 0"), ("--port", "70000", "65535")):
        ran = run("web", option, value, "--no-browser")
        assert ran.code == 2
        assert words in ran.err


def test_models_of_a_task_that_is_there_twice_are_refused(run: Callable[..., Ran]) -> None:
    ran = run("web", "--model", "dejpeg", "--model", "dejpeg", "--port", "0", "--no-browser")
    assert ran.code == 2
    assert "two for dejpeg" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_docs_show_exists(command: str, run: Callable[..., Ran]) -> None:
    helped = run("web", "--help").out
    for option in (word for word in shlex.split(command.split("  ")[0]) if word.startswith("-")):
        assert re.search(rf"(^|[\s,/]){re.escape(option)}\b", helped), f"no {option}"
