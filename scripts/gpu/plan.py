"""What is to be done, where and how large. Light to import: neither ddist nor Lightning."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

LIMIT = 1e-4
"""Most that the GPU in float32 may differ, relative to the CPU's gradient ..."""

OF_ROUNDING = 3.0
"""... or so many times as much as other kernels on the CPU do: Adam divides by the size of a
gradient, whatever is left of it."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "dm": ("method.real_per_class=32",),
    "dc": ("method.real_per_class=32",),
    "dsa": ("method.real_per_class=32",),
    "mtt": ("method.student_steps=5", "trajectories.num_experts=2"),
    "tesla": ("method.student_steps=5", "trajectories.num_experts=2"),
    "frepo": ("method.batch_real=128", "network.width=16"),
    "kip": ("method.real_per_class=32",),
    "dd": ("method.batch_real=128", "network=convnet"),
    "rat": ("method.batch_real=128", "method.student_steps=8", "method.window=4"),
    "cafe": ("method.real_per_class=32", "method.query_per_class=16"),
    "idc": ("method.real_per_class=32", "method.student_images=64"),
    "ncfm": (
        "method.real_per_class=32", "init.num_networks=2", "init.num_held_out=0", "init.epochs=1",
    ),
    "datm": ("method.student_steps=5", "method.max_loss=null", "trajectories.num_experts=2"),
    "ftd": ("method.student_steps=5", "trajectories.num_experts=2"),
    "ddpp": ("method.student_steps=5", "trajectories.num_experts=2"),
    "sre2l": ("teacher.epochs=1", "network.width=16"),
}  # fmt: skip
"""With what makes a step small enough for CPUs."""

METHODS: dict[str, tuple[str, ...]] = {
    "dm": ("ipc=10",),
    "dc": ("ipc=1", "method.student_epochs=0"),
    "dsa": ("ipc=1", "method.student_epochs=0"),
    "mtt": ("ipc=1", "trajectories.num_experts=2"),
    "tesla": ("ipc=1", "trajectories.num_experts=2"),
    "frepo": ("ipc=1",),
    "kip": ("ipc=1",),
}
COMPILED = ("dm", "dc", "dsa", "frepo", "experts", "evaluation")
"""What torch.compile is used in; unrolled students are never compiled."""
NAMES = (*METHODS, "experts", "evaluation")
VARIANTS = ("ddist", "plain", "compiled")
ITEMS = [
    f"{name} {variant}"
    for variant in VARIANTS
    for name in NAMES
    if variant != "compiled" or name in COMPILED
]


@dataclass(frozen=True)
class Setting:
    """Where and how large: ``device`` is "cuda" or "cpu", ``folder`` holds what is made on the way,
    ``tiny`` makes all small enough for a dry run on CPUs."""

    device: str
    folder: Path
    tiny: bool

    @property
    def side(self) -> int:
        return 8 if self.tiny else 32

    def synchronize(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def random_images(setting: Setting) -> Path:
    """A file of ten classes of coloured noise, as many test images as CIFAR-10 has and a tenth of
    its training images; made once."""
    per_class, tests = (24, 40) if setting.tiny else (500, 10_000)
    path = setting.folder / f"random_{setting.side}.npz"
    if not path.exists():
        stream = np.random.default_rng(0)
        means = stream.integers(60, 196, (10, setting.side, setting.side, 3))
        arrays = {}
        for name, num in (("train", 10 * per_class), ("test", tests)):
            y = np.arange(num) % 10
            noise = stream.integers(-60, 60, (num, setting.side, setting.side, 3))
            arrays |= {f"x_{name}": (means[y] + noise).astype(np.uint8), f"y_{name}": y}
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **arrays)
        partial.replace(path)
    return path
