"""The robust scores of :mod:`ddist.compare.robust`, of the sets whose runs have what they need."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ddist.compare.gather import Figure
from ddist.compare.published import Networks, cited, full_data
from ddist.compare.robust import augmentation_robust_score, label_robust_score
from ddist.compare.settings import evaluation
from ddist.errors import DdistError


@dataclass(frozen=True)
class Scores:
    """Of one distilled set under one network; None where a run is missing."""

    figure: Figure  # any of the set's
    label: float | None  # LRS
    label_control: float | None  # of random real images in the set's place
    augmentation: float | None  # ARS
    augmentation_control: float | None
    source: str  # the protocols, and whose accuracy on the whole dataset


def robust_scores(
    figures: Iterable[Figure], full: float | None, usual_networks: Networks
) -> list[Scores]:
    """Scores of each distilled set (by its folder) and network. ``full`` is the accuracy, a
    fraction, of training on the whole dataset; None takes the published one, where there is one.

    Where several runs serve, that with the highest accuracy of the distilled images counts, and
    the random images of the same run beside it.
    """
    sets: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for each in figures:
        if each.method != "random" and not each.objective:
            sets[each.artifact, each.network].append(each)
    found = [scores_of(members, full, usual_networks) for members in sets.values()]
    return [each for each in found if each.label is not None or each.augmentation is not None]


def scores_of(members: list[Figure], full: float | None, usual_networks: Networks) -> Scores:
    first, sources = members[0], []
    published = full_data(first, usual_networks) if full is None else None
    whole = f"task.full={full}"
    if published is not None:
        full, whole = published.mean, f"{100 * published.mean:.1f} % ({cited(published)})"
    paired = [each for each in members if each.random is not None]
    any_labels = best(each for each in paired if labels_of(each) != "hard" or has_hard(each))
    hard = best(each for each in members if labels_of(each) == "hard" or has_hard(each))
    trained = [each for each in paired if "epochs" in evaluation(each.config)]
    augmented = best(each for each in trained if augments(each))
    plain = best(each for each in trained if not augments(each))
    label = label_control = augmentation = augmentation_control = None
    if full is not None and any_labels is not None and hard is not None:
        assert any_labels.random is not None
        gained = any_labels.accuracy.mean, any_labels.random.mean
        label = label_robust_score(full, hard.accuracy.mean, *gained)
        if hard.random is not None:
            random = any_labels.random.mean
            label_control = label_robust_score(full, hard.random.mean, random, random)
        sources.append(f"LRS: {' and '.join(protocols(any_labels, hard))}, all images {whole}")
    if augmented is not None and plain is not None:
        assert augmented.random is not None and plain.random is not None
        randoms = augmented.random.mean, plain.random.mean
        augmentation = augmentation_robust_score(
            augmented.accuracy.mean, randoms[0], plain.accuracy.mean, randoms[1]
        )
        augmentation_control = augmentation_robust_score(
            randoms[0], randoms[0], randoms[1], randoms[1]
        )
        sources.append(f"ARS: {' and '.join(protocols(augmented, plain))}")
    source = "; ".join(sources)
    return Scores(first, label, label_control, augmentation, augmentation_control, source)


def protocols(*figures: Figure) -> list[str]:
    return list(dict.fromkeys(each.protocol for each in figures))


def best(figures: Iterable[Figure]) -> Figure | None:
    return max(figures, key=lambda each: each.accuracy.mean, default=None)


def labels_of(figure: Figure) -> str:
    """Which labels the protocol trained with: own, teacher or hard."""
    return str(evaluation(figure.config).get("labels", "own"))


def has_hard(figure: Figure) -> bool:
    """Whether the figure is of hard labels because the set has no others."""
    stored, own = figure.setting("teacher.store"), figure.setting("synthetic.labels")
    return labels_of(figure) == "own" and not stored and own == "hard"


def augments(figure: Figure) -> bool:
    """Whether the protocol changes the images that it trains on."""
    settings = evaluation(figure.config)
    augment = settings.get("augment")
    if augment and augment.get("strategy") != []:  # null, or a list without anything in it
        return True
    return settings.get("mix") is not None


def check_full(full: object) -> None:
    """Raise a DdistError unless ``full`` is a fraction or None."""
    if full is None:
        return
    if isinstance(full, bool) or not isinstance(full, (int, float)) or not 0 < full <= 1:
        raise DdistError(
            f"task.full is the accuracy of training on the whole dataset as a fraction, such as "
            f"0.848, not {full!r}."
        )
