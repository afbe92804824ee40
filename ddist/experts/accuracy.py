"""How good experts are: bad ones are the commonest cause of bad trajectories."""

import logging

import torch
from torch import nn

from ddist.data import RealData
from ddist.data.ondisk import parts
from ddist.experts.store import Store
from ddist.init.random import device_of
from ddist.inner.predict import accuracy
from ddist.stages.progress import SHORT, Progress

log = logging.getLogger(__name__)

AT_ONCE = 1000  # test images in one call of an expert

NEAR_CHANCE = 0.1
"""An expert that has learned no more than this share of the way from chance to 1 has learned next
to nothing."""


def expert_accuracies(
    store: Store, network: nn.Module, source: RealData, num_experts: int, epoch: int
) -> list[float]:
    """Return and log the test accuracies of the experts after ``epoch`` epochs, as fractions. They
    are kept beside the weights, and measured only where they are not there."""
    known_accuracies = []
    with Progress("testing experts", "experts", num_experts, quiet=SHORT) as progress:
        for expert in range(num_experts):
            known = store.accuracy(expert, epoch)
            if known is None:
                known = measure(store, network, source, expert, epoch)
            if known is not None:
                known_accuracies.append(known)
            progress.to(expert + 1)
    if known_accuracies:
        say_accuracies(known_accuracies, chance_level(source), epoch)
    return known_accuracies


def measure(
    store: Store, network: nn.Module, source: RealData, expert: int, epoch: int
) -> float | None:
    """Measure and note the test accuracy of one expert; return None where its weights cannot be
    read, as whoever needs them trains them again."""
    weights = store.read(expert, epoch)
    if weights is None:
        return None
    device = device_of(network)
    stacked = {name: w[None].to(device, torch.float32) for name, w in weights.items()}
    space = source.normalization.to(device)
    batches = (
        (space(x.to(device)), y.to(device))
        for x, y in zip(parts(source.test.x, AT_ONCE), source.test.y.split(AT_ONCE), strict=True)
    )
    value = float(accuracy(network, stacked, batches))
    store.note_accuracy(expert, epoch, value)
    return value


def say_accuracies(accuracies: list[float], chance: float, epochs: int) -> None:
    """Log in one line the accuracies of experts after ``epochs`` epochs, with a warning where some
    of them know hardly more than ``chance``, the share of the largest class."""
    percent = [
        100 * value
        for value in (min(accuracies), sum(accuracies) / len(accuracies), max(accuracies))
    ]
    log.info(
        "Test accuracy of %d expert%s after %d epochs: %.1f %% at least, %.1f %% on average, "
        "%.1f %% at most.",
        len(accuracies),
        "" if len(accuracies) == 1 else "s",
        epochs,
        *percent,
    )
    bad = sum(value < chance + NEAR_CHANCE * (1 - chance) for value in accuracies)
    if bad:
        log.warning(
            "%d of %d experts are near chance (%.1f %%), and images that follow them learn "
            "nothing: try another trajectories.lr, more epochs, or a larger network.",
            bad,
            len(accuracies),
            100 * chance,
        )


def chance_level(source: RealData) -> float:
    """Return the share of the largest class of the test images."""
    return max(source.test.counts) / len(source.test)
