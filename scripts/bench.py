"""How fast and how large, measured on this machine: alternatives against each other, in one run.

    python scripts/bench.py dd          what Dataset Distillation's outer step is made of
    python scripts/bench.py matching    steps and evaluation of the matching methods on CIFAR-10
    python scripts/bench.py trajectories  the long unrolls of trajectory matching, and its experts
    python scripts/bench.py rat         back-propagation through a window, and through all steps
    python scripts/bench.py kernel      steps of kernel inducing points, and blocks of their kernels
    python scripts/bench.py latents     encoding to disk and quantizing up to a million latents
    python scripts/bench.py stream      ten thousand pictures of 128 px that stay on disk
    ... --quick                         a first look, in a few minutes

Alternatives are timed in turn, so that a busy machine slows all of them, and compared by the median
of the ratios of each turn. A memory figure is the growth of the peak of a fresh process (of
torch.cuda.max_memory_allocated on a GPU). On Linux it is taken twice: with a malloc that gives all
freed memory back, which is what the tensors need, and as the command ddist runs, whose malloc
keeps freed memory: faster, but the kept states fall into gaps that larger tensors leave.
"""

import argparse
import ctypes
import json
import logging
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, pairwise, product
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import nn

import ddist
from ddist.artifact.dataset import DistilledDataset
from ddist.cli.allocator import keep_freed_memory
from ddist.generative import Identity, Latents
from ddist.generative.quantization import cells, clvq
from ddist.init import Random
from ddist.inner.fit import fit
from ddist.inner.recipe import TrainingRecipe
from ddist.inner.steps import Batch, adam, classification_loss, only_weights, sgd, with_moments
from ddist.inner.unroll import Graph, unroll
from ddist.kernels import Convolutional, FullyConnected, Kernel
from ddist.matching.kernel import krr_loss, targets
from ddist.networks import AlexCifarNet, ConvNet, LeNet, Weights
from ddist.seeding import generator
from ddist.tasks.results import peak_memory_bytes

Run = Callable[[], object]
GRAPHS: tuple[Graph, Graph] = ("checkpoint", "autograd")
MEMORY_SHARE = 0.6  # of what is free: a measurement that would need more is left out
BATCH = 1024  # real images, as in the paper
M_MMAP_THRESHOLD = -3  # malloc.h


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    device: str
    threads: int
    repeats: int
    quick: bool
    data: Path


@dataclass(frozen=True)
class Case:
    """An outer step: T student steps on ``images`` each, then the loss on ``real`` images."""

    name: str
    network: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    images: int
    real: int


CASES = (
    Case("LeNet, 10 images a step, 1024 real ones", LeNet, (1, 28, 28), 10, BATCH),
    Case("LeNet, 10 images a step, no real ones", LeNet, (1, 28, 28), 10, 0),
    Case("AlexCifarNet, 10 images a step, no real ones", AlexCifarNet, (3, 32, 32), 10, 0),
)


# -- the subcommand dd -----------------------------------------------------------------------------


def bench_dd(console: Console, options: Options) -> None:
    for case in CASES[:2] if options.quick else CASES:
        console.print(unroll_table(case, options))
    console.print(data_table(options))
    if options.device == "cpu":
        console.print(allocator_table(options))


def unroll_table(case: Case, options: Options) -> Table:
    """Speed and memory of the two graphs of one case for each number of steps."""
    shown = table(
        f"Exact outer gradient: {case.name}",
        ["T", "steps/s checkpoint", "steps/s autograd", "time ratio",
         "MiB checkpoint", "MiB autograd", "memory ratio", "MiB as run (both)"],
        "ratios: checkpoint / autograd (time: median of each turn's)",
    )  # fmt: skip
    lengths = (8, 16) if options.quick else (8, 16, 32, 64)
    outer_step(case, 1, "autograd", options.device)()  # libraries loaded, caches warm
    graphs = list(GRAPHS)
    for length in lengths:
        needed, resident = (
            {g: fresh_process(peak_bytes, case, length, g, keep, options) for g in graphs}
            for keep in (False, True)
        )
        runs = {graph: outer_step(case, length, graph, options.device) for graph in graphs}
        seconds = in_turn(runs, options.repeats)
        shown.add_row(str(length), *unroll_cells(seconds, needed, resident))
        free = MEMORY_SHARE * free_memory(options.device)
        graphs = [g for g in graphs if 2 * max(needed[g], resident[g]) < free]  # for twice the T
    return shown


def unroll_cells(
    seconds: dict[str, list[float]], needed: dict[str, int], resident: dict[str, int]
) -> list[str]:
    """The cells of one T; "too large" where the whole graph does not fit."""
    rates = [f"{1 / median(seconds[g]):.3g}" if g in seconds else "too large" for g in GRAPHS]
    sizes = [mebibytes(needed[g]) if g in needed else "too large" for g in GRAPHS]
    time_ratio = memory_ratio = ""
    if len(seconds) == 2:
        time_ratio = f"{ratio(seconds['checkpoint'], seconds['autograd']):.2f}"
        memory_ratio = f"{needed['checkpoint'] / max(1, needed['autograd']):.3f}"
    as_run = ", ".join(mebibytes(size) for size in resident.values())
    return [*rates, time_ratio, *sizes, memory_ratio, as_run]


def mebibytes(size: int) -> str:
    return f"{size / 2**20:,.0f}"


