import dataclasses
import math

import pytest

from grainwise.core.errors import InputError
from grainwise.evaluation.bench import BenchResult, BenchRow
from grainwise.evaluation.environment import environment
from grainwise.evaluation.protocol import RGB_U8, Noise
from grainwise.evaluation.report import caption, cells, headings, markdown, plot

NET = BenchRow(
    name="net",
    psnr=29.163,
    ssim=0.81234,
    seconds_per_megapixel=0.2601,
    seconds_per_megapixel_spread=0.012,
    peak_extra_bytes=123_400_000,
    macs_per_pixel=50_100.0,
    device="cpu",
    dtype="bfloat16",
)
CLASSICAL = dataclasses.replace(
    NET, name="a|b", ssim=None, psnr=math.inf, peak_extra_bytes=None, macs_per_pixel=None, dtype="float32"
)


@pytest.fixture
def result():
    return BenchResult(
        rows=(NET, CLASSICAL),
        noise=Noise(sigma=25 / 255),
        protocol=RGB_U8,
        data="cbsd68",
        pictures=12,
        megapixels=1.85,
        repeats=3,
        environment=environment(commit="abc123"),
    )


def test_cells_match_their_headings():
    assert cells(NET) == ("net", "29.16", "0.8123", "0.26", "0.012", "123", "50.1K", "bfloat16", "cpu")
    assert cells(CLASSICAL)[1:3] == ("inf", "-")
    assert cells(dataclasses.replace(NET, macs_per_pixel=2.5e6))[6] == "2.50M"
    assert len(cells(NET)) == len(headings())


def test_markdown_is_a_table_with_what_it_holds_under(result):
    lines = markdown(result).splitlines()
    assert {line.count("|") for line in lines[:4]} == {len(headings()) + 1}
    assert lines[2].startswith("| net | 29.16 |")
    assert lines[3].startswith("| a/b |")
    assert lines[-1] == caption(result)
    for fact in ("cbsd68", "12 picture(s)", "gaussian:25", "rgb-u8", "thread(s)", "commit abc123", "allocator"):
        assert fact in caption(result)


class TestPlot:
    @pytest.fixture(autouse=True)
    def _needs_matplotlib(self):
        pytest.importorskip("matplotlib")

    @pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
    def test_writes_a_file(self, tmp_path, suffix, magic):
        path = tmp_path / "new" / f"plot{suffix}"
        plot(
            [NET, dataclasses.replace(NET, name="other", psnr=30.0, seconds_per_megapixel=2.0)], path, title="sigma 25"
        )
        assert path.read_bytes().startswith(magic)
        assert list(path.parent.iterdir()) == [path]

    def test_refusals_leave_no_file(self, tmp_path):
        with pytest.raises(InputError, match=r"got 'plot\.txt'"):
            plot([NET], tmp_path / "plot.txt")
        with pytest.raises(InputError, match="no rows"):
            plot([], tmp_path / "plot.png")
        with pytest.raises(InputError, match=r"got a\|b"):
            plot([NET, CLASSICAL], tmp_path / "plot.png")
        assert list(tmp_path.iterdir()) == []
