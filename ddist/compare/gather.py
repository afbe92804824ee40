"""Results of runs, found and checked: one :class:`Figure` for each accuracy in them."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ddist.compare.files import KEPT, RESULTS, find, load, parse, texts, use_of
from ddist.compare.settings import (
    Setup,
    changed_settings,
    evaluation,
    identity,
    other_objective,
    protocol_label,
)
from ddist.errors import DdistError


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of trained networks, as fractions."""

    mean: float
    std: float | None  # over networks; None where there is one
    num_networks: int


@dataclass(frozen=True, kw_only=True)
class Figure(Setup):
    """One distilled set under one network and one protocol, as one run found it."""

    file: Path  # and the line, in a file of kept runs
    method: str
    ipc: int
    seed: int
    protocol: str  # its name, and its settings where they are not those of conf/evaluation
    accuracy: Accuracy
    random: Accuracy | None  # random real images under the same network and protocol
    made: float  # when the file was written, seconds
    artifact: str  # the folder of the distilled set
    seconds: float | None  # of distilling
    memory: int | None  # bytes, the most while distilling
    num_bytes: int | None  # of the distilled set
    settings: str = field(default="", compare=False)  # all that was learned with but the seed


@dataclass(frozen=True)
class Gathered:
    """The figures of many runs."""

    figures: list[Figure]
    problems: list[str]  # one sentence for each file that is left out


def gather(runs: Iterable[str], protocols: Mapping[str, dict[str, Any]]) -> Gathered:
    """Read everything that ``runs`` (see :func:`find`) hold. ``protocols`` has the settings that
    each name of a protocol stands for."""
    files, problems = find(runs)
    figures: list[Figure] = []
    for file in files:
        if use_of(file) is not None:
            continue
        try:
            named = texts(file)
        except DdistError as error:
            problems.append(f"{file} is left out: {error}")
            continue
        for place, text in named:
            try:
                figures += figures_of(parse(text), place, file, protocols)
            except DdistError as error:
                problems.append(f"{place} is left out: {error}")
    distilled = {figure.artifact: figure for figure in figures if figure.seconds is not None}
    latest, repeated = newest([with_cost(figure, distilled) for figure in figures])
    return Gathered(latest, problems + repeated)


def read(file: Path, protocols: Mapping[str, dict[str, Any]]) -> list[Figure]:
    """Return the figures of one results.json. Raise a DdistError for a damaged or foreign one."""
    return figures_of(load(file), file, file, protocols)


def figures_of(
    results: dict[str, Any], place: Path, file: Path, protocols: Mapping[str, dict[str, Any]]
) -> list[Figure]:
    """Return the figures of one run's ``results``, which stand at ``place`` in ``file``. Raise a
    DdistError where they are not as ddist writes them."""
    config = results["provenance"]["config"]
    try:
        settings = identity(config)
    except (AttributeError, TypeError):
        raise DdistError("its settings (provenance.config) are not as ddist writes them.") from None
    changed = changed_settings(protocols.get(results.get("protocol", ""), {}), evaluation(config))
    if objective := other_objective(config):
        changed["objective"] = objective
    cost, artifact = results["cost"], config.get("artifact")
    folder = Path(str(artifact)).expanduser() if artifact else file.parent / "distilled"
    if file.suffix == KEPT:  # sets are not kept, and told apart by the names of their runs
        folder = Path(str(artifact or results.get("name") or place))
    randoms = [
        (row, accuracy_of(row, "baselines"))
        for name, row in results["baselines"].items()
        if name.partition(":")[0] == "random"
    ]
    figures = []
    for row in results["evaluation"]:
        accuracy = accuracy_of(row)
        same = [
            random
            for other, random in randoms
            if (other["network"], other["protocol"]) == (row["network"], row["protocol"])
        ]
        figure = Figure(
            file=place,
            **{key: results[key] for key in ("method", "dataset", "init", "ipc", "seed")},
            protocol=protocol_label(row["protocol"], changed),
            network=row["network"],
            accuracy=accuracy,
            random=same[0] if same else None,
            config=config,
            made=file.stat().st_mtime,
            artifact=str(folder.resolve()),
            seconds=cost.get("distill_seconds"),
            memory=cost.get("peak_memory_bytes"),
            num_bytes=cost.get("artifact_bytes"),
            settings=settings,
        )
        figures.append(figure)
    return figures


def accuracy_of(row: Any, section: str = "evaluation") -> Accuracy:
    """Return the accuracy in a row of that part of results.json. Raises DdistError where it is no
    such row."""
    try:
        mean, std, num = row["accuracy_mean"], row["accuracy_std"], row["num_networks"]
        if not (isinstance(row["network"], str) and isinstance(row["protocol"], str)):
            raise TypeError
        mean, std = float(mean), None if std is None or num == 1 else float(std)
        num = int(num)
    except (TypeError, KeyError, ValueError):
        raise DdistError(f"a row of its {section} is not as ddist writes it.") from None
    if not 0 <= mean <= 1 or num < 1 or not (std is None or (math.isfinite(std) and std >= 0)):
        raise DdistError(f"an accuracy is a fraction from 0 to 1, and this has {mean} ± {std}.")
    return Accuracy(mean, std, num)


def with_cost(figure: Figure, distilled: Mapping[str, Figure]) -> Figure:
    """Return ``figure``; of a set that was evaluated by itself (task=evaluate) with the cost of the
    run that distilled it, where ``distilled`` (by artifact) has that or its folder is there."""
    if figure.seconds is not None:
        return figure
    source = distilled.get(figure.artifact)
    if source is not None:
        return replace(figure, seconds=source.seconds, memory=source.memory)
    try:
        cost = load(Path(figure.artifact).parent / RESULTS)["cost"]
    except DdistError:
        return replace(figure, memory=None)
    seconds, memory = cost.get("distill_seconds"), cost.get("peak_memory_bytes")
    return replace(figure, seconds=seconds, memory=memory)


def newest(figures: list[Figure]) -> tuple[list[Figure], list[str]]:
    """Return the newest of the figures that repeat each other, settings and seed and all; and a
    sentence for each file that was left out."""
    latest: dict[tuple[Any, ...], Figure] = {}
    repeated: dict[str, None] = {}
    for figure in sorted(figures, key=lambda figure: figure.made):
        key = (figure.method, figure.dataset, figure.ipc, figure.protocol, figure.network,
               figure.seed, figure.settings)  # fmt: skip
        older = latest.pop(key, None)
        if older is not None:
            note = f"{older.file} is left out: {figure.file} repeats its settings and its seed."
            repeated[note] = None
        latest[key] = figure
    return list(latest.values()), list(repeated)