def data_table(options: Options) -> Table:
    """Batches per second: ddist's data in memory, and a DataLoader with PIL transforms."""
    shown = table(
        f"Real batches of {BATCH} MNIST images, normalised, on the device",
        ["source", "batches/s", "times slower"],
        "DataLoader: torchvision's MNIST, ToTensor and Normalize on PIL images, shuffled",
    )
    if not (options.data / "MNIST").is_dir():
        shown.add_row(f"no MNIST in {options.data}: set DDIST_DATA", "", "")
        return shown
    count = 4 if options.quick else 30
    sources = {"ddist, uint8 in memory": in_memory(options)}
    for workers in (0, 2):
        sources[f"DataLoader, {workers} workers"] = data_loader(options, workers)
    seconds = in_turn({name: drain(new, count) for name, new in sources.items()}, options.repeats)
    first = seconds["ddist, uint8 in memory"]
    for name, found in seconds.items():
        shown.add_row(name, f"{count / median(found):.3g}", f"{ratio(found, first):.3g}")
    return shown


def allocator_table(options: Options) -> Table:
    """LeNet's step with and without ddist.cli.allocator, each in processes of its own."""
    shown = table(
        f"Allocator: gradient of LeNet's loss on {BATCH} images",
        ["malloc", "steps/s", "time ratio"],
        "keeping: ddist.cli.allocator.keep_freed_memory, as the command ddist has it",
    )
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(options.repeats):
        for keep in seconds:
            seconds[keep].append(fresh_process(lenet_seconds, keep, options))
    for keep, found in seconds.items():
        name = "keeping freed memory" if keep else "as the system has it"
        shown.add_row(name, f"{1 / median(found):.3g}", f"{ratio(found, seconds[True]):.2f}")
    return shown


# -- what is measured ------------------------------------------------------------------------------


def outer_step(case: Case, length: int, graph: Graph, device: str) -> Run:
    """One outer gradient: unroll ``length`` steps, take the loss, go back to the images."""
    network = case.network(num_classes=10, image_shape=case.shape).to(device)
    weights = {name: w.detach() for name, w in network.named_parameters()}
    loss = classification_loss(network)
    x = torch.randn(case.images, *case.shape, device=device, requires_grad=True)
    batch = (x, torch.arange(case.images, device=device) % 10)
    sizes = torch.full((length,), 0.01, device=device, requires_grad=True)
    real = random_batch(case.real, case.shape, device)

    def run() -> None:
        end = unroll(sgd(loss), weights, [batch] * length, sizes.unbind(), graph=graph)
        outer = loss(end, real) if case.real else sum(w.square().sum() for w in end.values())
        torch.autograd.grad(outer, [x, sizes])
        synchronize(device)

    return run


def random_batch(size: int, shape: tuple[int, int, int], device: str) -> Batch:
    return torch.randn(size, *shape, device=device), torch.arange(size, device=device) % 10


def peak_bytes(case: Case, length: int, graph: Graph, keep: bool, options: Options) -> int:
    """In a fresh process: by how much one outer step raises the peak, with a malloc that keeps
    freed memory or not."""
    torch.set_num_threads(options.threads)
    (keep_freed_memory if keep else return_freed_memory)()
    tiny = Case("warm-up", case.network, case.shape, 1, 0)
    outer_step(tiny, 1, graph, options.device)()  # what libraries load is not the step's
    run = outer_step(case, length, graph, options.device)
    before = start_peak(options.device)
    run()
    return read_peak(options.device) - before


def lenet_seconds(keep: bool, options: Options) -> float:
    """In a fresh process: median seconds of LeNet's gradient."""
    torch.set_num_threads(options.threads)
    if keep:
        keep_freed_memory()
    network = LeNet(num_classes=10, image_shape=(1, 28, 28))
    weights, batch = dict(network.named_parameters()), random_batch(BATCH, (1, 28, 28), "cpu")
    loss = classification_loss(network)

    def run() -> None:
        torch.autograd.grad(loss(weights, batch), list(weights.values()))

    run()
    return median(in_turn({"step": run}, 5 if options.quick else 30)["step"])


def in_memory(options: Options) -> Callable[[], Iterator[Batch]]:
    """New endless batches from RealData, as conf/dataset/mnist.yaml builds it."""
    from ddist.tasks.config import read_option
    from ddist.tasks.targets import make

    config = {**read_option("dataset", "mnist"), "download": False, "verify": False}
    data = make(config, seed=0, root=options.data, cache=options.data / "cache")
    data = data.load().to(options.device)
    stream = torch.Generator().manual_seed(0)
    return lambda: (data.batch(BATCH, stream) for _ in cycle((None,)))


