"""task=privacy: what a distilled set gives away of the images that it was made from."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from ddist.artifact.dataset import DistilledDataset
from ddist.compare.sheet import Sheet, make_sheet
from ddist.data import RealData
from ddist.data.split import Split
from ddist.errors import DdistError
from ddist.evaluation import Evaluator
from ddist.evaluation.privacy import Losses, Nearness, nearest, nearness
from ddist.seeding import generator
from ddist.settings.ranges import PositiveInt, Share
from ddist.synthetic.earlier import classes_of
from ddist.tasks.build import build_evaluator
from ddist.tasks.opened import opened, random_images, taken_up
from ddist.tasks.uses import publish_use, use_results

log = logging.getLogger(__name__)

SEEN, UNSEEN, OWN = "training", "held out", "its own"
AT_ONCE = 2000  # real images that are compared at a time
NOTES = (
    "Distances are root mean squared differences of pixels in [0, 1] to the nearest real image; "
    "'nearest is training' is the share of the set whose nearest real image is a training one, "
    "beside that share where nothing is kept of single images.",
    "AUC and found members are those of a threshold on the loss of networks trained on the set: "
    "AUC 0.5 is chance. 'Its own' asks about the images of the set itself, 'training' about all "
    "images it was made from.",
    "These are weak, average-case tests. Chance here is no guarantee: stronger attacks (shadow "
    "models, LiRA) find more, single images may be far more exposed than the average, and only "
    "training with differential privacy bounds what is given away.",
)


def run(cfg: DictConfig, *, images: PositiveInt, false_alarms: Sequence[Share]) -> None:
    """Measure ``cfg.artifact`` and as many random real images: how near they are to training images
    beside held-out ones, and how well the losses of networks trained on them tell ``images`` of
    each apart, also at the shares ``false_alarms`` of wrong accusations."""
    started, folder = time.monotonic(), Path(cfg.paths.run)
    if (begun := taken_up(cfg)) is None:
        return
    distilled, cfg, names = begun
    about = opened(cfg, distilled, asks_teacher=distilled.label_temperature is not None)
    cfg, data = about.cfg, about.data
    evaluator = build_evaluator(cfg, names["network"], data, about.init, about.teacher)
    if not evaluator.protocol.shows_networks:
        raise DdistError(
            f"task=privacy looks at trained networks, which evaluation={evaluator.protocol.name} "
            "has none of: choose evaluation=dc2021, for example."
        )
    few = min(images, len(data.train), len(data.test))
    seen, unseen = (some(split, few, cfg.seed, name) for split, name in
                    ((data.train, "seen"), (data.test, "unseen")))  # fmt: skip
    measured = {}
    for name, one in {"distilled": distilled, "random": random_images(about)}.items():
        log.info("Measuring the %s images.", name)
        measured[name] = {
            "nearest": asdict(near(one, data)),
            **memberships(evaluator, one, data, seen, unseen, false_alarms),
        }
    results = use_results(cfg, names, evaluator.protocol.name, started)
    results["images"] = few
    results["privacy"] = measured
    results["summary"] = {
        f"AUC, {name}": figures["membership"][SEEN]["auc"] for name, figures in measured.items()
    } | {
        f"nearest is training, {name}": figures["nearest"]["nearest_is_train"]
        for name, figures in measured.items()
    }
    publish_use(folder, results, sheets(measured), NOTES, {})


def some(split: Split, number: int, seed: int, name: str) -> Split:
    """Draw ``number`` images of ``split``."""
    order = torch.randperm(len(split), generator=generator(seed, "privacy", name))[:number]
    return split.take(order.to(split.y.device))


def near(one: DistilledDataset, data: RealData) -> Nearness:
    """Return how near the training images of a set are to real ones."""
    synthetic = data.normalization.inverse(one.examples()[0].to(data.device)).clamp(0, 1)
    train, held_out = (
        nearest(synthetic, pixels_of(split, data)) for split in (data.train, data.test)
    )
    return nearness(train, held_out, len(data.train), len(data.test))


def pixels_of(split: Split, data: RealData) -> Iterator[Tensor]:
    """Yield the pixels of ``split``, as floats from 0 to 1."""
    for x, _ in data.batches(split, AT_ONCE):
        yield data.normalization.inverse(x).clamp(0, 1)


def memberships(
    evaluator: Evaluator,
    one: DistilledDataset,
    data: RealData,
    seen: Split,
    unseen: Split,
    false_alarms: Sequence[float],
) -> dict[str, Any]:
    """Train networks on a set and return how well their losses tell training images, and its own,
    from held-out ones."""
    name, network = next(iter(evaluator.tested.items()))
    examples = one.examples()[0].to(data.device)
    classes = classes_of(one).repeat_interleave(one.factor**2).to(data.device)
    groups: dict[str, tuple[Tensor, Tensor]] = {
        SEEN: normalised(seen, data),
        UNSEEN: normalised(unseen, data),
        OWN: (examples, classes),
    }
    losses = Losses(network.to(data.device), groups)
    row = evaluator.row(name, one, data, watch=losses)
    memberships_by_group = {
        members: asdict(losses.membership(members, UNSEEN, false_alarms)) for members in (SEEN, OWN)
    }
    return {"row": row.to_dict(), "membership": memberships_by_group}


def normalised(split: Split, data: RealData) -> tuple[Tensor, Tensor]:
    """Return the images of a small ``split``, normalised, and their classes."""
    return torch.cat([x for x, _ in data.batches(split, AT_ONCE)]), split.y


def sheets(measured: Mapping[str, Mapping[str, Any]]) -> list[Sheet]:
    """Return the table of distances and that of memberships."""
    distances, attacks = [], []
    for name, figures in measured.items():
        nearby = figures["nearest"]
        distances.append(
            {
                "images": name,
                "to training": f"{nearby['train']:.4f}",
                "to held-out": f"{nearby['held_out']:.4f}",
                "closest to training": f"{nearby['closest']:.4f}",
                "nearest is training %": f"{100 * nearby['nearest_is_train']:.1f}",
                "by chance %": f"{100 * nearby['by_chance']:.1f}",
            }
        )
        for members, told in figures["membership"].items():
            row = {"trained on": name, "members": members, "AUC": f"{told['auc']:.3f}"}
            for rate, hits in told["true_positives"].items():
                row[f"found % at {100 * float(rate):g} % false alarms"] = f"{100 * hits:.2f}"
            row["right on members %"] = f"{100 * told['accuracy_members']:.2f}"
            row["on held-out %"] = f"{100 * told['accuracy_others']:.2f}"
            attacks.append(row)
    return [
        make_sheet("Distance to the nearest real image, median", distances),
        make_sheet("Membership by the loss of trained networks", attacks),
    ]
