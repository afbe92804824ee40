"""task=evaluate: how good is a distilled set, also under another network or protocol?"""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from ddist.artifact import DistilledDataset
from ddist.config import learned_settings, signature, to_plain
from ddist.data import RealData
from ddist.errors import DdistError
from ddist.init.given import Given
from ddist.tasks.build import build_data, build_evaluator, build_init
from ddist.tasks.names import chosen, chosen_names, keys_set
from ddist.tasks.results import peak_memory_bytes, provenance, publish, with_baseline


def run(cfg: DictConfig, *, baseline: bool) -> float | None:
    """Evaluates ``cfg.artifact``. Its own dataset, network, p(theta_0), protocol and seed apply
    unless the command line says otherwise."""
    if cfg.artifact is None:
        raise DdistError("task=evaluate needs the folder of a distilled set: artifact=FOLDER.")
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    distilled = DistilledDataset.load(Path(cfg.artifact).expanduser())
    names = adopt(cfg, distilled)
    data = build_data(cfg)
    check_same_classes(distilled, data)
    own_start = None if chosen("network", "init") else distilled.initial_weights
    init = build_init(cfg, data) if own_start is None else Given(own_start)
    evaluator = build_evaluator(cfg, names["network"], data, init)
    rows, baselines, evaluate_seconds = with_baseline(
        evaluator, distilled, data, cfg.seed, baseline
    )
    results = {
        "schema": 1,
        **names,
        "ipc": distilled.meta["ipc"],
        "steps": distilled.meta.get("steps"),
        "seed": cfg.seed,
        "protocol": evaluator.protocol.name,
        "evaluation": rows,
        "baselines": baselines,
        "cost": {
            "distill_seconds": None,
            "evaluate_seconds": evaluate_seconds,
            "peak_memory_bytes": peak_memory_bytes(),
            "steps_per_second": None,
            "artifact_bytes": distilled.num_bytes,
        },
        "provenance": provenance(signature(learned_settings(cfg)), to_plain(cfg)),
    }
    publish(results, Path(cfg.paths.run))
    return None


def adopt(cfg: DictConfig, distilled: DistilledDataset) -> dict[str, str]:
    """Put the artifact's settings into ``cfg`` where the command line is silent; returns what the
    parts are called in the results."""
    own = DictConfig(OmegaConf.create(distilled.config))
    names = {**chosen_names(), "method": distilled.meta["method"]}
    for group in ("dataset", "network", "init", "evaluation", "seed"):
        if chosen(group) or group not in own:
            continue
        set_by_hand = {key: OmegaConf.select(cfg, key) for key in keys_set(group)}
        cfg[group] = own[group]
        for key, value in set_by_hand.items():
            OmegaConf.update(cfg, key, value)
        if group in names:
            names[group] = distilled.meta[group]
    return names


def check_same_classes(distilled: DistilledDataset, data: RealData) -> None:
    """Raise a DdistError unless the test images look like the distilled ones, class by class."""
    expected = (tuple(distilled.meta["image_shape"]), list(distilled.meta["class_names"]))
    if expected != (tuple(data.image_shape), list(data.class_names)):
        raise DdistError(
            f"The distilled set has images {expected[0]} of {len(expected[1])} classes, but "
            f"{data.name} has {tuple(data.image_shape)} of {data.num_classes} (or names or orders "
            "them otherwise): choose the dataset it was made from."
        )
