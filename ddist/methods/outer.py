"""The outer optimizer: one step moves all that a method learns, each kind at a rate of its own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ddist.callbacks.schedule import find_budget
from ddist.errors import DdistError, blaming
from ddist.methods.annealing import Annealed
from ddist.methods.moving import GradientClip, gradients
from ddist.settings.ranges import NonNegative, Positive
from ddist.synthetic import SyntheticData

MakeOptimizer = Callable[[Iterable[Mapping[str, Any]]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]


class OuterOptimizer(LightningModule):
    """A LightningModule that learns what ``synthetic`` holds.

    Args:
        optimizer: makes the one outer optimizer from parameter groups.
        scheduler: makes its schedule, stepped once per outer step; None keeps the rates.
        lr: the outer learning rate of each parameter group (images, labels, step_sizes).
        weight_decay: the outer optimizer's weight decay of each group; 0 for those not named.
        clip: gradients longer than this many times their moving average (decay 0.9) are shortened
            to that; None to leave them.
    """

    synthetic: SyntheticData

    def __init__(
        self,
        *,
        optimizer: MakeOptimizer | None = None,
        scheduler: MakeScheduler | None = None,
        lr: Mapping[str, NonNegative] | None = None,
        weight_decay: Mapping[str, NonNegative] | None = None,
        clip: Positive | None = None,
    ) -> None:
        super().__init__()
        for name in ("lr", "weight_decay"):
            if name in getattr(optimizer, "keywords", {}):
                raise DdistError(
                    f"method.optimizer.{name} would count for nothing, as every group of learned "
                    f"tensors has its own: set method.{name}.images instead."
                )
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._lr, self._weight_decay = lr or {}, weight_decay or {}
        self.clip = None if clip is None else GradientClip(clip)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        assert self._make_optimizer is not None, "a method that is trained needs an optimizer"
        groups = self.parameter_groups()
        if not groups:
            raise DdistError("Nothing is left to learn: set synthetic.images=learned.")
        with blaming("method.optimizer"):
            optimizer = self._make_optimizer(groups)
        if self._make_scheduler is None:
            return optimizer
        with blaming("method.scheduler"):
            schedule = self._make_scheduler(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if isinstance(scheduler, Annealed):
            scheduler.reach(max(self.global_step / self.trainer.max_steps, self.time_share()))
            return
        with blaming("method.scheduler"):
            super().lr_scheduler_step(scheduler, metric)

    def time_share(self) -> float:
        """Return the part of the time for outer steps that is over; 0 without a budget."""
        budget = find_budget(self.trainer)
        if budget is None or budget.limit is None:
            return 0.0
        # The ranks' clocks differ, and their rates must not.
        share: float = self.trainer.strategy.broadcast(budget.share)
        return share

    def configure_gradient_clipping(self, optimizer: Optimizer, *args: Any, **options: Any) -> None:
        if self.clip is None:
            super().configure_gradient_clipping(optimizer, *args, **options)
        else:
            self.clip.shorten(gradients(optimizer))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return one group per kind of learned tensor, with its own learning rate and decay."""
        group_of = {
            "images": "images",
            "levels": "images",  # of a pyramid
            "codes": "images",
            "label_logits": "labels",
            "free_labels": "labels",
            "step_sizes": "step_sizes",
        }
        groups: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.synthetic.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(group_of[name.partition(".")[0]], []).append(parameter)
        return [
            {
                "name": name,
                "params": parameters,
                "lr": self._lr[name],
                "weight_decay": self._weight_decay.get(name, 0.0),
            }
            for name, parameters in groups.items()
        ]
