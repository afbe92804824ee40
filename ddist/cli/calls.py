"""``ddist.distill`` and ``ddist.evaluate``: what the command does, from Python."""

import json
import logging
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, open_dict
from torch import nn

from ddist.artifact.dataset import DistilledDataset
from ddist.cli.allocator import keep_freed_memory
from ddist.cli.explain import explain
from ddist.cli.main import LIGHTNING_LOGGERS
from ddist.cli.validate import check_config
from ddist.compare.files import RESULTS
from ddist.data.sources.memory import arrays_of
from ddist.errors import DdistError
from ddist.networks.given import given_network
from ddist.stages.bars import bars_alone
from ddist.synthetic.earlier import classes_of
from ddist.tasks import distill as distilling
from ddist.tasks import evaluate as evaluating
from ddist.tasks.build import MakeSource
from ddist.tasks.claim import CHECKPOINT
from ddist.tasks.config import composed_apart, option_names, read_option, register_resolvers
from ddist.tasks.cost import Clock

MakeNetwork = Callable[[int, tuple[int, int, int]], nn.Module]
"""Makes a network from (number of classes, (channels, height, width))."""


def distill(
    train: Any,
    test: Any = None,
    *,
    method: str | None = None,
    ipc: int = 1,
    budget: str | float | None = "auto",
    network: str | MakeNetwork | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> DistilledDataset:
    """Distil a dataset into ``ipc`` images per class, as the command ``ddist`` does.

    Args:
        train: a folder of class folders, the name of a dataset, a pair (images, labels) of arrays
            or tensors, or a torch Dataset of such pairs.
        test: likewise what to test on; None for a part of ``train`` that is drawn for it, or for
            what the folder or the dataset has.
        method, budget: as on the command line; None for the method that it would take.
        network: a name, or a function that makes one (see ``MakeNetwork``).
        folder: where the run leaves its files; None for nowhere.
        settings: any other setting of the command line; those with dots as
            ``**{"method.lr.images": 0.01}``.

    Returns:
        The distilled set; ``.results`` has the rows of its evaluation.

    Raises:
        DdistError: something that the command would refuse.
        KeyboardInterrupt: it was stopped; the message says where the images so far are.
    """
    words = {"ipc": ipc, "budget": budget, **settings}
    if method is not None:
        words["method"] = method
    with (
        lasting(folder) as place,
        composed(train, test, words, network, place) as (cfg, source),
    ):
        distilling.run(cfg, Clock(0.0), baseline=True, source=source)
        return DistilledDataset.load(place / "distilled")


def evaluate(
    distilled: DistilledDataset,
    test: Any,
    *,
    network: str | MakeNetwork | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Return the rows of results of training networks on ``distilled`` and testing them on
    ``test``, as :func:`distill` takes it; under the set's own protocol and network unless
    ``settings`` (``evaluation="dc2021"``) and ``network`` say otherwise."""
    with TemporaryDirectory(prefix="ddist-") as folder:
        distilled.save(Path(folder) / "set")
        words = {"task": "evaluate", "artifact": str(Path(folder) / "set"), **settings}
        whole = isinstance(test, str | Path)  # whose own test split is meant
        train = test if whole else (distilled.to_pixels(), classes_of(distilled))
        names = tuple(distilled.meta["class_names"])
        with composed(train, None if whole else test, words, network, Path(folder)) as made:
            cfg, arrays = made
            source = None if arrays is None else lambda r: replace(arrays(r), class_names=names)
            evaluating.run(cfg, baseline=False, source=source)
        rows: list[dict[str, Any]] = json.loads((Path(folder) / RESULTS).read_text())["evaluation"]
    return rows


@contextmanager
def lasting(folder: str | Path | None) -> Iterator[Path]:
    """Yield ``folder``, or a temporary one for None, in which a run leaves its files. Where it is
    interrupted, keep what is there, and say so in the KeyboardInterrupt."""
    place = Path(mkdtemp(prefix="ddist-") if folder is None else folder)
    kept = folder is not None
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield place
    except BaseException as leaving:
        if not was_interrupted(leaving):
            raise
        files = (place / "distilled", place / CHECKPOINT)
        if not any(file.exists() for file in files):
            raise KeyboardInterrupt("Stopped: nothing was finished yet.") from leaving
        kept = True
        images = f"the images so far are in {files[0]}, " if files[0].exists() else ""
        raise KeyboardInterrupt(
            f"Stopped: {images}the same call with folder={str(place)!r} goes on from there."
        ) from leaving
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)  # Lightning ignores it from an interrupt on
        if not kept:
            shutil.rmtree(place, ignore_errors=True)


def was_interrupted(error: BaseException | None) -> bool:
    """Tell whether ``error`` comes of an interrupt: by way of a library's tidying up, or as the
    SystemExit of a run that is stopped between two steps."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            return True
        error = error.__context__
    return False


@contextmanager
def composed(
    train: Any,
    test: Any,
    settings: dict[str, Any],
    network: str | MakeNetwork | None,
    folder: Path,
) -> Iterator[tuple[DictConfig, MakeSource | None]]:
    """Compose and check the config of a call, and yield it with the source of its data (None where
    the config names it), while Hydra says that it runs. Nothing is printed meanwhile but progress.
    The process keeps freed memory for reuse from then on, as the command's does.
    """
    keep_freed_memory()
    words, source = data_words(train, test, settings.get("dataset.size"))
    words += [f"{name}={value_in_words(value)}" for name, value in settings.items()]
    if isinstance(network, str):
        words.append(f"network={network}")
    words += [f"hydra.run.dir={folder}", f"hydra.runtime.output_dir={folder}"]
    register_resolvers()
    running = HydraConfig.instance().cfg
    levels = {n: logging.getLogger(n).level for n in LIGHTNING_LOGGERS}
    try:
        with ExitStack() as stack:
            try:
                cfg = composed_apart(words, with_hydra=True)
                with open_dict(cfg):
                    if network is not None and not isinstance(network, str):
                        cfg.network = stack.enter_context(given_network(network))
                        cfg.hydra.runtime.choices["network"] = cfg.network.factory
                    HydraConfig.instance().set_config(cfg)
                    del cfg.hydra
                check_config(cfg)
            except Exception as error:
                raise DdistError(explain(error, words)) from None
            stack.enter_context(bars_alone())
            for name in LIGHTNING_LOGGERS:  # which say at each start what devices there are
                logging.getLogger(name).setLevel(logging.WARNING)
            yield cfg, source
    finally:
        HydraConfig.instance().cfg = running
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def data_words(train: Any, test: Any, size: int | None) -> tuple[list[str], MakeSource | None]:
    """Return the words that choose the dataset, and the source of what is in memory."""
    if not isinstance(train, str | Path):
        folder = read_option("dataset", "imagefolder").source  # of which a part is drawn likewise
        drawn = (folder.test_share, folder.split_seed)
        return ["dataset=arrays"], lambda _: arrays_of(train, test, size, *drawn)
    if test is not None and not isinstance(test, str | Path):
        raise DdistError("test has to be a folder too, where train is one.")
    if not Path(train).is_dir() and str(train) in option_names("dataset"):
        return [f"dataset={train}"], None
    words = ["dataset=imagefolder", f"dataset.folder={value_in_words(str(train))}"]
    if test is not None:
        words.append(f"dataset.source.test={value_in_words(str(test))}")
    return words, None


def value_in_words(value: Any) -> str:
    """Return ``value`` as the command line has it."""
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_in_words, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{value_in_words(item)}' for key, item in value.items())}}}"
    return str(value)
