import numpy as np
import pytest

from grainwise.evaluation.protocol import FloatPicture


@pytest.fixture
def scene() -> FloatPicture:
    """A synthetic RGB picture, 96 x 112: smooth shading, hard edges, a disc, some fine stripes; values 0.1 to 0.9."""
    y, x = np.mgrid[0:96, 0:112].astype(np.float32)
    shade = 0.35 + 0.2 * np.sin(x / 30) + 0.1 * np.cos(y / 20)
    disc = ((x - 60) ** 2 + (y - 50) ** 2 < 500).astype(np.float32)
    stripes = ((x // 4) % 2) * (y > 80)
    planes = [shade + 0.25 * disc, shade - 0.15 * disc + 0.15 * stripes, 0.9 * shade + 0.2 * (x > 80)]
    return np.clip(np.stack(planes, axis=2), 0.1, 0.9).astype(np.float32)