def data_loader(options: Options, workers: int) -> Callable[[], Iterator[Batch]]:
    """New batches from a DataLoader as the paper's code has it."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    images = datasets.MNIST(options.data, transform=transforms.Compose(steps))
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers)
    return lambda: ((x.to(options.device), y.to(options.device)) for x, y in loader)


def drain(new: Callable[[], Iterator[Batch]], count: int) -> Run:
    """Takes ``count`` batches; the stopwatch starts after the first (workers have started)."""

    def run() -> float:
        batches = new()
        next(batches)
        start = time.perf_counter()
        for _ in islice(batches, count):
            pass
        return time.perf_counter() - start

    return run


# -- the subcommand matching -----------------------------------------------------------------------

MATCHING = ("dm", "dc", "dsa", "cafe")


def bench_matching(console: Console, options: Options) -> None:
    if not (options.data / "cifar-10-batches-py").is_dir():
        console.print(f"no CIFAR-10 in {options.data}: set DDIST_DATA")
        return
    console.print(matching_table(options))
    console.print(evaluation_table(options))


def matching_table(options: Options) -> Table:
    """Each method as ``ddist`` runs it, beside the plain loop over classes where there is one."""
    real = 64 if options.quick else 256
    shown = table(
        f"Outer steps on CIFAR-10, ConvNet-3, {real} real images of each class",
        ["method", "ipc", "s/step", "MiB", "plain loop: s/step", "MiB", "time ratio", "MiB ratio"],
        "plain loop: class by class, the graphs of all classes kept until the end, torch's own "
        "malloc and pooling; dc and dsa without the student's training; MiB: growth of the peak",
    )
    for name, ipc in product(MATCHING[:2] if options.quick else MATCHING, (1, 10)):
        ours, plain = [], []
        for _ in range(options.repeats):
            ours.append(fresh_process(matching_step, name, ipc, real, options))
            if name in PLAIN:
                plain.append(fresh_process(plain_step, name, ipc, real, options))
        row = [f"{median(t for t, _ in ours):.2f}", mebibytes(median(m for _, m in ours))]
        if plain:
            row += [f"{median(t for t, _ in plain):.2f}", mebibytes(median(m for _, m in plain))]
            pairs = list(zip(ours, plain, strict=True))
            row += [f"{median(a[k] / b[k] for a, b in pairs):.2f}" for k in (0, 1)]
        shown.add_row(name, str(ipc), *row)
    return shown


def compose_run(words: list[str], options: Options) -> Any:
    from hydra import compose, initialize_config_dir

    from ddist.tasks.config import conf_dir, register_resolvers

    register_resolvers()
    words = [*words, "dataset=cifar10", "dataset.verify=false", "dataset.download=false"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*words, f"paths.data={options.data}"])
    cfg.recipe = cfg.recipe or "any"  # so that networks are the papers' on any machine
    return cfg


def matching_step(name: str, ipc: int, real: int, options: Options) -> tuple[float, int]:
    """In a fresh process: median seconds of a step by Lightning's loop, and the peak in bytes."""
    from pytorch_lightning import Callback, Trainer

    from ddist.tasks.build import build_init, build_method, read_data

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    words = [f"method={name}", f"ipc={ipc}", f"method.real_per_class={real}"]
    if name in ("dc", "dsa"):
        words.append("method.student_epochs=0")
    cfg = compose_run(words, options)
    cfg, data = read_data(cfg)
    method = build_method(cfg, data, build_init(cfg, data))
    seconds: list[float] = []
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)

    class Stopwatch(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            synchronize(options.device)
            self.start = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            synchronize(options.device)
            seconds.append(time.perf_counter() - self.start)

    trainer = Trainer(
        max_steps=4, accelerator="cpu" if options.device == "cpu" else "gpu", devices=1,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, callbacks=[Stopwatch()],
    )  # fmt: skip
    before = start_peak(options.device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(method, datamodule=data)
    return median(seconds[1:]), read_peak(options.device) - before


def plain_step(name: str, ipc: int, real: int, options: Options) -> tuple[float, int]:
    """In a fresh process: the same step as the papers write it, one class after the other."""
    from ddist.augment import Siamese
    from ddist.tasks.build import read_data
    from ddist.tasks.targets import make

    torch.set_num_threads(options.threads)
    cfg = compose_run([f"method={name}", f"ipc={ipc}"], options)
    cfg, data = read_data(cfg)
    data.to(options.device)
    network = plain_network(cfg, data, options)
    augment: Siamese = make(cfg.augment)
    x_syn = torch.randn(10, ipc, *data.image_shape, device=options.device, requires_grad=True)
    stream = torch.Generator().manual_seed(0)

    def step() -> None:
        loss = torch.zeros((), device=options.device)
        for c, indices in enumerate(data.class_indices(real, stream)):
            draw = augment.draw(1, stream)
            sides = [
                augment.apply(x, draw, torch.zeros(len(x), dtype=torch.int64))
                for x in (data.images(indices), x_syn[c])
            ]
            loss = loss + PLAIN[name](network, *sides, c)
        torch.autograd.grad(loss, x_syn)
        synchronize(options.device)

    before = start_peak(options.device)
    step()
    return median(in_turn({"step": step}, 3)["step"]), read_peak(options.device) - before


def plain_network(cfg: Any, data: Any, options: Options) -> nn.Module:
    """The run's network, a ConvNet, with torch's own pooling."""
    from ddist.tasks.networks import build_network

    network = build_network(cfg.network, data).to(options.device)
    for block in network.body:
        block[-1] = nn.AvgPool2d(2)
    return network


def plain_dm(network: nn.Module, real: torch.Tensor, synthetic: torch.Tensor, c: int) -> Any:
    means = [network.features(x).mean(0) for x in (real, synthetic)]
    return (means[0].detach() - means[1]).square().sum()


def plain_dc(network: nn.Module, real: torch.Tensor, synthetic: torch.Tensor, c: int) -> Any:
    weights, sides = list(network.parameters()), []
    for x, graph in ((real, False), (synthetic, True)):
        y = torch.full((len(x),), c, device=x.device)
        loss = nn.functional.cross_entropy(network(x), y)
        sides.append(torch.autograd.grad(loss, weights, create_graph=graph))
    pairs = [(r.flatten(1), s.flatten(1)) for r, s in zip(*sides, strict=True) if r.ndim > 1]
    return sum((1 - nn.functional.cosine_similarity(r, s, eps=1e-6)).sum() for r, s in pairs)


PLAIN = {"dm": plain_dm, "dc": plain_dc, "dsa": plain_dc}


def evaluation_table(options: Options) -> Table:
    """Seconds per network: training on the distilled set and the pass over the test images."""
    networks = 2 if options.quick else 5
    shown = table(
        f"Evaluation on CIFAR-10 under dc2021, {networks} networks",
        ["ipc", "precision", "s/network", "plain loop: s/network", "time ratio"],
        "plain loop: in single precision, one network after the other, a DataLoader for the "
        "synthetic and one for the test images, torch's own malloc and pooling",
    )
    for ipc in (1, 10):
        plain: list[float] = []
        ours: dict[str, list[float]] = {"32-true": [], "bf16-mixed": []}
        for _ in range(min(3, options.repeats)):
            for precision, seconds in ours.items():
                taken = fresh_process(evaluation_seconds, ipc, networks, precision, options)
                seconds.append(taken / networks)
            plain.append(fresh_process(plain_evaluation_seconds, ipc, options))
        for precision, seconds in ours.items():
            shown.add_row(str(ipc), precision, f"{median(seconds):.1f}", f"{median(plain):.1f}",
                          f"{ratio(seconds, plain):.2f}")  # fmt: skip
    return shown


def evaluation_seconds(ipc: int, networks: int, precision: str, options: Options) -> float:
    """In a fresh process: the protocol as ``ddist`` runs it, on random real images."""
    from ddist.tasks.build import build_evaluator, build_init, build_method, read_data

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    words = ["method=random", "network=convnet", "evaluation=dc2021", f"ipc={ipc}"]
    evaluated = [f"evaluation.num_networks={networks}", f"evaluation.precision={precision}"]
    cfg = compose_run([*words, *evaluated], options)
    cfg, data = read_data(cfg)
    init = build_init(cfg, data)
    method = build_method(cfg, data, init)
    data.to(options.device)
    distilled = DistilledDataset(
        **method.tensors(),
        normalization=data.normalization.state(),
        meta={
            "dataset": "cifar10", "method": "random", "ipc": ipc, "num_classes": 10,
            "class_names": data.class_names, "image_shape": data.image_shape,
        },
        config="",
    )  # fmt: skip
    evaluator = build_evaluator(cfg, "convnet", data, init)
    start = time.perf_counter()
    evaluator.run(distilled, data)
    return time.perf_counter() - start


def plain_evaluation_seconds(ipc: int, options: Options) -> float:
    """In a fresh process: one network, 301 epochs and the test images, by DataLoaders."""
    from torch.utils.data import DataLoader, TensorDataset

    from ddist.tasks.build import read_data

    torch.set_num_threads(options.threads)
    cfg = compose_run(["network=convnet", f"ipc={ipc}"], options)
    cfg, data = read_data(cfg)
    data.to(options.device)
    network = plain_network(cfg, data, options)
    x = data.images(data.class_indices(ipc, torch.Generator().manual_seed(0))).flatten(0, 1)
    y = torch.arange(10, device=options.device).repeat_interleave(ipc)
    test = TensorDataset(data.normalization(data.test.x), data.test.y)
    start = time.perf_counter()
    for epochs, lr in ((152, 0.01), (149, 0.001)):
        optimizer = torch.optim.SGD(network.parameters(), lr, 0.9, weight_decay=5e-4)
        for _ in range(epochs):
            for images, labels in DataLoader(TensorDataset(x, y), 256, shuffle=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
    with torch.no_grad():
        for images, _ in DataLoader(test, 256):
            network(images).argmax(1)
    synchronize(options.device)
    return time.perf_counter() - start


# -- the subcommand trajectories -------------------------------------------------------------------

CONVNET = partial(ConvNet, depth=3, width=128, norm="instance", pooling="avg", activation="relu")
UNROLLS: tuple[Graph, ...] = ("autograd", "selective", "checkpoint", "first_order")


def bench_trajectories(console: Console, options: Options) -> None:
    console.print(trajectory_table(options))
    console.print(experts_table(options))


def trajectory_table(options: Options) -> Table:
    """Seconds and memory of an outer step at CIFAR-10's shapes, by kind of graph."""
    shown = table(
        "Gradient through T steps of ConvNet-3 on CIFAR-10's shapes",
        ["images a step", "T", "unroll", "s", "MiB", "time ratio", "MiB ratio"],
        "ratios: to autograd in the same row's T; MiB: growth of the peak; without augmentation",
    )
    lengths = ((10, 5), (100, 3)) if options.quick else ((10, 50), (100, 30))
    for images, length in lengths:
        case = Case("", CONVNET, (3, 32, 32), images, 0)
        found: dict[str, list[tuple[float, int]]] = {graph: [] for graph in UNROLLS}
        for _, graph in product(range(options.repeats), UNROLLS):
            found[graph].append(fresh_process(unroll_cost, case, length, graph, options))
        for graph, costs in found.items():
            pairs = list(zip(costs, found["autograd"], strict=True))
            ratios = [f"{median(a[k] / b[k] for a, b in pairs):.3f}" for k in (0, 1)]
            shown.add_row(str(images), str(length), graph, *cost_cells(costs), *ratios)
    if not options.quick:
        case = Case("", CONVNET, (3, 32, 32), 100, 0)
        for graph in UNROLLS[1:3]:
            costs = [fresh_process(unroll_cost, case, 200, graph, options)]
            shown.add_row("100", "200", graph, *cost_cells(costs), "", "")
    return shown


def cost_cells(costs: list[tuple[float, int]]) -> list[str]:
    return [f"{median(t for t, _ in costs):.1f}", mebibytes(int(median(m for _, m in costs)))]


def unroll_cost(case: Case, length: int, graph: Graph, options: Options) -> tuple[float, int]:
    """In a fresh process, as the command ddist sets it up: seconds and bytes of an outer step."""
    prepare(options)
    outer_step(case, 1, graph, options.device)()
    run = outer_step(case, length, graph, options.device)
    before = start_peak(options.device)
    (seconds,) = in_turn({"step": run}, 1)["step"]
    return seconds, read_peak(options.device) - before


def experts_table(options: Options) -> Table:
    """Experts trained at once, stacked, against one after the other."""
    shown = table(
        "Experts: images per second and expert, ConvNet-3 on CIFAR-10's shapes, batches of 256",
        ["experts", "one by one", "stacked", "time ratio"],
        "ratio: stacked / one by one; without augmentation",
    )
    num = 256 * (1 if options.quick else 4)
    network = CONVNET(num_classes=10, image_shape=(3, 32, 32)).to(options.device)
    x, y = random_batch(num, (3, 32, 32), options.device)
    for experts in (2, 5):
        weights = Random("default", 0).draw(network, experts)

        def train(stacked: bool, weights: Weights = weights, experts: int = experts) -> None:
            recipe = TrainingRecipe(
                epochs=1, batch_size=256, optimizer="sgd", lr=0.01, momentum=0.0, weight_decay=0.0,
                stacked=stacked,
            )  # fmt: skip
            streams = [generator(0, "expert", k) for k in range(experts)]
            fit(network, weights, x, y, recipe, generators=streams)
            synchronize(options.device)

        runs = {"one by one": partial(train, False), "stacked": partial(train, True)}
        seconds = in_turn(runs, options.repeats)
        rates = [f"{num * experts / median(found):.0f}" for found in seconds.values()]
        shown.add_row(str(experts), *rates, f"{ratio(*reversed(list(seconds.values()))):.2f}")
    return shown


# -- the subcommand rat ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """A student's training by Adam on 10 images: ``steps`` steps, of which the last ``window`` are
    differentiated."""

    shape: tuple[int, int, int]
    steps: int
    window: int
    graph: Graph


def bench_rat(console: Console, options: Options) -> None:
    console.print(truncation_table(options))


def truncation_table(options: Options) -> Table:
    """Seconds and memory of an outer step with a window, and with all steps."""
    total, window = (20, 6) if options.quick else (200, 60)
    shown = table(
        f"RaT-BPTT's outer step: a window of {window} of up to {total} steps, ConvNet-3, Adam",
        ["image", "steps", "differentiated", "unroll", "s", "MiB", "time ratio", "MiB ratio"],
        "ratios: to the first row of the image, full back-propagation through time; windows end "
        "after any number of steps, here after their mean; 10 images a step, none real, without "
        "augmentation; MiB: growth of the peak",
    )  # fmt: skip
    for shape in ((1, 28, 28),) if options.quick else ((1, 28, 28), (3, 32, 32)):
        mean = (total + window) // 2
        trainings = [
            Training(shape, *each, graph)
            for each, graph in product(((total, total), (mean, window)), GRAPHS)
        ]
        found: dict[Training, list[tuple[float, int]]] = {each: [] for each in trainings}
        possible = [each for each in trainings if fits(each, options)]
        for _, training in product(range(options.repeats), possible):
            found[training].append(fresh_process(truncation_cost, training, options))
        for training, costs in found.items():
            row = ["x".join(map(str, shape)), str(training.steps), str(training.window)]
            cells = ["too large"]
            if costs:
                cells = cost_cells(costs)
            if costs and found[trainings[0]]:
                pairs = list(zip(costs, found[trainings[0]], strict=True))
                cells += [f"{median(a[k] / b[k] for a, b in pairs):.3f}" for k in (0, 1)]
            shown.add_row(*row, training.graph, *cells)
    return shown


def fits(training: Training, options: Options) -> bool:
    """Whether its graph fits into memory, by what the whole graph of few steps needs."""
    if training.graph != "autograd":
        return True
    few = Training(training.shape, 4, 4, "autograd")
    needed = fresh_process(truncation_cost, few, options)[1] / 4 * training.window
    return needed < MEMORY_SHARE * free_memory(options.device)


def truncation_cost(training: Training, options: Options) -> tuple[float, int]:
    """In a fresh process, as the command ddist sets it up: seconds and bytes of an outer step."""
    prepare(options)
    network = CONVNET(num_classes=10, image_shape=training.shape).to(options.device)
    weights = {name: w.detach() for name, w in network.named_parameters()}
    x = torch.randn(10, *training.shape, device=options.device, requires_grad=True)
    batch = (x, torch.arange(10, device=options.device))
    step, size = adam(classification_loss(network)), torch.tensor(0.001, device=options.device)

    def run(steps: int) -> None:
        end = unroll(
            step, with_moments(weights), [batch] * steps, [size] * steps,
            graph=training.graph, window=training.window,
        )  # fmt: skip
        torch.autograd.grad(sum(w.square().sum() for w in only_weights(end).values()), x)
        synchronize(options.device)

    run(1)  # what libraries load is not the step's
    before = start_peak(options.device)
    (seconds,) = in_turn({"step": partial(run, training.steps)}, 1)["step"]
    return seconds, read_peak(options.device) - before


# -- the subcommand kernel -------------------------------------------------------------------------

KERNELS: dict[str, Callable[..., Kernel]] = {
    "fc1": partial(FullyConnected, depth=1),
    "fc3": partial(FullyConnected, depth=3),
    "conv3": partial(Convolutional, depth=3, pooling="none"),
    "conv3 global": partial(Convolutional, depth=3, pooling="global"),
}
MEMORY = 1024.0  # MiB, as conf/kernel has it


@dataclass(frozen=True)
class KernelCase:
    """An outer step of KIP: ``support`` images learned, ``targets`` real ones, square of ``side``
    pixels with ``channels``."""

    kernel: str
    channels: int
    side: int
    support: int
    targets: int


def bench_kernel(console: Console, options: Options) -> None:
    console.print(kip_table(options))
    console.print(blocks_table(options))


def kip_table(options: Options) -> Table:
    """Steps per second and memory as support and targets grow."""
    shown = table(
        "KIP's outer step: loss and gradient of the images",
        ["kernel", "image", "support", "targets", "s/step", "ns/pair", "MiB"],
        "ns/pair: of support and target images; MiB: growth of the peak; without drawing the real "
        "images",
    )
    for case in kip_cases(options.quick):
        costs = [fresh_process(kip_cost, case, MEMORY, options) for _ in range(options.repeats)]
        seconds, size = (median(column) for column in zip(*costs, strict=True))
        pairs = case.support * (case.support + case.targets)
        image = f"{case.channels}x{case.side}x{case.side}"
        shown.add_row(case.kernel, image, str(case.support), str(case.targets), f"{seconds:.3g}",
                      f"{1e9 * seconds / pairs:.3g}", mebibytes(int(size)))  # fmt: skip
    return shown


def kip_cases(quick: bool) -> list[KernelCase]:
    if quick:
        sizes = [(10, 1000), (10, 5000), (100, 5000)]
        return [KernelCase("fc1", 1, 28, *size) for size in sizes] + [
            KernelCase("conv3", 1, 14, 10, 100)
        ]
    sizes = list(product((10, 100, 500), (1000, 5000, 20000)))
    cases = [KernelCase("fc1", 1, 28, *size) for size in sizes]
    cases += [KernelCase("fc3", 1, 28, 100, 5000)]
    cases += [KernelCase("fc1", 3, 32, support, 5000) for support in (10, 100, 500)]
    cases += [KernelCase("conv3", 1, 14, *size) for size in product((10, 100), (100, 1000))]
    return cases


def blocks_table(options: Options) -> Table:
    """What bounding the memory of the convolutional kernels costs."""
    shown = table(
        "Blocks of the convolutional kernels: 10 images, gradient included",
        ["kernel", "image", "targets", "kernel.memory", "s", "MiB", "time ratio", "MiB ratio"],
        "ratios: to a single block, which keeps the whole graph; MiB: growth of the peak",
    )
    few = 50 if options.quick else 500
    for case in (
        KernelCase("conv3", 1, 14, 10, 10 * few),
        KernelCase("conv3 global", 1, 8, 10, few // 5),
    ):
        limits = (None, 256.0, 16.0)
        found: dict[float | None, list[tuple[float, int]]] = {limit: [] for limit in limits}
        for _, limit in product(range(options.repeats), limits):
            found[limit].append(fresh_process(kip_cost, case, limit, options))
        for limit, costs in found.items():
            pairs = list(zip(costs, found[None], strict=True))
            ratios = [f"{median(a[k] / max(1, b[k]) for a, b in pairs):.3f}" for k in (0, 1)]
            image = f"{case.channels}x{case.side}x{case.side}"
            setting = "single block" if limit is None else f"{limit:g}"
            shown.add_row(
                case.kernel, image, str(case.targets), setting, *cost_cells(costs), *ratios
            )
    return shown


def kip_cost(case: KernelCase, memory: float | None, options: Options) -> tuple[float, int]:
    """In a fresh process, as the command ddist sets it up: median seconds and bytes of a step with
    blocks of ``memory`` MiB; None: a single block."""
    prepare(options)
    kernel = KERNELS[case.kernel](
        activation="relu", weight_std=2**0.5, bias_std=0.1, kind="ntk", memory=memory or MEMORY
    )
    shape = (case.channels, case.side, case.side)
    x_s, x_t = (torch.randn(n, *shape, device=options.device) for n in (case.support, case.targets))
    y_s, y_t = (targets(torch.arange(len(x), device=x.device) % 10, 10) for x in (x_s, x_t))
    x_s.requires_grad_()

    def step() -> None:
        loss = krr_loss(kernel(x_s, x_s), kernel(x_t, x_s), y_s, y_t, 1e-6)
        torch.autograd.grad(loss, x_s)
        synchronize(options.device)

    torch.autograd.grad(
        kernel(x_t[:2], x_s[:2]).sum(), x_s
    )  # what libraries load is not the step's
    if memory is None:
        kernel.pairs_at_once = lambda x: case.support * case.targets  # type: ignore[method-assign]
    before = start_peak(options.device)
    seconds = in_turn({"step": step}, 1 if options.quick else 3)["step"]
    return median(seconds), read_peak(options.device) - before


# -- the subcommand latents ------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A class of images [num, 1, 16, 16] that are drawn when they are asked for: uint8, of 100
    kinds. As much of a RealData and its split as latents look at."""

    num: int
    cache: Path
    name: str = "drawn"
    image_shape: tuple[int, int, int] = (1, 16, 16)

    @property
    def train(self) -> "Drawn":
        return self

    @property
    def x(self) -> "Drawn":
        return self

    @property
    def offsets(self) -> tuple[int, int]:
        return 0, self.num

    def fingerprint(self) -> str:
        return f"drawn {self.num}"

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, rows: slice) -> torch.Tensor:
        stream = generator(0, "drawn", rows.start)
        kinds = torch.randint(256, (100, 256), generator=generator(0, "kinds"))
        start, stop, _ = rows.indices(self.num)
        chosen = torch.randint(100, (stop - start,), generator=stream)
        noise = torch.randint(-60, 61, (stop - start, 256), generator=stream)
        return (kinds[chosen] + noise).clamp(0, 255).to(torch.uint8).view(-1, 1, 16, 16)


def bench_latents(console: Console, options: Options) -> None:
    shown = table(
        "Latents of 256 numbers: encoded (as they are) to disk, then 100 centroids in two passes",
        ["latents", "on disk MiB", "s encode", "s quantize", "s assign", "error", "peak MiB"],
        "one class, batches of 1024; error: mean squared distance to the nearest centroid; peak: "
        "growth of the resident memory over all three",
    )
    for num in (10_000, 100_000) if options.quick else (10_000, 100_000, 1_000_000):
        seconds, error, peak = fresh_process(latents_cost, num, options)
        figures = [f"{each:.3g}" for each in (*seconds, error)]
        shown.add_row(f"{num:,}", mebibytes(1024 * num), *figures, mebibytes(peak))
    console.print(shown)


def latents_cost(num: int, options: Options) -> tuple[list[float], float, int]:
    """Seconds of encoding, of quantizing and of the exact pass; the error; growth of the peak."""
    prepare(options)
    with TemporaryDirectory() as folder:
        data: Any = Drawn(num, Path(folder))
        pair = Identity()
        pair.prepare(data, 0)
        latents = Latents(data, pair)
        before = start_peak("cpu")
        times = [time.perf_counter()]
        latents.prepare()
        times.append(time.perf_counter())
        rng = np.random.RandomState(0)
        settings = {"passes": 2, "batch_size": 1024, "start_size": 5000, "reassignment": 0.0}
        centroids = clvq(latents.of_class(0), 100, **settings, rng=rng)
        times.append(time.perf_counter())
        error = cells(latents.of_class(0), centroids, 4096).error
        times.append(time.perf_counter())
        peak = read_peak("cpu") - before
    return [b - a for a, b in pairwise(times)], error, peak


# -- the subcommand stream -------------------------------------------------------------------------


STAGES = {"decoded": "read from disk batch", "encoded": "Quantizing", "distilled": "Evaluating"}
"""Each with what is logged at its end."""


def bench_stream(console: Console, options: Options) -> None:
    shown = table(
        "JPEGs decoded at 128 px, distilled by method=ddoq generative=autoencoder ipc=10",
        ["pictures", "decoded MiB", "s killed after", "s resumed", "images/s",
         *(f"MiB {stage}" for stage in STAGES), "MiB in all", "same"],
        "all by the command ddist, killed (SIGKILL) when half of the files are decoded and started "
        "again; images/s: decoded before the kill; MiB: the resumed process's peak of all resident "
        "memory, mapped files included, up to the end of a stage; same: to the last bit as never "
        "killed",
    )  # fmt: skip
    for num in (500, 2_000) if options.quick else (2_500, 10_000):
        with TemporaryDirectory() as folder:
            shown.add_row(f"{num:,}", *stream_cells(num, Path(folder), options))
    console.print(shown)


def stream_cells(num: int, folder: Path, options: Options) -> list[str]:
    """What is shown of ``num`` training pictures in ten classes, and a thousand to test on."""
    paint(folder / "pictures", num)
    start = time.perf_counter()
    files = ceil(num * 3 * 128**2 / 2**25 / 10) * 10
    run = distil_stream(folder, "cache", options)
    first = 0.0
    while (there := len(list(folder.glob("cache/decoded/*/*.npy")))) < files // 2:
        first = first or (time.perf_counter() if there else 0.0)
        assert run.poll() is None, "it has ended"
        time.sleep(0.05)
    run.kill()
    run.wait()
    killed = time.perf_counter() - start
    kept = {file: file.stat().st_mtime_ns for file in folder.glob("cache/decoded/*/*.npy")}
    rate = num / files * (len(kept) - 1) / (start + killed - first)
    start = time.perf_counter()
    begun = (folder / "cache.log").stat().st_size
    resumed, peaks = distil_stream(folder, "cache", options), dict.fromkeys(STAGES, 0)
    while resumed.poll() is None:
        peak, said = resident(resumed.pid, "VmHWM:"), (folder / "cache.log").read_bytes()[begun:]
        peaks |= {stage: peak for stage, end in STAGES.items() if end.encode() not in said}
        time.sleep(0.05)
    seconds = time.perf_counter() - start
    assert all(file.stat().st_mtime_ns == when for file, when in kept.items()), "decoded again"
    distil_stream(folder, "whole", options).wait()
    images = [ddist.load(folder / name / "distilled").images for name in ("cache", "whole")]
    cost = json.loads((folder / "cache" / "results.json").read_text())["cost"]
    return [
        mebibytes(3 * 128**2 * num), f"{killed:.0f}", f"{seconds:.0f}", f"{rate:.0f}",
        *map(mebibytes, peaks.values()), mebibytes(cost["peak_memory_bytes"]),
        "yes" if torch.equal(*images) else "no",
    ]  # fmt: skip


def distil_stream(folder: Path, name: str, options: Options) -> subprocess.Popen[bytes]:
    """The command, with a cache and a run's folder of its own, both ``name``."""
    words = [
        "dataset=imagefolder", f"dataset.source.folder={folder / 'pictures'}", "dataset.size=128",
        "dataset.source.in_memory=0",
        "method=ddoq", "generative=autoencoder", "generative.width=8", "generative.steps=20",
        "generative.batch_size=32",
        "ipc=10", "task.baseline=false",
        "evaluation=knn", f"paths.cache={folder / name}", f"hydra.run.dir={folder / name}",
        f"threads={options.threads}",
    ]  # fmt: skip
    log = (folder / f"{name}.log").open("ab")
    return subprocess.Popen([sys.executable, "-P", "-m", "ddist", *words], stdout=log, stderr=log)


def resident(pid: int, field: str) -> int:
    """Bytes, of /proc/<pid>/status; 0 for a process that has ended, and where there is no /proc."""
    try:
        return 1024 * proc_number(f"/proc/{pid}/status", field)
    except (OSError, StopIteration):
        return 0


def paint(folder: Path, num: int) -> None:
    """JPEGs of about 150 px with a pattern for each of ten classes."""
    random = np.random.default_rng(0)
    patterns = random.integers(256, size=(10, 6, 6, 3))
    for part, each in (("train", num // 10), ("test", 100)):
        for c, k in product(range(10), range(each)):
            small = (patterns[c] + random.integers(-60, 61, size=(6, 6, 3))).clip(0, 255)
            width = 150 + int(random.integers(20))
            picture = Image.fromarray(small.astype(np.uint8)).resize((width, 150))
            path = folder / part / f"class_{c}" / f"{k:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


# -- measuring -------------------------------------------------------------------------------------


def in_turn(runs: dict[str, Run], repeats: int) -> dict[str, list[float]]:
    """Seconds of each run in each turn. A run that times itself returns its seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            own = run()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - start)
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> float:
    return median(a / b for a, b in zip(seconds, reference, strict=True))


def fresh_process(function: Callable[..., Any], *arguments: object) -> Any:
    """``function(*arguments)`` in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def prepare(options: Options) -> None:
    """This process as the command ddist sets itself up."""
    torch.set_num_threads(options.threads)
    keep_freed_memory()


def return_freed_memory() -> None:
    """glibc: every block of 128 KiB or more goes back to the system as soon as it is freed. By
    default that limit rises with the blocks that are freed."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 128 * 1024)


def start_peak(device: str) -> int:
    """Start a new measurement of the peak; the bytes held now."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed is not there for the step
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    return read_peak(device)


def read_peak(device: str) -> int:
    """Most bytes held since :func:`start_peak`."""
    return torch.cuda.max_memory_allocated() if device != "cpu" else peak_memory_bytes()


def free_memory(device: str) -> int:
    """Bytes that a measurement may hope for."""
    if device != "cpu":
        return torch.cuda.mem_get_info()[0]
    if sys.platform == "linux":
        return 1024 * proc_number("/proc/meminfo", "MemAvailable:")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def proc_number(file: str, field: str) -> int:
    lines = (line.split() for line in Path(file).read_text().splitlines())
    return next(int(words[1]) for words in lines if words[:1] == [field])


def synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


# -- what is shown ---------------------------------------------------------------------------------


def table(title: str, columns: list[str], caption: str) -> Table:
    shown = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for k, column in enumerate(columns):
        shown.add_column(column, justify="left" if k == 0 else "right")
    return shown


def machine(options: Options) -> str:
    """Where these figures come from."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    chip = models[0] if models else platform.processor() or platform.machine()
    gpu = "" if options.device == "cpu" else f", {torch.cuda.get_device_name()}"
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    return (
        f"{chip}, {os.cpu_count()} cores{gpu} · torch {torch.__version__}, {options.threads} "
        f"threads · load average {load} · {options.repeats} repeats"
    )


def arguments() -> tuple[str, Options]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        command = commands.add_parser(name)
        command.add_argument("--threads", type=int, default=torch.get_num_threads())
        command.add_argument("--repeats", type=int, default=None, help="default: 5; 2 with --quick")
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        command.add_argument("--quick", action="store_true", help="fewer cases, 2 repeats")
    given = parser.parse_args()
    repeats = given.repeats or (2 if given.quick else 5)
    data = Path(os.environ.get("DDIST_DATA") or Path.home() / ".cache" / "ddist" / "data")
    return given.command, Options(given.device, given.threads, repeats, given.quick, data)


COMMANDS: dict[str, Callable[[Console, Options], None]] = {
    "dd": bench_dd,
    "matching": bench_matching,
    "trajectories": bench_trajectories,
    "rat": bench_rat,
    "kernel": bench_kernel,
    "latents": bench_latents,
    "stream": bench_stream,
}


def main() -> None:
    command, options = arguments()
    prepare(options)
    console = Console(width=max(120, Console().width))
    console.print(machine(options))
    COMMANDS[command](console, options)


if __name__ == "__main__":
    main()
