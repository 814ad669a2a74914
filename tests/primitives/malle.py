"""MalleConvs that do something, for tests."""

from torch import nn


def awake(module: nn.Module) -> nn.Module:
    """``module`` with its gates open, and norms that have seen something; for evaluation."""
    for name, tensor in module.state_dict().items():
        if name.endswith("gate.weight"):
            tensor.fill_(0.7)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "norm.bias")):
            tensor.normal_(std=0.2)
    return module.eval().requires_grad_(False)
