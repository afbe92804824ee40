"""Rank correlations, beside SciPy's, and what is said of few settings."""

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from ddist.compare.ranking import agreements, first_choice, kendall, scatter, spearman


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_scipys(ties: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 15))
    y = x + y
    if ties:
        x, y = x.round(), y.round()
    for ours, scipys in ((spearman, spearmanr), (kendall, kendalltau)):
        expected = [scipys(a, b).statistic for a, b in zip(x, y, strict=True)]
        np.testing.assert_allclose(ours(x, y), expected, atol=1e-12)


def test_without_any_order_there_is_no_correlation() -> None:
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    (one, *_) = agreements({"proxy": [0.5, 0.5, 0.5]}, [0.1, 0.2, 0.3], [], seed=0)
    assert (one.value, one.low, one.high) == (None, None, None)


def test_the_same_accuracies_agree_and_reversed_ones_do_not() -> None:
    truth = np.random.default_rng(0).random(12).tolist()
    reversed_ = [-value for value in truth]
    found = agreements({"same": truth, "reversed": reversed_}, truth, [5, 12, 40], seed=0)
    assert {agreement.top for agreement in found} == {None, 5}  # 12 are all, and 40 more
    for agreement in found:
        assert agreement.value == pytest.approx(1 if agreement.proxy == "same" else -1)
    assert first_choice(truth, truth) == max(truth) and first_choice(reversed_, truth) == min(truth)


def test_the_best_are_those_of_training_on_all_images() -> None:
    truth = [0.1, 0.2, 0.3, 0.7, 0.8, 0.9]
    proxy = [0.3, 0.2, 0.1, 0.7, 0.8, 0.9]  # wrong only among the worst
    found = {a.top: a.value for a in agreements({"p": proxy}, truth, [3], 0) if a.measure[0] == "s"}
    assert found[3] == pytest.approx(1) and found[None] < 1


def test_intervals_cover_the_correlation_of_the_population() -> None:
    """Of 100 samples of 30, some 95 have the true Spearman of a normal pair in their interval."""
    rng, rho = np.random.default_rng(0), 0.6
    true = 6 / np.pi * np.arcsin(rho / 2)
    covered = 0
    for seed in range(100):
        x = rng.normal(size=30)
        y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=30)
        (one,) = [a for a in agreements({"p": x}, y, [], seed) if a.measure == "spearman"]
        covered += one.low <= true <= one.high
    assert 85 <= covered <= 99


def test_the_picture_is_a_png() -> None:
    assert scatter({"a": [0.1, 0.2], "b": [0.3, 0.3]}, [0.5, 0.6]).startswith(b"\x89PNG")
