"""Every method of conf/method that learns, small and outside of a Trainer (see ``make_every``)."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import nn

from ddist.methods import Method
from ddist.networks import Weights

NETWORK = ("network=mlp", "network.widths=[8]")
COMMON = ("dataset=digits", "dataset.validation=0", "ipc=2", "compile=false", "steps=3")
AUGMENTED = ("augment=dsa", "augment.flip=false")
MATCHING = ("method.real_per_class=4", *AUGMENTED)
STUDENTS = (*MATCHING, "method.student_batch_size=8")
DC = (*STUDENTS, "method.student_epochs=1", "method.updates=2")
MTT = (*AUGMENTED, "method.student_steps=2", "method.batch_syn=8", "method.step_size=0.1")
TEACHER = (
    "teacher.network={_target_: ddist.networks.ConvNet, _partial_: true, depth: 1, width: 4, "
    "norm: batch, pooling: avg, activation: relu}", "teacher.epochs=1",
)  # fmt: skip
PROBING = (
    "init=fixed", "synthetic=pixel", "method.real_per_class=4", "method.views=2",
    "evaluation.augment=null",
)  # fmt: skip
TILED = ("synthetic=multiformation",)  # by itself for larger images
POOL = ("init=experts", "init.num_networks=9", "init.num_held_out=1", "init.epochs=1")

# Its settings, its streams, and which of them are drawn from once per outer step alone: networks
# that are trained from step to step serve all of a step's batches.
METHODS: dict[str, tuple[tuple[str, ...], set[str], set[str]]] = {
    "dd": (("method.batch_real=16",), {"real", "init"}, set()),
    "rat": (
        ("method.batch_real=16", "method.student_steps=4", "method.window=2", *AUGMENTED,
         "method.augment_real=true"),
        {"real", "init", "student"}, set(),
    ),
    "dm": (MATCHING, {"real", "init", "augment"}, set()),
    "m3d": (MATCHING, {"real", "init", "augment"}, set()),
    "datadam": (
        (*MATCHING, "network=convnet", "network.depth=2", "network.width=4"),
        {"real", "init", "augment"}, set(),
    ),
    "dc": (DC, {"real", "init", "augment", "student"}, {"init", "student"}),
    "dsa": (DC, {"real", "init", "augment", "student"}, {"init", "student"}),
    "idc": (
        (*DC, *TILED, "method.student_images=16", "method.synthetic_per_class=3"),
        {"real", "init", "augment", "student", "student images", "synthetic"},
        {"init", "student", "student images"},
    ),
    "idm": (
        (*STUDENTS, *TILED, "method.num_pool=2", "method.max_updates=3",
         "method.student_images=16"),
        {"real", "init", "augment", "serving", "student", "student images"},
        {"init", "serving", "student", "student images"},
    ),
    "cafe": (
        (*STUDENTS, "method.max_updates=2", "method.max_student_epochs=2",
         "method.query_per_class=2"),
        {"real", "init", "augment", "student"}, {"init", "student"},
    ),
    "ncfm": (
        (*MATCHING, *POOL, *TILED, "method.num_frequencies=8"),
        {"real", "init", "augment", "mix", "frequencies"}, set(),
    ),
    "kip": (("method.real_per_class=4",), {"real"}, set()),
    "frepo": (
        ("method.batch_real=16", "method.student_batch_size=8", "method.num_pool=4",
         "method.max_updates=2"),
        {"real", "init", "pool", "student"}, {"init", "pool", "student"},
    ),
    "clp": (PROBING, {"real", "view"}, set()),
    "lgm": (PROBING, {"real", "view", "heads"}, set()),
    "sre2l": (TEACHER, {"recover"}, set()),
    **{name: (MTT, {"trajectory"}, set()) for name in ("mtt", "tesla", "ftd", "ddpp", "datm")},
}  # fmt: skip
STEPS = 3


class Experts:
    """Made up, without ddist's generators."""

    num_experts = 20

    def read(self, network: nn.Module, expert: int, epoch: int) -> Weights:
        stream = torch.Generator().manual_seed(1000 * expert + epoch)
        return {
            name: 0.3 * torch.randn(w.shape, generator=stream)
            for name, w in network.named_parameters()
        }


class Run:
    """A method and its real batches, outside of a Trainer, at a ``place``."""

    def __init__(self, make: Callable[[], Method], rank: int, accumulated: int = 1) -> None:
        self.progress = SimpleNamespace(current=SimpleNamespace(ready=1))
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=self.progress))
        self.trainer = SimpleNamespace(
            global_rank=rank, world_size=1, global_step=0, fit_loop=loop,
            accumulate_grad_batches=accumulated, max_steps=STEPS,
            precision_plugin=SimpleNamespace(scaler=None),
        )  # fmt: skip
        self.method = make()
        self.method._trainer = self.trainer  # type: ignore[assignment]
        self.method.log = lambda *_, **__: None  # type: ignore[assignment, method-assign]
        self.method.data.trainer = self.trainer  # type: ignore[assignment]

    def loss(self, step: int, place: int = 0) -> float:
        """The outer loss at the batch ``place`` of outer step ``step``."""
        accumulated = self.trainer.accumulate_grad_batches
        self.trainer.global_step = step
        loader = self.method.data.train_dataloader()
        batch = loader.element(loader.start() + place)
        self.progress.current.ready = step * accumulated + place + 1
        return float(self.method.outer_loss(batch).detach())

    def losses(self) -> list[float]:
        return [self.loss(step) for step in range(STEPS)]
