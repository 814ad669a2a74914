"""The losses of VDNet, DANet and MPRNet against closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grainwise.core.errors import InputError
from grainwise.training.adversarial import DualAdversarial, blurred, gradient_penalty
from grainwise.training.distances import summed_l1
from grainwise.training.edges import edge_distance, laplacian
from grainwise.training.variational import (
    LOG_RANGE,
    VariationalLoss,
    estimated_variance,
    gaussian_divergence,
    gaussian_likelihood,
    inverse_gamma_divergence,
    known_variance,
)

SHAPE = (2, 3, 9, 11)


def some(low: float, high: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(SHAPE, generator=generator, dtype=torch.float64)


def test_the_likelihood_is_its_closed_form() -> None:
    special = pytest.importorskip("scipy.special")
    mean, m2, alpha, beta = some(-0.2, 0.2, 0), some(1e-6, 1e-3, 1), some(2, 40, 2), some(1e-3, 0.2, 3)
    expected = 0.5 * math.log(2 * math.pi) + 0.5 * np.mean(
        np.log(beta.numpy())
        - special.digamma(alpha.numpy())
        + (mean.numpy() ** 2 + m2.numpy()) * alpha.numpy() / beta.numpy()
    )
    got = gaussian_likelihood(mean, m2.log(), alpha.log(), beta.log())
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_the_likelihood_is_the_expectation_over_the_posterior() -> None:
    stats = pytest.importorskip("scipy.stats")
    mean, m2, alpha, beta = 0.05, 4e-4, 30.0, 0.3
    generator = np.random.default_rng(0)
    variance = stats.invgamma.rvs(alpha, scale=beta, size=200_000, random_state=generator)
    noise = generator.normal(mean, math.sqrt(m2), 200_000)
    sampled = -stats.norm.logpdf(noise, scale=np.sqrt(variance)).mean()
    one = [torch.full((1, 1, 1, 1), value, dtype=torch.float64) for value in (mean, m2, alpha, beta)]
    assert float(gaussian_likelihood(one[0], *(v.log() for v in one[1:]))) == pytest.approx(sampled, abs=0.01)


def test_the_gaussian_divergence_is_zero_where_it_must_be_and_its_closed_form_elsewhere() -> None:
    eps2, residual = 1e-4, some(-0.2, 0.2, 0)
    same = torch.full_like(residual, math.log(eps2))
    assert float(gaussian_divergence(residual, same, residual, eps2)) == pytest.approx(0, abs=1e-12)
    mean, m2 = some(-0.2, 0.2, 1), some(1e-6, 1e-3, 2)
    expected = np.mean(
        np.log(math.sqrt(eps2) / np.sqrt(m2.numpy())) + (m2.numpy() + (mean - residual).numpy() ** 2) / (2 * eps2) - 0.5
    )
    assert float(gaussian_divergence(mean, m2.log(), residual, eps2)) == pytest.approx(expected, rel=1e-9)


def test_the_inverse_gamma_divergence_is_zero_where_it_must_be_and_an_integral_elsewhere() -> None:
    stats = pytest.importorskip("scipy.stats")
    integrate = pytest.importorskip("scipy.integrate")
    loss, variance = VariationalLoss(), some(1e-4, 0.05, 0)
    log_beta0 = loss.log_beta0(variance)
    same = torch.full_like(variance, math.log(loss.alpha0))
    assert float(inverse_gamma_divergence(same, log_beta0, loss.alpha0, log_beta0)) == pytest.approx(0, abs=1e-11)
    alpha, beta, alpha0, beta0 = 9.0, 0.4, 23.5, 1.1
    mine, prior = stats.invgamma(alpha, scale=beta), stats.invgamma(alpha0, scale=beta0)
    expected, _ = integrate.quad(lambda v: mine.pdf(v) * (mine.logpdf(v) - prior.logpdf(v)), 1e-3, 2, limit=200)
    one = [torch.full((1, 1, 1, 1), value, dtype=torch.float64).log() for value in (alpha, beta, beta0)]
    assert float(inverse_gamma_divergence(one[0], one[1], alpha0, one[2])) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_sum_of_its_terms_with_clamped_logarithms() -> None:
    loss = VariationalLoss(eps2=5e-5)
    mean, residual, variance = (some(-0.1, 0.1, s).float() for s in (0, 1, 2))
    variance = variance.abs() + 1e-3
    log_m2, log_alpha, log_beta = (some(-40, 40, s).float() for s in (3, 4, 5))
    m2, alpha, beta = (value.clamp(*LOG_RANGE) for value in (log_m2, log_alpha, log_beta))
    expected = (
        gaussian_likelihood(mean, m2, alpha, beta)
        + gaussian_divergence(mean, m2, residual, 5e-5)
        + inverse_gamma_divergence(alpha, beta, 23.5, (24.5 * variance).log())
    )
    torch.testing.assert_close(loss((mean, log_m2), (log_alpha, log_beta), residual, variance), expected)
    torch.testing.assert_close(loss.follow((mean, log_m2), residual), gaussian_divergence(mean, m2, residual, 5e-5))


def test_gradients_of_the_loss() -> None:
    loss = VariationalLoss(eps2=1e-2, radius=2)
    shape = (1, 1, 2, 2)
    tensors = [torch.rand(shape, dtype=torch.float64, requires_grad=True) for _ in range(4)]
    residual, beta0 = torch.rand(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)

    def terms(e: torch.Tensor, m: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        divergence = gaussian_divergence(e, m, residual, loss.eps2)
        return gaussian_likelihood(e, m, a, b) + divergence + inverse_gamma_divergence(a, b, loss.alpha0, beta0)

    assert torch.autograd.gradcheck(terms, tensors)


def test_towards_no_prior_variance_it_is_a_squared_error() -> None:
    mean, residual = some(-0.1, 0.1, 0), some(-0.1, 0.1, 1)
    same = torch.full_like(mean, math.log(1e-6))
    squared = 5e5 * F.mse_loss(mean, residual)
    torch.testing.assert_close(gaussian_divergence(mean, same, residual, 1e-6), squared)


def test_the_estimated_variance_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    noisy, clean = some(0, 1, 0).float(), some(0, 1, 1).float()
    got = estimated_variance(noisy, clean)
    for index in range(SHAPE[0]):
        squared = ((noisy - clean)[index] ** 2).permute(1, 2, 0).numpy()
        expected = cv2.GaussianBlur(squared, (7, 7), 3, borderType=cv2.BORDER_REFLECT_101)
        np.testing.assert_allclose(got[index].permute(1, 2, 0).numpy(), expected, rtol=1e-5)
    assert float(estimated_variance(clean, clean).min()) == pytest.approx(1e-10)
    with pytest.raises(InputError, match="more than 3 pixels"):
        estimated_variance(noisy[:, :, :3], clean[:, :, :3])


def test_the_known_variance_is_the_square_of_a_figure_or_a_map() -> None:
    like = torch.zeros(2, 3, 4, 5)
    level = torch.tensor([0.0, 0.1])
    variance = known_variance(level, like)
    assert variance.shape == like.shape
    assert variance[0].unique() == pytest.approx(1e-10)
    assert float(variance[1].mean()) == pytest.approx(0.01)
    as_map = level.view(2, 1, 1, 1).expand(2, 1, 4, 5)
    assert torch.equal(known_variance(as_map, like), variance)


@pytest.mark.parametrize("wrong", [{"eps2": 0}, {"radius": 0}])
def test_a_prior_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="eps2"):
        VariationalLoss(**wrong)


class Linear(nn.Module):
    """A critic whose gradient has a known norm."""

    def __init__(self, norm: float) -> None:
        super().__init__()
        weight = torch.randn(6, *SHAPE[2:], dtype=torch.float64)
        self.weight = nn.Parameter(weight / weight.norm() * norm, requires_grad=False)

    def forward(self, clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        return (torch.cat([clean, noisy], 1) * self.weight).sum((1, 2, 3))


def test_the_gradient_penalty_of_a_linear_critic() -> None:
    real, made = (some(0, 1, 0), some(0, 1, 1)), (some(0, 1, 2), some(0, 1, 3))
    share = torch.rand(2, dtype=torch.float64)
    assert float(gradient_penalty(Linear(1), real, made, share)) == pytest.approx(0, abs=1e-9)
    assert float(gradient_penalty(Linear(3), real, made, share)) == pytest.approx(4, rel=1e-6)


def test_the_losses_of_the_game() -> None:
    game, critic = DualAdversarial(alpha=0.3), Linear(3).requires_grad_(True)
    clean, noisy = some(0, 1, 0), some(0, 1, 1)
    restored, generated = some(0, 1, 2).requires_grad_(), some(0, 1, 3).requires_grad_()
    shares = (torch.rand(2, dtype=torch.float64), torch.rand(2, dtype=torch.float64))
    rated = {
        name: critic(*pair).mean()
        for name, pair in {"real": (clean, noisy), "G": (clean, generated), "R": (restored, noisy)}.items()
    }
    expected = 0.3 * (rated["G"] - rated["real"] + 40) + 0.7 * (rated["R"] - rated["real"] + 40)
    loss = game.critic_loss(critic, (clean, noisy), restored, generated, shares)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert restored.grad is None
    assert generated.grad is None
    assert critic.weight.grad.abs().sum() > 0
    r = game.restorer_loss(critic, (clean, noisy), restored)
    torch.testing.assert_close(r, 1000 * (restored - clean).abs().mean() - 0.7 * rated["R"])
    g = game.generator_loss(critic, (clean, noisy), generated)
    blur = (blurred(noisy - clean) - blurred(generated - clean)).abs().mean()
    torch.testing.assert_close(g, 10 * blur - 0.3 * rated["G"])


def test_a_perfect_generator_pays_nothing_for_its_noise() -> None:
    game = DualAdversarial(alpha=0)
    clean, noisy = some(0, 1, 0), some(0, 1, 1)
    assert float(game.generator_loss(Linear(1), (clean, noisy), noisy)) == 0
    assert float(game.restorer_loss(lambda a, b: a.sum((1, 2, 3)) * 0, (clean, noisy), clean)) == 0


@pytest.mark.parametrize("wrong", [{"alpha": 2}, {"penalty": -1}, {"critic_steps": 0}])
def test_a_game_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        DualAdversarial(**wrong)


def test_the_blur_is_that_of_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    x = some(0, 1, 0).float()
    expected = cv2.GaussianBlur(x[0].permute(1, 2, 0).numpy(), (5, 5), -1, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(blurred(x)[0].permute(1, 2, 0).numpy(), expected, rtol=1e-5)


def test_the_summed_l1_counts_pixels_and_averages_pictures() -> None:
    x = torch.zeros(4, 3, 5, 6)
    assert float(summed_l1(x + 0.5, x)) == pytest.approx(0.5 * 3 * 5 * 6)


def test_the_edge_distance_sees_edges_alone() -> None:
    flat, x = torch.full((1, 3, 12, 14), 0.4), some(0, 1, 0)
    assert laplacian(flat)[:, :, 4:-4, 4:-4].abs().max() < 1e-6
    assert float(edge_distance(x, x)) == pytest.approx(1e-3)
    shifted = laplacian(torch.cat([x, x], 3) + 0.2)[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(shifted, laplacian(torch.cat([x, x], 3))[:, :, 4:-4, 4:-4])
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    assert float(laplacian(point)[0, 0, 4, 4]) == pytest.approx(1 - 4 * (0.16**2 + 4 * 0.02**2 + 4 * 0.0025**2))
