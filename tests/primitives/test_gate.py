"""The gate's head."""

import pytest
import torch
import torch.nn.functional as F

from grainwise.core.errors import InputError
from grainwise.primitives.gate import GateHead, Norm, choose_route, expected_cost, gate_logits


def head(tap: int | None = None) -> GateHead:
    torch.manual_seed(0)
    made = GateHead(8, 3, hidden=16, tap=tap)
    with torch.no_grad():
        made.norm.mean.normal_()
        made.norm.variance.uniform_(0.5, 2)
        made.norm.weight.normal_()
        made.norm.bias.normal_()
    return made.eval()


def test_the_head_is_eq_10() -> None:
    made, reduced = head(), torch.rand(5, 8)
    norm = made.norm
    hidden = (reduced @ made.inner.weight.T - norm.mean) / (norm.variance + 1e-5).sqrt()
    expected = F.relu(hidden * norm.weight + norm.bias) @ made.outer.weight.T + made.outer.bias
    torch.testing.assert_close(made(reduced), expected)


def test_a_head_without_attention_reduces_the_tap_itself() -> None:
    made, pooled = head(tap=24), torch.rand(5, 24)
    reduced = F.relu(pooled @ made.reduce.weight.T + made.reduce.bias)
    plain = head()
    plain.load_state_dict({k: v for k, v in made.state_dict().items() if not k.startswith("reduce")})
    torch.testing.assert_close(made(pooled), plain(reduced))
    assert made.macs == 24 * 8 + 8 * 16 + 16 * 3
    assert plain.macs == 8 * 16 + 16 * 3


def test_training_takes_the_statistics_of_the_batch_and_keeps_them() -> None:
    made = head().train()
    x = torch.rand(64, 8)
    before = made.norm.mean.clone()
    hidden = made.inner(x)
    normal = F.batch_norm(hidden, None, None, made.norm.weight, made.norm.bias, training=True)
    torch.testing.assert_close(made(x), made.outer(F.relu(normal)))
    torch.testing.assert_close(made.norm.mean, 0.9 * before + 0.1 * hidden.mean(0))
    with pytest.raises(InputError, match="at least 2 pictures"):
        made(x[:1])
    assert made.eval()(x[:1]).shape == (1, 3)


def test_the_state_is_all_floats() -> None:
    assert all(value.is_floating_point() for value in head().state_dict().values())


def test_choice_and_expected_cost() -> None:
    logits, costs = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]), torch.tensor([1.0, 10.0, 100.0])
    assert choose_route(logits, torch.zeros(3)).tolist() == [1, 0]
    assert choose_route(logits, torch.tensor([0.0, -5.0, 0.0])).tolist() == [2, 0]
    torch.testing.assert_close(expected_cost(logits, costs), (logits.softmax(1) * costs).sum(1))


@pytest.mark.parametrize("training", [False, True])
def test_gradients(training: bool) -> None:
    norm = Norm(6).double().train(training)
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (6, 3), (2, 6), (2,)]
    tensors = [torch.rand(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(lambda r, w3, w4, b4: gate_logits(r, w3, norm, w4, b4), tensors)


def test_one_route_is_no_choice() -> None:
    with pytest.raises(InputError, match="at least 2 routes"):
        GateHead(8, 1)
