"""DD-Ranking's scores against the paper's equations."""

from math import e, exp

import pytest

from ddist.compare.robust import augmentation_robust_score, label_robust_score


def test_the_label_robust_score_is_the_papers() -> None:
    hlr, ior = 0.85 - 0.5, 0.6 - 0.4
    alpha = 0.5 * ior - 0.5 * hlr
    expected = (exp(alpha) - exp(-1)) / (e - exp(-1))
    assert label_robust_score(0.85, 0.5, 0.6, 0.4) == pytest.approx(expected)
    assert label_robust_score(0.85, 0.5, 0.6, 0.4, weight=1) == pytest.approx(
        (exp(0.2) - exp(-1)) / (e - exp(-1))
    )


def test_the_augmentation_robust_score_is_the_papers() -> None:
    beta = 0.25 * (0.7 - 0.5) + 0.75 * (0.4 - 0.45)
    expected = (exp(beta) - exp(-1)) / (e - exp(-1))
    assert augmentation_robust_score(0.7, 0.5, 0.4, 0.45, weight=0.25) == pytest.approx(expected)


def test_both_lie_between_0_and_1() -> None:
    assert label_robust_score(1, 0, 0, 1) == pytest.approx(0)
    assert label_robust_score(0, 1, 1, 0) == pytest.approx(1)
    assert augmentation_robust_score(0, 1, 0, 1) == pytest.approx(0)
    assert augmentation_robust_score(1, 0, 1, 0) == pytest.approx(1)
    # the control, random images in the set's place, is what e^0 gives
    assert augmentation_robust_score(0.6, 0.6, 0.3, 0.3) == pytest.approx(0.2689, abs=1e-4)


def test_better_images_never_have_a_lower_score() -> None:
    grid = [k / 10 for k in range(11)]
    found = [label_robust_score(0.9, accuracy, 0.5, 0.4) for accuracy in grid]
    assert found == sorted(found)
    found = [label_robust_score(0.9, 0.5, accuracy, 0.4) for accuracy in grid]
    assert found == sorted(found)


def test_per_cent_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fractions from 0 to 1, not 84\.8"):
        label_robust_score(84.8, 50.0, 60.0, 40.0)
