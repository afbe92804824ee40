"""The field's common protocol: ordinary training on the distilled images, from fresh weights."""

import torch
from torch import Tensor, nn

from ddist.artifact import DistilledDataset
from ddist.data import RealData
from ddist.data.split import Split
from ddist.evaluation.protocol import Protocol
from ddist.evaluation.replay import in_chunks
from ddist.init import InitialWeights, Random
from ddist.inner.fit import fit
from ddist.inner.predict import accuracy
from ddist.seeding import generator


class Training(Protocol):
    """SGD with momentum on the distilled set (Zhao et al. 2021 and most papers since).

    The learning rate falls to a tenth once, at epoch ``epochs // 2 + 1``, with a fresh momentum
    buffer, and there are ``epochs + 1`` epochs: what the reference code does, kept so that numbers
    compare.

    Args:
        name: of the protocol, in results.
        num_networks: trained from torch's default initial weights.
        epochs, batch_size, lr, momentum, weight_decay: of SGD.
        chunk: networks held at a time.
    """

    def __init__(
        self,
        *,
        name: str,
        num_networks: int,
        epochs: int,
        batch_size: int,
        lr: float,
        momentum: float,
        weight_decay: float,
        chunk: int,
    ) -> None:
        self.name = name
        self.num_networks = num_networks
        self.epochs, self.batch_size = epochs, batch_size
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.chunk = chunk

    def accuracies(
        self,
        distilled: DistilledDataset,
        data: RealData,
        split: Split,
        network: nn.Module,
        init: InitialWeights,
        seed: int,
    ) -> tuple[Tensor, dict[str, float]]:
        start = Random("default", seed).held_out(network, self.num_networks)
        weighed = distilled.weights
        found: list[Tensor] = []
        for weights in in_chunks(start, self.chunk):
            first = sum(map(len, found))
            count = len(next(iter(weights.values())))
            trained = fit(
                network,
                weights,
                distilled.images.to(data.device),
                distilled.labels.to(data.device),
                sample_weights=None if weighed is None else weighed.to(data.device),
                epochs=self.epochs + 1,
                batch_size=self.batch_size,
                optimizer="sgd",
                lr=self.lr,
                momentum=self.momentum,
                weight_decay=self.weight_decay,
                lr_drops=[self.epochs // 2 + 1],
                reset_momentum=True,
                generators=[generator(seed, "evaluate", first + k) for k in range(count)],
            )
            found.append(accuracy(network, trained, data.batches(split, 1000)))
        return torch.cat(found).cpu(), {}
