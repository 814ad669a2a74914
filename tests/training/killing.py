"""Killing a command in the middle, and going on with it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch


def train_command(recipe: str, out: Path, cache: Path, settings: Sequence[str], *more: str) -> list[str]:
    """``grainwise train`` in a process of its own."""
    changes = [part for setting in settings for part in ("--set", setting)]
    base = [sys.executable, "-m", "grainwise", "train", recipe, "--out", str(out), "--cache", str(cache)]
    return [*base, *changes, *more]


def finish(command: Sequence[str]) -> None:
    """Run a command to its end."""
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-3000:]


def kill(command: Sequence[str], when: Callable[[], bool]) -> None:
    """Start a command, and kill it as soon as ``when`` is true; it must not have ended before."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as victim:
        deadline = time.monotonic() + 200
        while not when() and time.monotonic() < deadline and victim.poll() is None:
            time.sleep(0.002)
        ended = victim.poll()
        victim.send_signal(signal.SIGKILL)
        assert ended is None, victim.stderr.read()[-3000:] if victim.stderr else ended


def killed_and_resumed(recipe: str, folder: Path, settings: Sequence[str]) -> Path:
    """A run of one stage below ``folder`` that was killed and goes on ends as the unbroken one; gives its folder."""
    whole, killed, cache = folder / "whole", folder / "killed", folder / "cache"
    finish(train_command(recipe, whole, cache, settings))
    kill(train_command(recipe, killed, cache, settings), (killed / "checkpoint.pt").exists)
    assert not (killed / "weights.safetensors").exists()
    finish(train_command(recipe, killed, cache, settings, "--resume"))
    assert_same_checkpoints(whole, killed)
    return killed


def assert_same_checkpoints(one: Path, other: Path) -> None:
    """Two runs have learned the same, bit for bit."""
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (one, other)]
    assert states[0]["step"] == states[1]["step"]
    for part in ("average", "method"):
        for name, value in states[0][part].items():
            assert torch.equal(value, states[1][part][name]), name
