"""Streams: named, repeatable, independent, and apart from torch's global generator."""

import itertools

import pytest
import torch

from ddist.seeding import derive, generator


def test_streams_never_change_between_versions() -> None:
    """These are in every artifact's provenance: other values would make old runs unrepeatable."""
    assert derive(0) == 4761921975702974394
    assert derive(3, "init", 1, 20) == 3240182416929629000


def test_the_same_keys_give_the_same_numbers() -> None:
    first, again = (torch.randn(5, generator=generator(1, "a", 2)) for _ in range(2))
    assert torch.equal(first, again)


def test_other_keys_give_other_seeds() -> None:
    keys = [(), ("a",), ("b",), ("a", 1), ("a", 11), ("a", 1, 1), (1, "a"), (1,), (11,)]
    seeds = [derive(seed, *k) for seed in range(3) for k in keys]
    assert len(set(seeds)) == len(seeds)


def test_seeds_are_what_torch_takes() -> None:
    seeds = [derive(seed, "x") for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # and use the whole range


def test_neighbouring_streams_are_unrelated() -> None:
    """The correlation of 20 neighbours' 10,000 numbers stays within 5 standard errors."""
    streams = [torch.randn(10_000, generator=generator(0, "real", k)) for k in range(20)]
    pairs = itertools.combinations(streams, 2)
    assert max(abs(float(a @ b)) / 10_000 for a, b in pairs) < 5 / 100


def test_the_global_generator_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    torch.randn(3, generator=generator(0, "x"))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.gpu
def test_a_generator_lives_where_it_is_asked_for() -> None:
    assert generator(0, device="cuda").device.type == "cuda"
