"""A small convolutional variational autoencoder, trained on the dataset itself."""

import logging
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddist.artifact.normalization import to_unit
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.generative.base import Pair
from ddist.init.pretraining import signature
from ddist.init.schemes import draw_weights
from ddist.inner.stacking import member
from ddist.seeding import generator
from ddist.settings.ranges import Positive, PositiveInt
from ddist.stages.progress import Progress
from ddist.storage.cache import cached_tensors

log = logging.getLogger(__name__)

SMALLEST_SIDE = 8
"""Images are halved until a side is at most this long, and once at least."""


class Autoencoder(Pair):
    """The mean of the code of a variational autoencoder (Kingma & Welling 2014, arXiv 1312.6114),
    trained with Adam on the pixels' squared error:

        min over (E, D) of E |x - D(z)|^2 / 2 noise^2 + KL(N(mu, sigma) || N(0, 1)),
        (mu, log sigma^2) = E(x), z = mu + sigma * epsilon

    The KL term keeps the codes of neighbouring images close, so that what lies between them, such
    as a centroid, decodes to an image. Trained once and kept under ``<cache>/autoencoder``.

    Args:
        dims: numbers of a latent.
        width: channels after the first convolution; they double with each halving of the image, up
            to four times as many.
        steps, batch_size, lr: of the training, whose rate falls along half a cosine.
        noise: the standard deviation that pixels (in [0, 1]) are taken to have.
    """

    def __init__(
        self,
        *,
        dims: PositiveInt,
        width: PositiveInt,
        steps: PositiveInt,
        batch_size: PositiveInt,
        lr: Positive,
        noise: Positive,
    ) -> None:
        self.dims, self.width = dims, width
        self.recipe: dict[str, Any] = {
            "steps": steps,
            "batch_size": batch_size,
            "lr": lr,
            "noise": noise,
        }
        self.latent_shape = (dims,)

    def prepare(self, data: RealData, seed: int) -> None:
        kept = self.file(data, seed)
        self.network.load_state_dict(cached_tensors(kept, lambda: self._train(data, seed)))
        self.network.eval()

    def file(self, data: RealData, seed: int) -> Path:
        """Build the network for ``data`` and return the file that keeps it once it is trained."""
        with torch.random.fork_rng(devices=[]):  # weights that are never used
            self.network = Network(data.image_shape, self.dims, self.width).to(data.device)
        self._signature = signature(self.network, data, seed, recipe=self.recipe)
        return data.cache / "autoencoder" / f"{self._signature}.safetensors"

    def _train(self, data: RealData, seed: int) -> dict[str, Tensor]:
        steps, network = self.recipe["steps"], self.network
        log.info("Training an autoencoder on %s; this is done once.", data.name)
        start = draw_weights(deepcopy(network).cpu(), "default", [generator(seed, "autoencoder")])
        network.load_state_dict(member(start, 0))
        stream = generator(seed, "autoencoder", "training")
        optimizer = torch.optim.Adam(network.parameters(), self.recipe["lr"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        precision = 1 / self.recipe["noise"] ** 2
        with Progress("autoencoder", "steps", steps) as progress:
            for step in range(steps):
                rows = torch.randint(
                    len(data.train), (self.recipe["batch_size"],), generator=stream
                )
                x = to_unit(data.train.x[rows.to(data.device)])
                epsilon = torch.randn(len(x), self.dims, generator=stream).to(x.device)
                loss = negative_elbo(network, x, epsilon, precision)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.to(step + 1)
                if (step + 1) * 10 // steps > step * 10 // steps and not loss.isfinite():
                    raise DdistError(
                        f"The autoencoder's loss became {loss.item()}: try a smaller "
                        f"generative.lr (now {self.recipe['lr']:g})."
                    )
        return network.state_dict()

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        return self.network.encode(pixels)[0]

    @torch.no_grad()
    def decode(self, latents: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        return self.network.decode(latents)

    @property
    def signature(self) -> str:
        return f"autoencoder {self._signature}"

    def __str__(self) -> str:
        return f"autoencoder of {self.dims} dimensions"


def negative_elbo(network: "Network", x: Tensor, epsilon: Tensor, precision: float) -> Tensor:
    """Return the mean over images of |x - D(z)|^2 precision / 2 + KL(N(mu, sigma) || N(0, 1))."""
    mean, log_variance = network.encode(x)
    decoded = network.decode(mean + (log_variance / 2).exp() * epsilon)
    error = (x - decoded).square().flatten(1).sum(1) * precision / 2
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
    return (error + divergence).mean()


class Network(nn.Module):
    """Convolutions of stride 2 down to a grid of at most 8x8 and a linear layer, and back."""

    def __init__(self, image_shape: tuple[int, int, int], dims: int, width: int) -> None:
        super().__init__()
        channels, *side = image_shape
        self.sizes = [tuple(side)]
        widths = [channels]
        while len(self.sizes) == 1 or max(self.sizes[-1]) > SMALLEST_SIDE:
            self.sizes.append(tuple((n + 1) // 2 for n in self.sizes[-1]))
            widths.append(min(width * 2 ** (len(self.sizes) - 2), 4 * width))
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in reversed(pairs))
        self.grid = (widths[-1], *self.sizes[-1])
        num = widths[-1] * self.sizes[-1][0] * self.sizes[-1][1]
        self.to_code, self.from_code = nn.Linear(num, 2 * dims), nn.Linear(dims, num)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the codes, [N, dims] each."""
        for layer in self.down:
            x = F.silu(layer(x))
        mean, log_variance = self.to_code(x.flatten(1)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, z: Tensor) -> Tensor:
        """Return pixels [N, C, H, W] within (0, 1)."""
        x = F.silu(self.from_code(z)).view(-1, *self.grid)
        for k, layer in enumerate(self.up):
            x = crop(layer(F.silu(x) if k else x), self.sizes[-2 - k])
        return x.sigmoid()


def crop(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Cut out the upper left ``size``: a doubled grid is one longer if the side is odd."""
    return x[..., : size[0], : size[1]]
