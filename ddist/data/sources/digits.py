"""The bundled dataset: 8x8 handwritten digits that come with scikit-learn."""

import torch

from ddist.data.sources.base import Arrays, Request


def digits(request: Request) -> Arrays:
    """Read 1797 grey 8x8 digits (UCI optdigits), their values 0..16 stretched to 0..255.

    The set has no official split: every fourth image of each class, in the order in which
    scikit-learn gives them, is a test image (445), the others train (1352). Nothing is random, so
    the split is the same on every machine and for every seed. Nothing to download or to verify.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed by no other dataset

    raw = load_digits()
    x = torch.from_numpy((raw.images * 255 / 16).round()).to(torch.uint8).unsqueeze(1)
    y = torch.from_numpy(raw.target).long()
    rank = torch.zeros_like(y)  # of an image within its class
    for label in range(10):
        rank[y == label] = torch.arange(int((y == label).sum()))
    test = rank % 4 == 3
    return Arrays(x[~test], y[~test], x[test], y[test], tuple(str(label) for label in range(10)))
