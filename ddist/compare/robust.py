"""DD-Ranking's robust scores (arXiv 2505.13300): what of an accuracy is the images' own.

All accuracies are fractions, as the paper means them: with per cent, which its package puts in, the
exponential leaves [0, 1] at once. Both scores are increasing and lie in [0, 1]; random real images
in place of the distilled ones, the control, have an improvement of 0.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ddist.compare.gather import Figure
from ddist.compare.published import Networks, cited, full_data
from ddist.compare.settings import evaluation


def label_robust_score(
    real_hard: float, syn_hard: float, syn_any: float, random_any: float, weight: float = 0.5
) -> float:
    """Return LRS, which soft labels alone do not raise:

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
    check_fractions(real_hard, syn_hard, syn_any, random_any, weight)
    return score(weight * (syn_any - random_any) - (1 - weight) * (real_hard - syn_hard))


def augmentation_robust_score(
    syn_aug: float, random_aug: float, syn_plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """Return ARS, which augmentation alone does not raise:

        beta = g (Acc_syn-aug - Acc_random-aug) + (1 - g) (Acc_syn-plain - Acc_random-plain)
        ARS = (e^beta - e^-1) / (e - e^-1)

    Args:
        syn_aug, random_aug: on the distilled and on random real images, with augmentation.
        syn_plain, random_plain: the same without.
        weight: g.
    """
    check_fractions(syn_aug, random_aug, syn_plain, random_plain, weight)
    return score(weight * (syn_aug - random_aug) + (1 - weight) * (syn_plain - random_plain))


def score(improvement: float) -> float:
    """Return (e^x - e^-1) / (e - e^-1): 0 for x = -1, 1 for x = 1."""
    low = math.exp(-1)
    return (math.exp(improvement) - low) / (math.e - low)


def check_fractions(*values: float) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise ValueError(f"accuracies and weights are fractions from 0 to 1, not {value}")


@dataclass(frozen=True)
class Scores:
    """Scores of one distilled set under one network; None where a run is missing."""

    figure: Figure  # any of the set's
    label: float | None  # LRS
    label_control: float | None  # of random real images in the set's place
    augmentation: float | None  # ARS
    augmentation_control: float | None
    source: str  # the protocols, and whose accuracy on the whole dataset


def robust_scores(
    figures: Iterable[Figure], full: float | None, networks: Networks
) -> list[Scores]:
    """Return the scores of each distilled set (by its folder) and network.

    Where several runs serve, that with the highest accuracy of the distilled images counts, and
    the random images of the same run beside it.

    Args:
        full: accuracy, a fraction, of training on the whole dataset; None takes the published one,
            where there is one.
        networks: the settings of conf/network, by name.
    """
    sets: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for figure in figures:
        if figure.method != "random" and not figure.objective:
            sets[figure.artifact, figure.network].append(figure)
    scores = [scores_of_set(members, full, networks) for members in sets.values()]
    return [score for score in scores if (score.label, score.augmentation) != (None, None)]


def scores_of_set(members: list[Figure], full: float | None, networks: Networks) -> Scores:
    full_source = f"task.full={full}"
    if full is None and (published := full_data(members[0], networks)) is not None:
        full, full_source = published.mean, f"{100 * published.mean:.1f} % ({cited(published)})"
    paired = [figure for figure in members if figure.random is not None]
    trained = [figure for figure in paired if "epochs" in evaluation(figure.config)]
    any_labels = best(f for f in paired if labels_of(f) != "hard" or has_only_hard_labels(f))
    hard = best(f for f in members if labels_of(f) == "hard" or has_only_hard_labels(f))
    augmented = best(figure for figure in trained if augments(figure))
    plain = best(figure for figure in trained if not augments(figure))
    label = label_control = augmentation = augmentation_control = None
    sources = []
    if full is not None and any_labels is not None and hard is not None:
        assert any_labels.random is not None
        random = any_labels.random.mean
        label = label_robust_score(full, hard.accuracy.mean, any_labels.accuracy.mean, random)
        if hard.random is not None:
            label_control = label_robust_score(full, hard.random.mean, random, random)
        sources.append(f"LRS: {protocols(any_labels, hard)}, all images {full_source}")
    if augmented is not None and plain is not None:
        assert augmented.random is not None and plain.random is not None
        random_aug, random_plain = augmented.random.mean, plain.random.mean
        augmentation = augmentation_robust_score(
            augmented.accuracy.mean, random_aug, plain.accuracy.mean, random_plain
        )
        augmentation_control = augmentation_robust_score(
            random_aug, random_aug, random_plain, random_plain
        )
        sources.append(f"ARS: {protocols(augmented, plain)}")
    return Scores(
        members[0], label, label_control, augmentation, augmentation_control, "; ".join(sources)
    )


def protocols(*figures: Figure) -> str:
    return " and ".join(dict.fromkeys(figure.protocol for figure in figures))


def best(figures: Iterable[Figure]) -> Figure | None:
    return max(figures, key=lambda figure: figure.accuracy.mean, default=None)


def labels_of(figure: Figure) -> str:
    """Return which labels the protocol trained with: own, teacher or hard."""
    return str(evaluation(figure.config).get("labels", "own"))


def has_only_hard_labels(figure: Figure) -> bool:
    """Tell whether the figure is of hard labels because the set has no others."""
    stored, own = figure.setting("teacher.store"), figure.setting("synthetic.labels")
    return labels_of(figure) == "own" and not stored and own == "hard"


def augments(figure: Figure) -> bool:
    """Tell whether the protocol changes the images that it trains on."""
    settings = evaluation(figure.config)
    augment = settings.get("augment")
    if augment and augment.get("strategy") != []:  # null, or a list without anything in it
        return True
    return settings.get("mix") is not None
