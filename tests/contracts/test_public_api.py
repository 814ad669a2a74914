"""The public names and signatures are frozen; importing them is light."""

import inspect
import statistics
import subprocess
import sys
import time

import pytest

import grainwise

PUBLIC = {
    "BudgetError", "Cancelled", "Denoiser", "GrainwiseError", "InputError", "JpegEstimate", "JpegRestorer", "NoiseEstimate",
    "PictureError", "PlanError", "Restoration", "ScaleEstimate", "TrainingError", "UnknownNameError", "Upscaler",
    "WeightsError", "__version__", "estimate_jpeg", "estimate_noise", "estimate_scale",
}  # fmt: skip


def test_the_public_names() -> None:
    assert set(grainwise.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(grainwise, name)
    with pytest.raises(AttributeError, match="no attribute 'Denoser'"):
        _ = grainwise.Denoser


def test_the_public_signatures() -> None:
    def names(function: object) -> list[str]:
        return list(inspect.signature(function).parameters)

    calls = {
        grainwise.Denoiser: ["budget", "strength", "sigma", "progress", "max_seconds", "level"],
        grainwise.JpegRestorer: ["budget", "quality", "progress", "max_seconds", "quality_of_file"],
        grainwise.Upscaler: ["scale", "budget", "progress", "max_seconds"],
    }
    for kind, arguments in calls.items():
        assert names(kind.from_pretrained) == ["name_or_path", "device", "dtype", "max_memory"]
        for call in (kind.__call__, kind.restore):
            assert names(call) == ["self", "image", *arguments]
    for estimate in (grainwise.estimate_noise, grainwise.estimate_jpeg, grainwise.estimate_scale):
        assert names(estimate) == ["image"]


def test_one_error_tree() -> None:
    errors = [v for n in PUBLIC if isinstance(v := getattr(grainwise, n), type) and issubclass(v, Exception)]
    assert len(errors) == 9
    assert all(issubclass(error, grainwise.GrainwiseError) for error in errors)


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_answer_at_once(flag: str) -> None:
    code = (
        "import sys\nfrom grainwise.cli import main\n"
        f"try: main(['{flag}'])\n"
        "finally: print('heavy:', sorted({'torch', 'numpy', 'pyvips'} & set(sys.modules)), file=sys.stderr)"
    )
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        times.append(time.perf_counter() - start)
        assert run.returncode == 0
        assert "grainwise" in run.stdout
        assert "heavy: []" in run.stderr
    assert statistics.median(times) < 1.0
