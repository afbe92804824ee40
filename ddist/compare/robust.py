"""DD-Ranking's scores (arXiv 2505.13300): what of an accuracy is the images' own.

All accuracies are fractions, as the paper means them: with per cent, which its package puts in, the
exponential leaves [0, 1] at once. Both scores are increasing and lie in [0, 1]; random real images
in place of the distilled ones, the control, have an improvement of 0.
"""

import math


def label_robust_score(
    real_hard: float, syn_hard: float, syn_any: float, random_any: float, weight: float = 0.5
) -> float:
    """LRS, which soft labels alone do not raise:

        HLR = Acc_real-hard - Acc_syn-hard        (what hard labels on the images lose)
        IOR = Acc_syn-any - Acc_random-any        (what the images gain over random ones)
        alpha = w IOR - (1 - w) HLR
        LRS = (e^alpha - e^-1) / (e - e^-1)

    Args:
        real_hard: of training on the whole dataset, hard labels.
        syn_hard: on the distilled images, hard labels.
        syn_any: on the distilled images, with the method's labels and protocol.
        random_any: on random real images, so many, with the same kind of labels and protocol.
        weight: w.
    """
    check(real_hard, syn_hard, syn_any, random_any, weight)
    return score(weight * (syn_any - random_any) - (1 - weight) * (real_hard - syn_hard))


def augmentation_robust_score(
    syn_aug: float, random_aug: float, syn_plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """ARS, which augmentation alone does not raise:

        beta = g (Acc_syn-aug - Acc_random-aug) + (1 - g) (Acc_syn-plain - Acc_random-plain)
        ARS = (e^beta - e^-1) / (e - e^-1)

    Args:
        syn_aug, random_aug: on the distilled and on random real images, with augmentation.
        syn_plain, random_plain: the same without.
        weight: g.
    """
    check(syn_aug, random_aug, syn_plain, random_plain, weight)
    return score(weight * (syn_aug - random_aug) + (1 - weight) * (syn_plain - random_plain))


def score(improvement: float) -> float:
    """(e^x - e^-1) / (e - e^-1): 0 for x = -1, 1 for x = 1."""
    low = math.exp(-1)
    return (math.exp(improvement) - low) / (math.e - low)


def check(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"accuracies and weights are fractions from 0 to 1, not {value}")
