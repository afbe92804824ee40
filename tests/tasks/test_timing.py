"""How much longer more of the same takes."""

from ddist.tasks.timing import slope


def test_the_slope_is_that_of_the_largest_trial() -> None:
    asked: list[int] = []

    def took(units: int) -> float:
        asked.append(units)
        return 5.0 + 0.25 * units

    assert slope(took, 2, 1000, enough=20.0) == 0.25
    assert asked == [2, 8, 32, 128]  # 31.5 seconds longer than the first
    assert slope(took, 2, 10, enough=1e9) == 0.25
    assert asked[-1] == 10  # there is no more


def test_noise_never_makes_more_take_less() -> None:
    assert slope(lambda units: 3.0 - 0.01 * units, 1, 100, enough=1.0) == 0.0
    assert slope(lambda units: 3.0, 7, 7, enough=1.0) == 0.0
