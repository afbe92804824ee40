"""Mean and standard deviation of the training images, by which they are normalised."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ddist.artifact.normalization import MeanStd
from ddist.data.ondisk import Images, parts
from ddist.errors import DdistError


def channel_statistics(x: Images) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of uint8 [N, C, H, W], as float64 [C] in
    [0, 1]. They come from the channels' histograms, so are exact whatever the number of images.
    """
    value = torch.arange(256, dtype=torch.float64, device=x.device) / 255
    counts = torch.zeros(x.shape[1], 256, dtype=torch.int64, device=x.device)
    for chunk in parts(x):
        histograms = [
            torch.bincount(channel.flatten(), minlength=256) for channel in chunk.unbind(1)
        ]
        counts += torch.stack(histograms)
    share = counts.double()
    share = share / share.sum(1, keepdim=True)  # [C, 256]
    mean = share @ value
    return mean, (share * (value - mean[:, None]) ** 2).sum(1).sqrt()


def mean_std(
    x: Images,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    statistics: Callable[[Images], tuple[Tensor, Tensor]] = channel_statistics,
) -> MeanStd:
    """Return the normalisation by the published ``mean`` and ``std``; where these are None, by the
    training images' own, which ``statistics`` computes from ``x``.

    A single published value serves all channels (grey shown as RGB).
    """
    channels = x.shape[1]
    if (mean is None) != (std is None):
        raise DdistError("dataset.mean and dataset.std belong together: give both or neither.")
    if mean is None or std is None:
        found_mean, found_std = statistics(x)
        if (found_std == 0).any():
            raise DdistError(
                "A channel of the training images is constant, so its standard deviation is 0: "
                "set dataset.normalize=none."
            )
        return MeanStd(found_mean, found_std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise DdistError(
                f"dataset.{name} has {len(values)} values but the images have {channels} "
                "channel(s): give one per channel, or null for both mean and std to compute them."
            )
    return MeanStd(
        torch.tensor(mean).expand(channels).clone(), torch.tensor(std).expand(channels).clone()
    )
