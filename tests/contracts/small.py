"""Constructor arguments that make the networks of the contract tests small; a network that is not named is tested whole."""

from typing import Any

SMALL: dict[str, dict[str, Any]] = {
    "vdnet": {"base": 16, "ratios": [0.5, 1.5]},
    "danet": {"base": 16, "ratios": [0.5, 1.0]},
    "mprnet": {"base": 16, "step": 8, "step_full": 8, "ratios": [0.5, 1.5]},
    "mallenet": {
        "widths": [8, 16],
        "blocks": 1,
        "malle_levels": [0, 2],
        "kernel": 3,
        "pre_pool": 2,
        "pools": 1,
        "predictor_blocks": 1,
    },
    "mdrn": {"blocks": 2},
    "hyperres": {"blocks": 2, "stream": [16, 24, 32], "inner": [8, 16]},
    "cfsnet": {"blocks": 2, "width": 16},
    "with_malle_conv": {
        "config": {"widths": [[16, 24], [16, 32]], "blocks": [1, 1]},
        "after": {"down.0": {"kernel": 3, "blocks": 1, "pools": 1, "width": 8}},
    },
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "half_unet for a level": (
        "half_unet",
        {"task": "dejpeg", "convs": "hyper", "widths": [[16, 24], [16, 32], [24, 32]], "blocks": [1, 1, 1]},
    ),
}
"""Networks that must hold the contracts in another configuration too: registered name and constructor arguments."""
