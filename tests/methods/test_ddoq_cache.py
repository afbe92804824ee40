"""DDOQ's clustering: its seed, and the key under which it is kept."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ddist.methods.ddoq
from ddist.generative import Identity
from ddist.generative.quantization import clvq
from ddist.methods import DDOQ
from ddist.seeding import derive

CLUSTERING: dict[str, Any] = {
    "passes": 1, "batch_size": 32, "start_size": 40, "reassignment": 0.0,
}  # fmt: skip


@pytest.fixture
def make(common: dict[str, Any]) -> Callable[..., DDOQ]:
    """All share a cache."""

    def build(**changes: Any) -> DDOQ:
        options = {"generative": Identity(), "ipc": 3, "weights": "sqrt", "decode": "decoder"}
        return DDOQ(**(common | options | CLUSTERING | changes))

    return build


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each class that is clustered anew."""
    calls: list[int] = []

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(1)
        return clvq(*args, **options)

    monkeypatch.setattr(ddist.methods.ddoq, "clvq", counted)
    return calls


@pytest.mark.parametrize("seed", [0, 7])
def test_each_class_is_clustered_by_the_seed_and_its_number(
    make: Callable[..., DDOQ], seed: int
) -> None:
    method = make(seed=seed)
    for c in range(10):
        rng = np.random.RandomState(derive(seed, "quantize", c) % 2**32)
        expected = clvq(method.latents.of_class(c), 3, **CLUSTERING, rng=rng)
        assert torch.equal(method.quantization[c]["centroids"], torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({"seed": 1}, True), ({"ipc": 4}, True), ({"passes": 2}, True), ({"batch_size": 20}, True),
        ({"start_size": 20}, True), ({"reassignment": 0.5}, True), ({"weights": "mass"}, False),
        ({"weights": "uniform"}, False), ({"decode": "medoid"}, False),
    ],
    ids=str,
)  # fmt: skip
def test_what_changes_the_clustering_has_a_key_of_its_own(
    make: Callable[..., DDOQ], computed: list[int], changes: dict[str, Any], anew: bool
) -> None:
    """The answer is what an empty cache gives, and nobody's who asked before."""
    first = make().quantization
    assert len(computed) == 10
    found = make(**changes).quantization
    assert len(computed) == (20 if anew else 10)
    for again, before in zip(make().quantization, first, strict=True):
        assert torch.equal(again["centroids"], before["centroids"])
    assert len(computed) == (20 if anew else 10)  # both are kept
    before, now = (torch.cat([each["centroids"] for each in q]) for q in (first, found))
    assert (before.shape == now.shape and torch.equal(before, now)) != anew
