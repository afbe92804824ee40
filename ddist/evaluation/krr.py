"""Kernel ridge regression: what a distilled set says by itself, under the kernel of a network of
infinite width."""

import torch
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.errors import DdistError
from ddist.evaluation.protocol import Context, Protocol, batches_of
from ddist.inner.predict import count
from ddist.kernels import Kernel
from ddist.matching.kernel import coefficients, targets
from ddist.settings.ranges import NonNegative


class KernelRegression(Protocol):
    """The class of an image is the largest of its predictions K_ts (K_ss + ridge tr(K_ss)/n I)^-1
    y_s (Nguyen et al. 2021, arXiv 2011.00050), for centred labels y_s. Nothing is trained or drawn.

    Args:
        name: of the protocol, in results.
        kernel: K, which results name in the place of a network.
        ridge: relative to the mean of the kernel's diagonal.
    """

    uses_network = False

    def __init__(self, *, name: str, kernel: Kernel, ridge: NonNegative) -> None:
        self.name = name
        self.kernel, self.ridge = kernel, ridge
        self.in_place_of_network = str(kernel)

    @torch.no_grad()
    def accuracies(
        self, distilled: DistilledDataset, context: Context
    ) -> tuple[Tensor, dict[str, float]]:
        data, split = context.data, context.split
        images, labels, weights = distilled.examples(as_learned=True)
        if weights is not None:
            raise DdistError(
                "Kernel regression knows no weights of samples, which this set has: choose another "
                "protocol, such as evaluation=dc2021."
            )
        images, y = images.to(data.device), targets(labels, data.num_classes).to(data.device)
        alpha = coefficients(self.kernel(images, images), y, self.ridge)
        right = torch.zeros((), dtype=torch.float64, device=data.device)
        for x, classes in batches_of(data, split):
            predicted = (self.kernel(x, images) @ alpha).argmax(1)
            right += (predicted == classes).sum()
            count(context.confusion, predicted.unsqueeze(0), classes)
        return (right / len(split)).view(1).cpu(), {}
