"""benchmarks/quality.py writes into a card what is true of whole sets, and how it was measured."""

import sys
from pathlib import Path

import pytest
from tests.training.benchmarks import benchmark

from grainwise.networks.checkpoint import Card, MeasuredPlan


def test_a_part_of_a_set_is_no_score_for_a_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(tmp_path), "--limit", "2", "--card", str(tmp_path / "weights.safetensors")]
    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments])
    with pytest.raises(SystemExit):
        benchmark("quality").main()
    assert "whole sets" in capsys.readouterr().err


def test_a_card_says_in_what_its_scores_were_measured() -> None:
    plans = (MeasuredPlan("a", 1, {"held out": 30.0}), MeasuredPlan("b", 2))
    card = Card(licence="", data=(), recipe="", commit="", steps=1, seconds=1, device="", plans=plans, notes="tuned")
    scores = {"a": {"cbsd68 25": 31.0}}
    told = benchmark("quality").with_scores(card, scores, "bfloat16")
    assert [plan.psnr for plan in told.plans] == [{"held out": 30.0, "cbsd68 25": 31.0}, {}]
    assert told.notes == "tuned; measured in bfloat16: cbsd68 25"
    assert benchmark("quality").with_scores(told, scores, "bfloat16") == told
