"""A student and a teacher that run in milliseconds; always the same weights."""

import torch

from grainwise.networks.mdrn import MDRN

TINY = {"widths": ((16,), (16,), (16,), (16,)), "blocks": 1}


def student() -> MDRN:
    torch.manual_seed(1)
    return MDRN(**TINY)


def teacher_network() -> MDRN:
    torch.manual_seed(2)
    return MDRN(widths=((24,), (16,), (16,), (16,)), blocks=2)
