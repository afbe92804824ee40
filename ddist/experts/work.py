"""Training what is missing of many experts, in one process or in several that share it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ddist.experts.store import Store
from ddist.inner.stacking import member
from ddist.networks.base import Weights
from ddist.stages.stopping import keeping
from ddist.storage import sharing


@dataclass(frozen=True)
class Work:
    """Experts that are to be in ``store`` up to ``epochs``.

    Processes share them by ``groups``, which have to be the same in all; one group is trained
    together. ``start(group)`` gives the initial weights of a group, stacked, ``train(group, epoch,
    weights)`` those after one more epoch, its ``epoch``-th. ``exact`` says whether the store keeps
    weights as they are, so that training can go on from them.
    """

    store: Store
    epochs: int
    groups: list[range]
    start: Callable[[range], Weights]
    train: Callable[[range, int, Weights], Weights]
    exact: bool

    def missing(self) -> list[tuple[int, int]]:
        """List (epoch, expert) of each file that is not there."""
        return self.store.missing(range(self.groups[-1].stop), self.epochs)

    def share(self, first: float) -> None:
        """Train all groups, beginning at ``first`` (a share of the way through them) and going
        around, except those that other processes train meanwhile; wait for those."""
        number = int(first * len(self.groups))
        order = self.groups[number:] + self.groups[:number]
        progress = sharing.SharedProgress(
            "experts",
            "epochs",
            count=lambda: sum(epoch > 0 for epoch, _ in self.missing()),
            shorter="Fewer experts take less: trajectories.num_experts=10, for example.",
        )

        def wait(group: range) -> None:
            with self.store.claimed(group.start, sharing.PATIENCE):
                pass  # whoever had it has finished, or has died

        with keeping(self._kept), progress:
            sharing.share(
                remaining=lambda: [
                    group for group in order if self.store.missing(group, self.epochs)
                ],
                claim=lambda group: self.claim(group, 0, progress.advance),
                wait=wait,
            )
        progress.end()

    def _kept(self) -> str:
        """Say what an interruption leaves."""
        num = (self.epochs + 1) * self.groups[-1].stop
        return (
            f"{num - len(self.missing()):,} of {num:,} files of experts are kept in "
            f"{self.store.folder}, and the same command trains the rest"
        )

    def claim(self, group: range, seconds: float, advance: Callable[[], None] | None) -> bool:
        """Train what ``group`` lacks, if it can be claimed within ``seconds`` (-1: however long it
        takes); ``advance`` is called after each epoch."""
        with self.store.claimed(group.start, seconds) as mine:
            if mine:
                self._train_missing(group, advance)
        return mine

    def _train_missing(self, group: range, advance: Callable[[], None] | None) -> None:
        # Where one file is missing the whole group is trained again for that epoch, as it was the
        # first time, so that the file comes out the same.
        epoch, weights = 0, self.start(group)
        for wanted in sorted({epoch for epoch, _ in self.store.missing(group, self.epochs)}):
            if self.exact:
                epoch, weights = self._latest(group, epoch + 1, wanted - 1) or (epoch, weights)
            self._write(group, epoch, weights)
            while epoch < wanted:
                epoch += 1
                weights = self.train(group, epoch, weights)
                self._write(group, epoch, weights)
                if advance is not None:
                    advance()

    def _latest(self, group: range, first: int, last: int) -> tuple[int, Weights] | None:
        """Return the last epoch from ``first`` to ``last`` of which all files are there, and what
        is in them, stacked, on the CPU; None if there is none."""
        for epoch in range(last, first - 1, -1):
            epoch_weights = [
                expert for expert in (self.store.read(k, epoch) for k in group) if expert
            ]
            if len(epoch_weights) == len(group):
                return epoch, {
                    n: torch.stack([expert[n] for expert in epoch_weights])
                    for n in epoch_weights[0]
                }
        return None

    def _write(self, group: range, epoch: int, weights: Weights) -> None:
        """Write those files of the stacked ``weights`` that are missing."""
        for k, expert in enumerate(group):
            if not self.store.has(expert, epoch):
                self.store.write(expert, epoch, member(weights, k))


def spread(shard: int) -> float:
    """Return 0, 1/2, 1/4, 3/4, 1/8, ... for shards 0, 1, 2, 3, 4, ...: the first n of them lie
    evenly in [0, 1) for any n (van der Corput)."""
    return int(f"{shard:b}"[::-1], 2) / (1 << shard.bit_length())
