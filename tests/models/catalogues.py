"""A made-up catalogue as episodes, for the models that are trained offline."""

import numpy as np

from models.demand.history import Episodes

EPOCHS = 20


def catalogue(seed: int, each: int = 40) -> Episodes:
    """Kind 0: small and elastic; kind 1: large and nearly inelastic. Both in both categories."""
    rng = np.random.default_rng(seed)
    n = 2 * each
    kind = np.arange(n) % 2
    ln_price = rng.normal(0.0, 0.2, (n, EPOCHS))
    elasticity = np.where(kind == 0, -3.5, -1.4)[:, None]
    orders = rng.poisson(20.0 * np.exp(elasticity * ln_price)).astype(float)
    size = rng.normal(np.where(kind == 0, 1.0, 9.0), 0.5)
    return Episodes(
        [f"P{i:03}" for i in range(n)],
        ["bags" if i % 4 < 2 else "toys" for i in range(n)],
        [{"size": float(size[i]), "colour": "red"} for i in range(n)],
        np.tile(np.arange(EPOCHS) * 2.0, (n, 1)),
        ln_price,
        np.zeros((n, EPOCHS)),
        np.zeros((n, EPOCHS), dtype=np.bool_),
        np.zeros((n, EPOCHS)),
        orders,
        np.full((n, EPOCHS), 2.0),
        np.full(n, 0.5),
        np.arange(n) % 3 > 0,
    )
