"""The reconstruction term: the latent variable must tell how the patch looks."""

from __future__ import annotations

from torch import Tensor


def reconstruction(patches: Tensor, reconstructed: Tensor) -> Tensor:
    r"""Squared error of the reconstruction (Han et al. 2022, Eq. 1).

    .. math:: L_{recon} = \frac{1}{b a^3} \| x - \mu_x \|^2

    The terms of an anchor and of each of its positives are summed, as in the reference implementation: only the
    number of samples *b* and of grid points *a*\ :sup:`3` divide.

    Parameters
    ----------
    patches, reconstructed
        Patches as the encoder saw them and as the decoder gives them back, ``(B, R, Z, Y, X)``: B samples, R
        replicates.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes differ or are not five-dimensional.
    """
    if patches.ndim != 5 or patches.shape != reconstructed.shape:
        raise ValueError(
            f"expected two tensors (B, R, Z, Y, X), got {tuple(patches.shape)} and {tuple(reconstructed.shape)}"
        )
    return (patches - reconstructed).square().sum() / (patches.shape[0] * patches[0, 0].numel())
