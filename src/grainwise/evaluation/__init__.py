"""Protocols, metrics, baselines, benchmarks. What is tested is any callable (noisy picture, sigma) -> picture."""
