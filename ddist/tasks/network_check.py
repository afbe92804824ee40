"""The check, before anything is trained, that a network does what a run asks of it."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ddist.errors import DdistError
from ddist.init.schemes import draw_weights
from ddist.inner.stacking import forward_members, keeps_statistics, mode
from ddist.seeding import generator


def sample_images(num: int, image_shape: tuple[int, int, int]) -> Tensor:
    """Return noise [num, C, H, W], always the same."""
    return torch.randn(num, *image_shape, generator=generator(0, "sample"))


def check_network(
    network: nn.Module,
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    trains: bool,
) -> None:
    """Pass images of noise through ``network``, which errors call ``name``, in evaluation mode and,
    where it ``trains``, in training mode with weights from outside and for two sets of weights at
    once, as runs do. Lazy layers get their shapes.

    Raises:
        DdistError: a pass fails, or does not map images [N, C, H, W] to logits [N, num_classes] by
            a function of images and weights alone, which can be differentiated.
    """
    x = sample_images(2, image_shape)
    try:
        with torch.no_grad(), mode(network, training=False):
            logits = network(x[:1])
    except Exception as error:  # whatever somebody's forward raises
        raise failed(name, f"images of {'x'.join(map(str, image_shape))}", error) from error
    check_logits(logits, name, 1, num_classes)
    shares = logits.float().sum(1)
    if num_classes > 1 and (logits >= 0).all() and torch.allclose(shares, torch.ones(1), atol=1e-4):
        raise DdistError(
            f"{name} returns probabilities, but a network's outputs are logits here: leave out "
            "its softmax."
        )
    if not trains:
        return
    weights = draw_weights(network, "default", [generator(0, "sample", "weights")])
    one = {n: w[0].requires_grad_() for n, w in weights.items()}
    with mode(network, training=True):
        try:
            alone = check_training_pass(network, name, one, x, num_classes)
            if keeps_statistics(network):  # is never computed for several sets of weights at once
                return
        except DdistError:
            raise
        except Exception as error:
            raise failed(name, "two images in training mode", error) from error
        try:
            check_stacked_pass(network, name, one, x, alone)
        except DdistError:
            raise
        except Exception as error:
            raise failed(name, "several sets of weights at once, torch.func.vmap", error) from error


def check_training_pass(
    network: nn.Module, name: str, weights: dict[str, Tensor], x: Tensor, num_classes: int
) -> Tensor:
    """Return the logits of images ``x`` in training mode, under ``weights`` and copies of the
    buffers. Raise a DdistError where they depend on anything but the images and weights, or not on
    all of these."""
    buffers = {n: b.clone() for n, b in network.named_buffers()}
    images = x.clone().requires_grad_()
    batch = images * 1  # as no leaf, which nothing in place may change
    before = torch.get_rng_state()
    logits = functional_call(network, weights | buffers, (batch,))
    if not torch.equal(before, torch.get_rng_state()):
        raise DdistError(
            f"{name} draws random numbers in training mode (dropout, stochastic depth, noise), "
            "which no second run could repeat: set its rate to 0."
        )
    check_logits(logits, name, len(x), num_classes)
    if not torch.equal(batch.detach(), x):
        raise DdistError(
            f"{name} changes the images that it is given: its first layer may not work in place."
        )
    if not logits.requires_grad:
        raise DdistError(f"{name} passes on no gradients: its forward may not detach or no_grad.")
    inputs = {"the images": images, **weights}
    gradients = torch.autograd.grad(logits.square().sum(), list(inputs.values()), allow_unused=True)
    unused = [n for n, gradient in zip(inputs, gradients, strict=True) if gradient is None]
    if unused:
        raise DdistError(
            f"{name} has logits that do not depend on {unused[0]} (no gradient arrives there): "
            "leave out what its forward does not use."
        )
    return logits.detach()


def check_stacked_pass(
    network: nn.Module, name: str, weights: dict[str, Tensor], x: Tensor, alone: Tensor
) -> None:
    """Raise a DdistError unless two sets of the same ``weights`` give the logits ``alone`` of one
    set for images ``x``, and gradients."""
    twice = {n: w.expand(2, *w.shape) for n, w in weights.items()}
    logits = forward_members(network, twice, x, None)
    torch.autograd.grad(logits.square().sum(), list(weights.values()))
    close = 1e-3 * max(1.0, float(alone.abs().max()))
    if not torch.allclose(logits, alone.expand_as(logits), rtol=1e-3, atol=close):
        raise DdistError(
            f"{name} gives other logits when several sets of weights are computed at once "
            "(torch.func.vmap): its layers may not work in place."
        )


def check_logits(logits: object, name: str, num_images: int, num_classes: int) -> None:
    """Raise a DdistError unless ``logits`` are floats [num_images, num_classes]."""
    expected = f"logits [{num_images}, {num_classes}]"
    if not isinstance(logits, Tensor):
        raise DdistError(
            f"{name} returns a {type(logits).__name__}, not a tensor of {expected}, for a batch of "
            f"{num_images}: return the logits alone."
        )
    if logits.shape != (num_images, num_classes) or not logits.is_floating_point():
        kind = "" if logits.is_floating_point() else f"{logits.dtype} "
        raise DdistError(
            f"{name} returns {kind}{list(logits.shape)}, not {expected}, for a batch of "
            f"{num_images}: as many outputs as there are classes, which its constructor is told as "
            "num_classes."
        )


def failed(name: str, what: str, error: Exception) -> DdistError:
    """Return the error for a pass that ``error`` ended."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DdistError(
        f"{name} fails on {what} ({type(error).__name__}: {reason[:300]}): it is given images "
        "[N, channels, height, width], whose image_shape is an argument of its constructor, and "
        "weights from outside."
    )
