"""The memory that a run needs, checked before anything long is computed."""

import logging

import torch
from torch import Tensor

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Evaluator, LinearProbe
from ddist.formatting import size
from ddist.inner.footprint import available_memory
from ddist.inner.parts import footprint, limit
from ddist.methods import Method

log = logging.getLogger(__name__)

WORTH_SAYING = 0.25  # of what is free
ERROR = 1.5  # by which the estimate may be too large


def check_memory(method: Method, evaluator: Evaluator, data: RealData) -> None:
    """Log what memory the run needs where that is much; raise a DdistError where it is far more
    than is free. Do neither with an accelerator, which says by itself what it lacks."""
    free = available_memory()
    if free is None or torch.accelerator.is_available():
        return
    distilling = method.num_bytes() if method.learns else 0
    evaluating = evaluation_bytes(method, evaluator, data)
    if max(distilling, evaluating) < WORTH_SAYING * free:
        return
    needed = (
        f"about {size(max(distilling, evaluating))} of memory ({size(distilling)} to distil, "
        f"{size(evaluating)} to evaluate), of which {size(free)} are free"
    )
    if max(distilling, evaluating) > ERROR * free:
        raise DdistError(
            f"This run needs {needed}: choose a smaller dataset.size (the images have "
            f"{data.image_shape[1]}x{data.image_shape[2]} pixels), network.width or ipc, or more "
            "method.student_steps where the method has them."
        )
    log.info("This run needs %s.", needed)


def evaluation_bytes(method: Method, evaluator: Evaluator, data: RealData) -> int:
    """Return the peak bytes of training networks on the set: on the largest of its steps, or a
    batch; as many networks together as the protocol takes and the memory allows."""
    probes = isinstance(evaluator.protocol, LinearProbe)  # whose images pass in parts
    if probes or not evaluator.protocol.uses_network:
        return 0
    num_images = len(method.synthetic.classes)
    index: Tensor | None = method.step_index
    each = method.synthetic.examples_each
    largest = num_images if index is None else each * int(torch.bincount(index).max())
    largest = min(largest, getattr(evaluator.protocol, "batch_size", largest))
    sizes = [
        footprint(network, data.image_shape).gradient(largest)
        for network in evaluator.networks.values()
    ]
    together, most = getattr(evaluator.protocol, "chunk", 1), limit(data.device)
    return max((max(one, min(together * one, most)) for one in sizes), default=0)
