"""Loss of a few labelled images that predict the labels of others by kernel ridge regression
(Nguyen et al. 2021, arXiv 2011.00050). Everything is in double precision, and no matrix is
inverted."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.linalg import solve_triangular
from torch.nn.functional import one_hot

from ddist.errors import DdistError


def targets(labels: Tensor, num_classes: int) -> Tensor:
    """Return what is regressed on, float64 [N, K]: labels, one-hot or as they are, less their mean
    1/K."""
    if labels.is_floating_point():
        return labels.double() - 1 / num_classes
    return one_hot(labels, num_classes).double() - 1 / num_classes


def krr_loss(k_ss: Tensor, k_ts: Tensor, y_s: Tensor, y_t: Tensor, ridge: float) -> Tensor:
    """Return 1/2 mean (y_t - K_ts (K_ss + ridge tr(K_ss)/n I)^-1 y_s)^2 over targets and classes
    (paper, eq. 7; the mean as in the authors' code). K_ss [n, n], K_ts [T, n], y_s [n, K], y_t [T,
    K]."""
    return 0.5 * (y_t - k_ts @ coefficients(k_ss, y_s, ridge)).square().mean()


def coefficients(k_ss: Tensor, y_s: Tensor, ridge: float) -> Tensor:
    """Return (K_ss + ridge tr(K_ss)/n I)^-1 y_s, [n, K]: those of the images in a prediction."""
    return torch.cholesky_solve(y_s, factor(k_ss, ridge))


def head(features: Tensor, y_s: Tensor, ridge: float) -> Tensor:
    """Return the last layer [F, K] that kernel ridge regression finds for features [n, F], whose
    products are the kernel: Phi' (Phi Phi' + ridge tr(Phi Phi')/n I)^-1 y_s."""
    return features.T @ coefficients(features @ features.T, y_s, ridge)


def solve_labels(k_ss: Tensor, chunks: Iterable[tuple[Tensor, Tensor]], ridge: float) -> Tensor:
    """Return the labels y_s [n, K] with the least squared error on the targets, which come in
    ``chunks`` of (K_ts [T, n], y_t [T, K]): the paper's Label Solve.

    With K_ss + ridge tr(K_ss)/n I = L L' and F = K_ts L'^-1, a prediction is F w for y_s = L w; and
    w solves F'F w = F'y_t, where F'F gets the same relative ridge as K_ss.
    """
    lower = factor(k_ss, ridge)
    gram, moment = torch.zeros_like(k_ss), k_ss.new_zeros(())
    for k_ts, y_t in chunks:
        features = solve_triangular(lower, k_ts.T, upper=False)  # F', [n, T]
        gram = gram.addmm_(features, features.T)
        moment = moment + features @ y_t
    return lower @ torch.cholesky_solve(moment, factor(gram, ridge))


def factor(k: Tensor, ridge: float) -> Tensor:
    """Return L, lower triangular, with L L' = K + ridge tr(K)/n I, for K [n, n]. Raises DdistError
    where rounding has left no such L, or K holds NaN."""
    mean = k.diagonal().mean()
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(k + torch.diag_embed((ridge * mean).expand(len(k))))
    if failed.item():
        if not k.isfinite().all():
            raise DdistError(
                "The kernel of the images holds values that are not finite numbers, as the images "
                "have diverged: try a smaller method.lr.images."
            )
        raise DdistError(
            f"The kernel matrix of {len(k)} images cannot be factorised with a ridge of {ridge:g}, "
            "as some images are nearly equal: try a larger method.ridge, such as 1e-4."
        )
    return lower
