"""Networks on their way through training: each of an age of its own, one trained at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ddist.inner.fit import trainable
from ddist.inner.losses import half_squared_error
from ddist.inner.stacking import Precision, autocast, member, mode
from ddist.networks.base import Weights


@contextmanager
def batch_norm_momentum(network: nn.Module, momentum: float) -> Iterator[None]:
    """Let running statistics follow the batches with this momentum within the block."""
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.momentum = own


class Pool:
    """P networks, the moments of their Adam, and their ages.

    Args:
        network: the function of the weights.
        weights: initial ones, stacked [P, ...].
        ages: int64 [P], from where they are counted.
        lr: of Adam, whose other settings are torch's own.
        momentum: the share of the last batch in the running statistics of batch normalisation.
    """

    def __init__(
        self, network: nn.Module, weights: Weights, ages: Tensor, lr: float, momentum: float
    ) -> None:
        self.network, self.lr, self.momentum = network, lr, momentum
        parameters, self.buffers = trainable(network, weights)
        self.parameters = {name: w.detach() for name, w in parameters.items()}
        self.ages = ages.clone()
        self._steps = torch.zeros(len(ages))
        self._first = {name: torch.zeros_like(w) for name, w in self.parameters.items()}
        self._second = {name: torch.zeros_like(w) for name, w in self.parameters.items()}

    def weights(self, k: int) -> Weights:
        """Return the weights of network k, with its running statistics, as views."""
        return member(self.parameters | self.buffers, k)

    def train(self, k: int, x: Tensor, y: Tensor, precision: Precision = "32-true") -> None:
        """Take one step of Adam for network k, which grows a step older, on half the squared error
        between its logits at the images ``x`` [N, C, H, W] and ``y`` [N, C]."""
        leaves = {name: w[k].detach().requires_grad_() for name, w in self.parameters.items()}
        following = batch_norm_momentum(self.network, self.momentum)
        with mode(self.network, training=True), following, torch.enable_grad():
            with autocast(precision, x.device.type):  # running statistics follow, in place
                logits = functional_call(self.network, leaves | member(self.buffers, k), (x,))
            loss = half_squared_error(logits.to(y.dtype), y).mean()
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        # Whatever Adam changes is a view of the pool's tensors.
        adam = torch.optim.Adam(leaves.values(), self.lr)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            leaf.grad = gradient
            adam.state[leaf] = {
                "step": self._steps[k].clone(),
                "exp_avg": self._first[name][k],
                "exp_avg_sq": self._second[name][k],
            }
        adam.step()
        self._steps[k] += 1
        self.ages[k] += 1

    def replace(self, k: int, weights: Weights) -> None:
        """Replace network k by one of age 0 with ``weights`` [1, ...]."""
        age = torch.zeros(1, dtype=torch.int64)
        fresh = Pool(self.network, weights, age, self.lr, self.momentum).state()
        for name, tensor in self.state().items():
            tensor[k].copy_(fresh[name][0])

    def state(self) -> Weights:
        """Return all that the pool holds, by name: its own tensors [P, ...], not copies."""
        tensors_by_name = {
            "weights": self.parameters | self.buffers,
            "first": self._first,
            "second": self._second,
        }
        named = {
            f"{kind}.{name}": w
            for kind, tensors in tensors_by_name.items()
            for name, w in tensors.items()
        }
        return named | {"steps": self._steps, "ages": self.ages}

    @torch.no_grad()
    def load(self, state: Weights) -> None:
        """Restore the pool that once had this ``state``."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
