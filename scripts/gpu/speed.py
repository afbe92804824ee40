"""Seconds of a step and peak memory at CIFAR-10's shapes: ddist, ddist compiled, a plain loop."""

import logging
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import plain
import torch
from bench import Options, read_peak, start_peak
from plan import METHODS, Setting
from steps import Watch, config, train

from ddist.artifact.dataset import DistilledDataset
from ddist.init import Random
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.seeding import generator
from ddist.tasks.build import build_evaluator, build_init, build_method, read_data
from ddist.tasks.networks import build_network

SECONDS = 4.0
"""For so long each is measured, three times at least."""
_TINY = ("network.width=4", "network.depth=1")
_TINY_OF = {
    "mtt": ("method.student_steps=2",),
    "tesla": ("method.student_steps=2",),
    "frepo": ("method.batch_real=40",),
    "kip": ("method.real_per_class=8",),
    "experts": (),
    "evaluation": ("evaluation.epochs=2",),
}


def measure(item: str, setting: Setting) -> dict[str, Any]:
    """Of "dm compiled", say: seconds of a step and the growth of the peak in MiB; beside ddist's
    own also how often the host waited for the GPU in a step."""
    name, variant = item.split()
    words = [*METHODS.get(name, ()), f"compile={str(variant == 'compiled').lower()}", "steps=1000"]
    words += [] if name not in METHODS else [f"method={name}"]
    if name == "experts":
        words += ["method=mtt"]
    if name == "evaluation":
        words += ["method=random", "network=convnet", "evaluation=dc2021", "ipc=1"]
        words += ["evaluation.num_networks=5"]
    if setting.tiny:
        words += _TINY_OF.get(name, ("method.real_per_class=8",))
        words += [] if name == "kip" else _TINY
    cfg = config(setting, *words)
    heard = Heard()
    logging.getLogger("ddist").addHandler(heard)
    try:
        run: Callable[[], dict[str, Any]] = partial(_OWN.get(name, step), cfg, setting)
        return (plain_loop(name, cfg, setting) if variant == "plain" else run()) | heard.note()
    finally:
        logging.getLogger("ddist").removeHandler(heard)


class Heard(logging.Handler):
    """Notes warnings, such as that compiling does not work here."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def note(self) -> dict[str, Any]:
        return {"warned": self.lines[:3]} if self.lines else {}


def step(cfg: Any, setting: Setting) -> dict[str, Any]:
    """An outer step by Lightning."""
    watch = Watch(setting, most_seconds=seconds_of(setting))
    before = start_peak(setting.device)
    train(cfg, watch, device=setting.device, max_steps=1000)
    peak = read_peak(setting.device) - before
    found = {"seconds": median(watch.seconds[1:]), "MiB": peak / 2**20}
    if watch.synchronizations is not None:
        found["synchronizations"] = watch.synchronizations
    return found


def seconds_of(setting: Setting) -> float:
    return 0.0 if setting.tiny else SECONDS


def timed(run: Callable[[], object], setting: Setting) -> dict[str, Any]:
    """``run`` again and again; the first time does not count."""
    before = start_peak(setting.device)
    seconds: list[float] = []
    begun = time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - begun < seconds_of(setting):
        start = time.perf_counter()
        run()
        setting.synchronize()
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 2 and time.perf_counter() - begun > 10 * SECONDS:
            break
    return {
        "seconds": median(seconds[1:]),
        "MiB": (read_peak(setting.device) - before) / 2**20,
    }


def experts(cfg: Any, setting: Setting) -> dict[str, Any]:
    """Of five experts, stacked where that is faster; compiled ones one by one. Per batch and
    expert."""
    cfg, data = read_data(cfg)
    data.to(setting.device)
    network = build_network(cfg.network, data).to(setting.device)
    compiled, num, few = cfg.compile, 5, data.train.x[: 4 * 256]
    batches = -(-len(few) // 256)
    weights = Random("default", 0).draw(network, num)

    recipe = TrainingRecipe(
        epochs=1, batch_size=256, optimizer="sgd", lr=0.01, momentum=0.0, weight_decay=0.0,
        stacked=False if compiled else "auto", compiled=compiled,
    )  # fmt: skip

    def run() -> None:
        fit(
            network, weights, few, data.train.y[: len(few)], recipe,
            generators=[generator(0, "expert", k) for k in range(num)],
            normalize=data.normalization,
        )  # fmt: skip

    found = timed(run, setting)
    return found | {"seconds": found["seconds"] / num / batches}


def evaluation(cfg: Any, setting: Setting) -> dict[str, Any]:
    """The protocol dc2021 on random real images, per network."""
    cfg, data = read_data(cfg)
    data.to(setting.device)
    init = build_init(cfg, data)
    method = build_method(cfg, data, init)
    distilled = DistilledDataset(
        **method.tensors(),
        normalization=data.normalization.to("cpu").state(),
        meta={
            "dataset": "arrays", "method": "random", "ipc": cfg.ipc,
            "class_names": data.class_names, "num_classes": data.num_classes,
            "image_shape": data.image_shape,
        },
        config="",
    )  # fmt: skip
    evaluator = build_evaluator(cfg, "convnet", data, init)
    found = timed(partial(evaluator.run, distilled, data), setting)
    return found | {"seconds": found["seconds"] / cfg.evaluation.num_networks}


_OWN: dict[str, Callable[..., dict[str, Any]]] = {"experts": experts, "evaluation": evaluation}


def plain_loop(name: str, cfg: Any, setting: Setting) -> dict[str, Any]:
    cfg, data = read_data(cfg)
    data.to(setting.device)
    options = Options(setting.device, torch.get_num_threads(), 1, True, setting.folder)
    loops = {
        "mtt": plain.trajectory, "tesla": plain.trajectory, "frepo": plain.frepo, "kip": plain.kip,
        "experts": plain.expert, "evaluation": plain.evaluation,
    }  # fmt: skip
    make = loops.get(name) or partial(plain.matching, name)
    return timed(make(cfg, data, options), setting)
