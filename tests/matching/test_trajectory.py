"""The distance that trajectory matching minimises."""

import torch

from ddist.matching.trajectory import similarity, trajectory_distance
from ddist.seeding import generator


def weights(key: str) -> dict[str, torch.Tensor]:
    stream = generator(0, key)
    return {
        "a": torch.randn(3, 4, generator=stream, dtype=torch.float64),
        "b": torch.randn(5, generator=stream, dtype=torch.float64),
    }


def flat(w: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([w["a"].flatten(), w["b"]])


def test_is_the_papers_ratio_of_all_weights_together() -> None:
    end, target, start = weights("end"), weights("target"), weights("start")
    expected = (flat(end) - flat(target)).norm() ** 2 / (flat(start) - flat(target)).norm() ** 2
    torch.testing.assert_close(trajectory_distance(end, target, start), expected)


def test_is_1_where_nothing_moved_and_0_at_the_target() -> None:
    target, start = weights("target"), weights("start")
    assert trajectory_distance(start, target, start) == 1
    assert trajectory_distance(target, target, start) == 0


def test_masked_entries_count_neither_above_nor_below() -> None:
    end, target, start = weights("end"), weights("target"), weights("start")
    keep = {name: w > 0 for name, w in weights("keep").items()}
    left = flat(keep).bool()
    a, b, c = (flat(each)[left] for each in (end, target, start))
    expected = (a - b).square().sum() / (c - b).square().sum()
    torch.testing.assert_close(trajectory_distance(end, target, start, keep), expected)


def test_similarity_is_symmetric_free_of_scale_and_0_for_opposite_signs() -> None:
    a, b = weights("a"), weights("b")
    ratio = similarity(a, b)
    for name in a:
        torch.testing.assert_close(ratio[name], similarity(b, a)[name])
        opposite = a[name].sign() != b[name].sign()
        assert opposite.any() and not ratio[name][opposite].any()
        assert (ratio[name][~opposite] > 0).all() and (ratio[name] <= 1).all()
    halves = similarity(a, {name: 0.5 * w for name, w in a.items()})
    assert all(torch.equal(each, torch.full_like(each, 0.5)) for each in halves.values())
    tiny = {"a": torch.tensor([1e-30, -1e-30, 1e-30])}  # whose product is 0
    twice = {"a": torch.tensor([2e-30, -2e-30, -2e-30])}
    torch.testing.assert_close(similarity(tiny, twice)["a"], torch.tensor([0.5, 0.5, 0.0]))
    none = {"a": torch.tensor([0.0, -0.0, 0.0])}
    assert not similarity(tiny, none)["a"].any()
    zero = {"a": torch.zeros(2)}
    assert torch.equal(similarity(zero, zero)["a"], torch.ones(2))
