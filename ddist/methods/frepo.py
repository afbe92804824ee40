"""FRePo: neural feature regression with pooling (Zhou, Nezhadarya & Ba 2022, arXiv 2206.00719)."""

from typing import Any

import torch
from torch import Tensor

from ddist.errors import DdistError
from ddist.inner.compiled import SAVED_PER_VALUE, compiled
from ddist.inner.losses import half_squared_error
from ddist.inner.pool import Pool
from ddist.inner.stacking import mode
from ddist.matching.kernel import head, targets
from ddist.methods.base import Batch, Method
from ddist.methods.matching import REAL_AT_ONCE
from ddist.methods.students import of_all_ranks, of_this_rank
from ddist.networks import Weights, embed
from ddist.seeding import generator
from ddist.settings.ranges import NonNegative, PositiveInt, Share


class FRePo(Method):
    """Images and labels from which the features of a network predict the labels of real images by
    ridge regression, as its last layer would if it were trained to the end.

        min over (x_s, y_s) of  E_theta  1/2 mean_t | y_t - phi_t W |^2  +  margin(y_s),
        W = phi_s' (phi_s phi_s' + lambda tr(phi_s phi_s')/n I)^-1 y_s,   phi = f_theta(x)

    (the paper's objective; the square is a sum over classes, the mean one over real images, as in
    the authors' code, lib/datadistillation/frepo.py), f being the network without its last layer.
    theta comes from a pool: at each outer step one of its networks is drawn, the images and labels
    take their step, and then that network takes one step of Adam on them (squared errors, images as
    they are) or, once it has had its updates, is replaced by a fresh one. Nothing is differentiated
    through theta: the gradient goes through the features of the synthetic images alone.

    All networks start fresh, but network k at the age k/P of ``max_updates``, so that they are not
    replaced all at once. For all features batch normalisation takes its running statistics, as in
    the authors' code: those of the synthetic images at the network's updates, the last ones above
    all (``norm_momentum``), and mean 0 and variance 1 before the first. No feature depends on other
    images.

    Labels are centred, y - 1/K, and with ``synthetic.labels=free`` they are learned: they start at
    the centred classes divided by sqrt(K/10), and :func:`label_margin` keeps their classes apart.
    Features have the trainer's precision; the regression is done in double.

    Args:
        num_pool: P, networks in the pool; each rank has a pool of its own.
        max_updates: steps of Adam after which a network is replaced.
        student_lr: of that Adam.
        student_batch_size: most images in such a step.
        norm_momentum: share of the last update in the running statistics.
        ridge: lambda.
        mirror: whether the regression has each image a second time, mirrored (the paper's flip).
    """

    regresses = True
    needs_features = True

    def __init__(
        self,
        *,
        num_pool: PositiveInt,
        max_updates: PositiveInt,
        student_lr: NonNegative,
        student_batch_size: PositiveInt,
        norm_momentum: Share,
        ridge: NonNegative,
        mirror: bool,
        **common: Any,
    ) -> None:
        data = common["data"]
        num_classes = data.num_classes
        super().__init__(**common)
        if self.synthetic.label_kind == "solved":
            raise DdistError(
                "synthetic.labels=solved is for method=kip alone: choose free, hard or soft."
            )
        if mirror and not data.mirror:
            raise DdistError(
                f"A mirrored image of {data.name} is of another class (dataset.mirror=false): set "
                "method.mirror=false."
            )
        self.num_pool, self.max_updates = num_pool, max_updates
        self.student_lr, self.student_batch_size = student_lr, student_batch_size
        self.norm_momentum, self.ridge, self.mirror = norm_momentum, ridge, mirror
        if self.synthetic.label_kind == "free":
            start = targets(self.synthetic.classes, num_classes) / (num_classes / 10) ** 0.5
            self.synthetic.begin(labels=start + 1 / num_classes)
        self._embed = embed
        self._pool: tuple[int, Pool] | None = None  # as it is at that outer step
        self._saved: tuple[int, Weights] | None = None  # likewise, from a checkpoint

    def outer_loss(self, batch: Batch) -> Tensor:
        x_t, classes = batch
        x_s, y_s = self.prototypes()
        margin = label_margin(y_s) if self.synthetic.stored()[1].is_floating_point() else 0.0
        if self.mirror:
            x_s, y_s = torch.cat([x_s, x_s.flip(3)]), torch.cat([y_s, y_s])
        weights = self.network_of_step()
        with mode(self.network, training=False):
            phi_s = embed(self.network, weights, x_s).double()
            phi_t = self.real_features(weights, x_t).double()
        predicted = phi_t @ head(phi_s, y_s, self.ridge)
        y_t = targets(classes, self.data.num_classes)
        self.log("distill/accuracy", (predicted.argmax(1) == classes).float().mean(), prog_bar=True)
        return half_squared_error(predicted, y_t).mean() + margin

    def prototypes(self) -> tuple[Tensor, Tensor]:
        """Return the synthetic images and their centred labels, float64 [N, K]."""
        images, labels = self.synthetic()
        return images, targets(labels, self.data.num_classes)

    @torch.no_grad()
    def real_features(self, weights: Weights, x: Tensor) -> Tensor:
        """Compute the features [N, F] of real images [N, C, H, W], without a graph, in parts."""
        chunks = x.split(REAL_AT_ONCE if x.device.type == "cpu" else 64 * REAL_AT_ONCE)
        return torch.cat([self._embed(self.network, weights, chunk) for chunk in chunks])

    def on_fit_start(self) -> None:
        super().on_fit_start()
        worthwhile = self.worth_compiling(self.data.batch_size or 0, SAVED_PER_VALUE)
        self._embed = compiled(embed, worthwhile)

    # -- the pool ----------------------------------------------------------------------------------

    def network_of_step(self) -> Weights:
        """Bring the pool up to date, and return the weights of this outer step's network."""
        step = self.global_step
        pool_at, pool = self._pool or self.start_pool()
        if pool_at < step:
            self.update(pool, self.drawn(pool_at))
        self._pool = step, pool
        return pool.weights(self.drawn(step))

    def start_pool(self) -> tuple[int, Pool]:
        """Make the pool or restore it; return the outer step that it is ready for, and the pool."""
        ages = torch.arange(self.num_pool) * self.max_updates // self.num_pool
        start = self.draw_networks(self.num_pool)
        pool = Pool(self.network, start, ages, self.student_lr, self.norm_momentum)
        if self._saved is None:
            if self.global_step > 0:
                raise DdistError("The checkpoint lacks the pool's networks: set resume=false.")
            return 0, pool
        step, state = self._saved
        self._saved = None
        pool.load(state)
        return step, pool

    def drawn(self, step: int) -> int:
        """Draw the pool's network for outer step ``step``, and return its index."""
        stream = generator(self.seed, "pool", self.global_rank, step)
        return int(torch.randint(self.num_pool, (), generator=stream))

    def update(self, pool: Pool, k: int) -> None:
        """Train network k on the images as the last outer step has left them, or replace it once it
        has had its updates."""
        if pool.ages[k] >= self.max_updates:
            pool.replace(k, self.draw_networks(1))
            return
        with torch.no_grad():
            x, y = self.prototypes()
        if len(x) > self.student_batch_size:
            stream = generator(self.seed, "student", self.global_rank, self.global_step)
            chosen = torch.randperm(len(x), generator=stream)[: self.student_batch_size]
            x, y = x[chosen.to(x.device)], y[chosen.to(y.device)]
        pool.train(k, x, y.to(x.dtype), self.student_precision)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add every rank's pool to the checkpoint: [ranks, P, ...]."""
        super().on_save_checkpoint(checkpoint)
        at = self._saved if self._pool is None else (self._pool[0], self._pool[1].state())
        if at is not None:
            checkpoint["pool"] = {"step": at[0], "state": of_all_ranks(self, at[1])}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint.get("pool")
        if saved is not None:
            self._pool, self._saved = None, (saved["step"], of_this_rank(self, saved["state"]))


def label_margin(y: Tensor) -> Tensor:
    """Return -mean_i min(y_i(1) - y_i(2), 1/K), where y_i(1) and y_i(2) are the largest and the
    second largest value of label i, of [N, K]: as a loss it pulls them apart until they differ by
    1/K (lb_margin_th in the authors' code)."""
    best = y.topk(2, dim=1).values
    return -(best[:, 0] - best[:, 1]).clamp(max=1 / y.shape[1]).mean()
