"""Changes of uint8 images that do not depend on the dataset: colour channels and size."""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R BT.601 luma, the weights of PIL's convert("L").
LUMA = (0.299, 0.587, 0.114)
CHUNK = 2048  # images converted to float at a time, so that memory stays small


def to_channels(x: Tensor, channels: int) -> Tensor:
    """Convert grey to RGB (repeated) or RGB to grey (BT.601 luma), uint8 [N, C, H, W]."""
    if x.shape[1] == channels:
        return x
    if channels == 3:
        return x.repeat(1, 3, 1, 1)
    luma = torch.tensor(LUMA, device=x.device)
    return torch.cat(
        [
            torch.einsum("nchw,c->nhw", chunk.float(), luma).round().to(torch.uint8).unsqueeze(1)
            for chunk in torch.split(x, CHUNK)
        ]
    )


def to_size(x: Tensor, size: int) -> Tensor:
    """Resize uint8 images [N, C, H, W] to ``size`` x ``size`` pixels (bilinear, antialiased).

    Images that are not square are squeezed: the folder sources crop instead, as they decode.
    """
    if x.shape[-2:] == (size, size):
        return x
    return torch.cat(
        [
            F.interpolate(chunk.float(), size=(size, size), mode="bilinear", antialias=True)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            for chunk in torch.split(x, CHUNK)
        ]
    )
