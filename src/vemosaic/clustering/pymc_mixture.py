"""A mixture of Gaussians: fitted by mini-batch variational inference in PyMC, which the paper tried beside k-means."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from vemosaic.clustering.mixture import Mixture, Start
from vemosaic.errors import SettingsError

STEPS = 2_000
BATCH = 1_024
LEARNING_RATE = 0.01
FIRST_SPREAD = 0.01
"""Standard deviation of the variational posterior at the beginning, where the sample has 1."""

LEAST_VARIANCE = 1e-3
"""What a component has along a direction in which it does not vary: means are not found more exactly by these steps."""


def check_pymc() -> None:
    """Check that PyMC is installed.

    Raises
    ------
    SettingsError
        If it is not.
    """
    if find_spec("pymc") is None:
        raise SettingsError("--clusterer pymc", "PyMC is not installed", "pip install 'vemosaic[pymc]'")


def fit_pymc_mixture(sample: npt.NDArray[np.float32], k: int, seed: int = 0) -> Mixture:
    r"""Fit Gaussians with diagonal covariances to a sample by automatic differentiation variational inference (ADVI).

    Section 4.2 of Han et al. 2022 names a mini-batch mixture "based on PyMC" and says no more of it. Here, with the
    sample shifted and scaled to unit variance,

    .. math::

        \pi = \mathrm{softmax}(a), \quad a_j \sim N(0, 1), \quad \mu_{jc} \sim N(0, 3^2), \quad
        s_{jc} \sim N(0, 2^2), \quad x \sim \sum_j \pi_j N(\mu_j, \mathrm{diag}(e^{2 s_j} + \epsilon))

    where the small variance ε is `LEAST_VARIANCE`. The posterior of a, μ and s is approximated by independent
    Gaussians, which begin at k-means and follow `STEPS` mini-batches of `BATCH` voxels by Adam; their means make the
    mixture. PyTensor compiles C code for it: without a C++ compiler the fit is a hundred times as slow.

    Parameters
    ----------
    sample
        ``(N, C)``.
    k
        Components.
    seed
        Of k-means, of the mini-batches and of the noise.

    Raises
    ------
    SettingsError
        If PyMC is not installed.
    VemosaicError
        If there are fewer different voxels than clusters, or an embedding is not finite.

    References
    ----------
    A. Kucukelbir et al. Automatic Differentiation Variational Inference. JMLR 18, 2017.
    """
    check_pymc()
    import pymc
    import pytensor

    start = Start.of(sample, k, seed)
    channels = start.points.shape[1]
    draws = np.random.default_rng(seed)

    def drawn() -> npt.NDArray[np.float64]:
        return start.points[draws.integers(len(start.points), size=min(BATCH, len(start.points)))]

    batch = pytensor.shared(drawn())
    with pymc.Model(), _silent():
        logits = pymc.Normal("logits", 0, 1, shape=k)
        means = pymc.Normal("means", 0, 3, shape=(k, channels))
        log_scales = pymc.Normal("log_scales", 0, 2, shape=(k, channels))
        pymc.CustomDist(
            "embedding",
            logits,
            means,
            log_scales,
            logp=_log_likelihood,
            signature="(k),(k,c),(k,c)->(c)",
            observed=batch,
            total_size=len(start.points),
        )
        spreads = np.diagonal(start.covariances, axis1=1, axis2=2)
        posterior = pymc.fit(
            STEPS,
            method="advi",
            random_seed=seed,
            start={"logits": np.log(start.weights), "means": start.means, "log_scales": np.log(spreads) / 2},
            start_sigma=dict.fromkeys(("logits", "means", "log_scales"), FIRST_SPREAD),
            obj_optimizer=pymc.adam(learning_rate=LEARNING_RATE),
            callbacks=[lambda *_: batch.set_value(drawn())],
            score=True,  # without, PyMC 5 neither seeds its noise nor draws it anew at each step
            progressbar=False,
        )
        found = {name: values.to_numpy() for name, values in posterior.mean_data.items()}
    weights = np.exp(found["logits"] - found["logits"].max())
    precisions = 1 / (np.exp(2 * found["log_scales"]) + LEAST_VARIANCE)
    whitening = np.sqrt(precisions)[:, :, None] * np.eye(channels)
    return start.mixture(weights / weights.sum(), found["means"], whitening)


def _log_likelihood(x: Any, logits: Any, means: Any, log_scales: Any) -> Any:
    """Logarithm of the density of each row of ``(B, C)``, up to a constant: ``(B,)``, a tensor of PyTensor."""
    from pytensor import tensor

    variances = tensor.exp(2 * log_scales) + LEAST_VARIANCE
    squares = (x[..., None, :] - means) ** 2 / variances  # (B, k, C)
    scores = tensor.special.log_softmax(logits) - 0.5 * (tensor.log(variances) + squares).sum(-1)
    return tensor.logsumexp(scores, axis=-1)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep PyMC from logging its loss among our own lines."""
    logger = logging.getLogger("pymc")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
