"""Makes `examples/noisy.png` from a clean photograph, and the before/after picture of the README with the program itself.

    python examples/make.py ../shared/data/test/kodak-full/21.webp

The photograph is Kodak's picture 21, released for unrestricted use; the noise is Gaussian of sigma 25, seed 0, in 8 bits.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from grainwise.core.pictures import Picture, read_picture, write_picture

HERE = Path(__file__).parent


def main() -> None:
    """Write both pictures."""
    clean = read_picture(Path(sys.argv[1])).pixels
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy = np.rint((clean + noise).clip(0, 255)).astype(np.uint8)
    write_picture(HERE / "noisy.png", noisy, Picture(noisy))
    command = ["grainwise", "denoise", str(HERE / "noisy.png"), "-o", str(HERE / "clean.png"), "--budget", "best"]
    subprocess.run([sys.executable, "-m", *command], check=True)
    restored = read_picture(HERE / "clean.png").pixels
    (HERE / "clean.png").unlink()
    half = clean.shape[1] // 2
    both = np.concatenate([noisy[:, :half], np.full((len(clean), 2, 3), 255, np.uint8), restored[:, half:]], 1)
    write_picture(HERE.parent / "docs" / "before-after.jpg", both, Picture(both), quality=90)


if __name__ == "__main__":
    main()
