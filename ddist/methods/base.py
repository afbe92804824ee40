"""The base of every method: a LightningModule whose training step is one outer step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from ddist.artifact.grid import image_grid
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init import InitialWeights
from ddist.inner.compiled import Compile, pays
from ddist.inner.parts import footprint
from ddist.inner.stacking import Precision
from ddist.methods.moving import MovingAverage
from ddist.methods.outer import OuterOptimizer
from ddist.methods.recovery import Recovery, repair
from ddist.networks import Weights
from ddist.seeding import generator
from ddist.settings.ranges import Momentum
from ddist.synthetic import StepSizes, SyntheticData
from ddist.synthetic.steps import spread_over_steps

MakeSynthetic = Callable[[RealData, Tensor, torch.Generator, StepSizes | None], SyntheticData]
Batch = tuple[Tensor, Tensor]


class Method(OuterOptimizer):
    """A subclass writes :meth:`outer_loss`; its parameters are the synthetic data's and no others.

    Args:
        data: the loaded dataset.
        network: the student, a stateless function of its weights.
        init: p(theta_0), where the student's weights start.
        synthetic: makes the learned module from (data, labels [N], generator, step sizes).
        ipc: stored images per class.
        images_per_class: stored images of each class, where classes differ.
        num_steps: student steps that the images are spread over; None where order means nothing.
        step_sizes: learned step sizes, where the method has any.
        ema: decay of the moving average of the images that becomes the artifact; None for the
            images themselves. Young averages decay faster, (1 + steps) / (10 + steps).
        seed: the run's root seed.
        compile: whether passes that are differentiated once at most are compiled.
        student_precision: the precision of students that are trained without a graph.
        optimization: see :class:`ddist.methods.outer.OuterOptimizer`.
    """

    learns = True
    """False for a baseline that is complete once it is made: there is nothing to fit."""
    supports_fp16 = True
    """False where inner losses are differentiated twice, which fp16's loss scaling cannot serve."""
    draws_networks = True
    """False where its steps ask nothing of ``init`` (see :meth:`draw_networks`)."""
    uses_network = True
    """False where no network takes part in distilling: ``network`` is then ignored."""
    least_depth = 1
    """Blocks that a ConvNet has at least where its depth follows the images."""
    tiles: int | None = None
    """Pixels of a side from which each stored image by itself holds four; None for never."""
    needs_features = False
    """True where the network's features are used, and not its logits alone."""
    regresses = False
    """True where labels may be any numbers, which cross-entropy does not take."""

    def __init__(
        self,
        *,
        data: RealData,
        network: nn.Module,
        init: InitialWeights,
        synthetic: MakeSynthetic,
        ipc: int,
        images_per_class: Sequence[int] | None = None,
        num_steps: int | None = None,
        step_sizes: StepSizes | None = None,
        ema: Momentum | None = None,
        seed: int,
        compile: Compile = False,
        student_precision: Precision = "32-true",
        **optimization: Any,
    ) -> None:
        super().__init__(**optimization)
        counts = images_per_class or [ipc] * data.num_classes
        labels, step_index = spread_over_steps(counts, data.num_classes, num_steps or 1)
        self.images_per_class = counts
        self.synthetic = synthetic(data, labels, generator(seed, "synthetic"), step_sizes)
        if self.synthetic.label_kind in ("free", "solved") and not self.regresses:
            raise DdistError(
                f"synthetic.labels={self.synthetic.label_kind} is for methods of regression, such "
                "as method=kip: choose hard or soft."
            )
        self.step_index = None if num_steps is None else step_index
        self.data, self.init, self.seed = data, init, seed
        self.compiles: Compile = compile
        self.student_precision: Precision = student_precision
        if ema is not None and self.synthetic.file() is not None:
            raise DdistError(
                "method.ema averages pixels, and these images are stored as something else: set "
                "method.ema=null, or synthetic=pixel."
            )
        self.average = None if ema is None else MovingAverage(self.synthetic.stored()[0], ema)
        self.recovery = Recovery()
        self._unchecked: tuple[Tensor, int, dict[str, float], Tensor | None] | None = None
        # In a tuple, so that the student's unused parameters do not become the method's.
        self._students = (network,)
        if self.uses_network and not self.learns:
            network.to(data.device)  # no fitting, which would move it

    @property
    def network(self) -> nn.Module:
        """The student."""
        return self._students[0]

    def outer_loss(self, batch: Batch) -> Tensor:
        """Return the paper's outer objective on a real batch (x [B, C, H, W], y [B]): a scalar."""
        raise NotImplementedError

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self.synthetic.project()  # after the step before
        self.update_average()

    def update_average(self) -> None:
        """Add the images to their moving average, once after each outer step."""
        if self.average is not None:
            self.average.update(self.synthetic.stored()[0], self.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.check_loss()
        self.recovery.mark(self)
        loss = self.outer_loss(batch)
        if not isinstance(loss, Tensor) or loss.ndim:
            shape = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise DdistError(
                f"The outer loss of {type(self).__name__} is no scalar tensor, but {shape}: let "
                "outer_loss, or match, return the sum or the mean."
            )
        groups = self.trainer.optimizers[0].param_groups
        rates = {group["name"]: group["lr"] for group in groups}
        self._unchecked = loss.detach(), self.global_step, rates, self.step_sizes()
        if not self.checks_later(loss) and not self.check_loss():
            return self.training_step(batch, batch_idx)  # from earlier images, more slowly
        self.log("distill/loss", loss.detach(), prog_bar=True)
        return loss

    def checks_later(self, loss: Tensor) -> bool:
        """Tell whether the loss is checked one step later: reading it from an accelerator at once
        would leave that idle until the next step is prepared."""
        return loss.device.type != "cpu"

    def check_loss(self) -> bool:
        """Tell whether the last outer loss, unless checked already, is finite. Where it is not, go
        back to earlier images and lower the rates; raise a DdistError where that does not help."""
        if self._unchecked is None:
            return True
        unchecked, self._unchecked = self._unchecked, None
        return self.recovery.finite(self, *unchecked)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.check_loss():
            repair(checkpoint, self)

    def on_train_end(self) -> None:
        self.check_loss()

    def draw_networks(self, num: int) -> Weights:
        """Draw ``num`` initial weights for this outer step, stacked; other ranks draw others."""
        return self.init.draw(self.network, num, self.global_rank, self.batch_number())

    def loss_scale(self) -> float:
        """Return the factor by which fp16 multiplies losses before they are differentiated, without
        which small gradients would become 0; 1 in other precisions."""
        if self._trainer is None:  # as a plain function, in tests and notebooks
            return 1.0
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def num_bytes(self) -> int:
        """Estimate the memory that the activations of an outer step take at its peak: unless a
        subclass knows better, that of one gradient of all synthetic images."""
        if not self.uses_network:
            return 0
        return footprint(self.network, self.data.image_shape).gradient(len(self.synthetic.classes))

    def batch_number(self) -> int:
        """Return the run's batch number: the outer step, unless gradients are accumulated."""
        accumulated = self.trainer.accumulate_grad_batches
        batch = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready - 1
        return self.global_step * accumulated + batch % accumulated

    def worth_compiling(self, images_per_step: int, saved_per_value: float) -> bool:
        """Tell whether to compile a function that ``images_per_step`` images pass at each outer
        step (see :func:`ddist.inner.compiled.pays`)."""
        if self.compiles != "auto":
            return self.compiles
        one = torch.zeros(1, *self.data.image_shape, device=self.data.device)
        num_images = self.trainer.max_steps * images_per_step
        return pays("auto", self.network, one, num_images, saved_per_value)

    def on_fit_start(self) -> None:
        self.network.to(self.device)
        if self.draws_networks:
            self.init.prepare(self.network)  # which may take longer than all the steps

    def learned_step_sizes(self) -> Tensor:
        """Return the student's step sizes [E, S], with their graph."""
        assert self.synthetic.step_sizes is not None, "this method learns no step sizes"
        return self.synthetic.step_sizes()

    def step_sizes(self) -> Tensor | None:
        """Return the student's step sizes [E, S], detached; None where the method learns none."""
        return None if self.synthetic.step_sizes is None else self.learned_step_sizes().detach()

    @torch.no_grad()
    def tensors(self) -> dict[str, Any]:
        """Return the tensors of the artifact so far, on the CPU (see DistilledDataset)."""
        self.synthetic.project()
        self.update_average()
        images, labels = self.synthetic.stored()
        step_sizes = self.step_sizes()
        kept = images if self.average is None else self.average.value
        index, each = self.step_index, self.synthetic.stored_each
        return {
            "images": kept.detach().float().cpu().clone(),
            "labels": labels.detach().cpu().clone(),
            "step_sizes": None if step_sizes is None else step_sizes.cpu(),
            "step_index": None if index is None else index.repeat_interleave(each),
            "codes": self.synthetic.file(),
        }

    def variants(self) -> dict[str, dict[str, Any]]:
        """Return other sets of the same run that are worth an evaluation, by their names in the
        results: of each, the entries of :meth:`tensors` that differ."""
        if self.average is None:
            return {}
        return {"raw": {"images": self.synthetic.stored()[0].detach().float().cpu().clone()}}

    def figures(self) -> dict[str, float]:
        """Return further figures of the set, by name (:data:`ddist.report.table.FIGURES`)."""
        return {}

    def picture(self) -> Image:
        """Return the synthetic images as one picture."""
        return self.picture_of(self.tensors())

    def picture_of(self, tensors: Mapping[str, Any]) -> Image:
        """Return the images among the artifact's ``tensors`` as one picture."""
        pixels = self.data.normalization.inverse(tensors["images"].to(self.data.device))
        return image_grid(pixels, tensors["labels"], self.data.class_names, tensors["step_index"])
