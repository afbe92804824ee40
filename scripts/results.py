"""Kept runs (docs/results/*.jsonl, one a line), and the page that is made of them.

python scripts/results.py keep FOLDER…   keep the results.json of runs, newer ones in place of older
python scripts/results.py write          write docs/results.*, docs/coverage.md and README's table
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Canvas
from tables import coverage, with_methods

from ddist.artifact.card import markdown_table
from ddist.compare.files import KEPT, RESULTS, load
from ddist.compare.rows import ComparedRow
from ddist.compare.sheet import markdown
from ddist.compare.tables import FLAG, percent, published_percent
from ddist.errors import DdistError
from ddist.formatting import duration
from ddist.settings.groups import without
from ddist.storage.signature import signature
from ddist.tasks.compare import Compared, compared

ROOT = Path(__file__).parents[1]
RUNS, PAGE = ROOT / "docs" / "results", ROOT / "docs" / "results.md"
NO_SETTINGS = {"callbacks", "logger", "paths", "task", "threads", "resume"}
"""Keys of a config that say nothing of what was learned or evaluated."""
TITLES = {
    "digits": "Digits (8x8, bundled)",
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "usps": "USPS",
    "cifar10": "CIFAR-10",
    "imagefolder": "Folders of pictures",
}
UNTOLD = re.compile(r"\b(strategy|validation|name|source\.folder)=[^,]*(, )?")
PICTURE = "![Accuracy against seconds of distilling on MNIST, protocol dc2021_dsa](results.png)"
HEAD = """# Results

<!-- Written by `python scripts/results.py write` from docs/results/*.jsonl: do not edit. -->

Every figure here was measured. Its run is a line of [docs/results](results): the command, the
settings, the time and the memory. A cell reads

> **ours ± standard deviation** (random real images) [published]

in per cent of the test images. The spread is over the networks that were evaluated, or over seeds
where there are several.

| mark | meaning |
|---|---|
| ≠ | published for another network or other settings, mostly four times the width: no target |
| * | published figure from a later paper's table |
| ? | published figure from memory, not checked |
| ! | more than two joint standard deviations (two points, where none is known) off |

Figures of two protocols do not compare: [protocols.md](protocols.md) says why, and on which
machines these runs were made. `time` is the time of distilling for each ipc, on one CPU core that
mostly had other work beside it: an upper bound. The name of a method links to its preset.
`ddist task=compare runs=docs/results` writes the same tables as CSV and LaTeX, and plots."""


def keep(folders: list[Path]) -> None:
    """Write each run's results as a line of its dataset's file, in place of one of its name."""
    for folder in folders:
        record = record_of(folder)
        file = RUNS / f"{record['dataset']}{KEPT}"
        lines = file.read_text().splitlines() if file.exists() else []
        kept = {json.loads(line)["name"]: line for line in lines}
        kept.pop(record["name"], None)  # the newest stands last
        kept[record["name"]] = json.dumps(record, ensure_ascii=False, allow_nan=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(kept.values()) + "\n")
        print(f"{record['name']}: {file.relative_to(ROOT)}")


def record_of(folder: Path) -> dict[str, Any]:
    """Return a run's results as they are kept: what they are called and come from first. A set
    that was evaluated by itself names the run that distilled it, where that is there."""
    results = load(folder / RESULTS)
    provenance = results["provenance"]
    config = {k: v for k, v in provenance["config"].items() if k not in NO_SETTINGS}
    config["trainer"] = without(config.get("trainer", {}), {"default_root_dir"})
    origin = {key: provenance.pop(key, None) for key in ("command", "commit", "machine")}
    source = Path(str(config.get("artifact"))).expanduser().parent
    if config.get("artifact") and (source / RESULTS).exists():
        config["artifact"] = record_of(source)["name"]
    provenance["config"] = config
    parts = [results[key] for key in ("dataset", "ipc", "method", "protocol")]
    name = "_".join([*map(str, parts), signature(config)])
    return {"name": name, **origin, **results}


def compared_runs() -> Compared:
    """Return the kept runs beside what papers publish, with the usual limits."""
    return compared([str(RUNS)], deviations=2.0, points=2.0, full=None)


def page(comparison: Compared) -> str:
    """Return docs/results.md: of each dataset and protocol a table, a column for each ipc."""
    datasets = sorted(
        {row.first.dataset for rows in comparison.tables.values() for row in rows}, key=place_of
    )
    titles = [TITLES.get(name, name) for name in datasets]
    contents = "\n".join(f"- [{title}](#{anchor(title)})" for title in titles)
    sections = [HEAD, contents, PICTURE]
    for dataset, title in zip(datasets, titles, strict=True):
        sections.append(f"## {title}")
        for protocol, rows in comparison.tables.items():
            of_dataset = [row for row in rows if row.first.dataset == dataset]
            if of_dataset:
                sections += [f"**Protocol `{protocol}`**", table(of_dataset)]
    if comparison.scores is not None:
        scores = markdown([comparison.scores], []).partition("## ")[2]
        sections.append(f"## {scores.strip()}")
    notes = [note for note in comparison.notes if not note.startswith("Published figures with")]
    sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in notes))
    return "\n\n".join(sections) + "\n"


def pages(comparison: Compared) -> dict[Path, str]:
    """Return the documents that the kept runs make, whole or in part, by their files."""
    readme = ROOT / "README.md"
    return {
        PAGE: page(comparison),
        PAGE.with_name("coverage.md"): coverage(comparison),
        readme: with_methods(readme.read_text(), comparison),
    }


def table(rows: list[ComparedRow]) -> str:
    """Return a table with a row for each method, network and settings that tell it apart."""
    ipcs = sorted({row.first.ipc for row in rows})
    alike: dict[tuple[str, str, str], dict[int, ComparedRow]] = {}
    for row in rows:
        key = (row.first.method, row.network, told(row.differences))
        while row.first.ipc in alike.get(key, {}):  # settings too long to be told apart
            key = (*key[:2], f"{key[2]} ")
        alike.setdefault(key, {})[row.first.ipc] = row
    head = ["method", *(f"ipc {ipc}" for ipc in ipcs), "time", "network", "settings"]
    lines = []
    for (method, network, settings), by_ipc in alike.items():
        times = [by_ipc[i].seconds if i in by_ipc else None for i in ipcs]
        known = [duration(seconds) if seconds is not None else "–" for seconds in times]
        figures = [cell(by_ipc[i]) if i in by_ipc else "" for i in ipcs]
        cells = [linked(method, rows[0].first.dataset), *figures, " / ".join(known)]
        lines.append((*cells, network, settings.strip().replace("|", "\\|")))
    return markdown_table(tuple(head), lines).strip()


def told(differences: str) -> str:
    """Return the settings that tell rows apart without those of evaluation and of older versions,
    and of folders of pictures their names alone."""
    return re.sub(r"folder=[^,]*/", "folder=", UNTOLD.sub("", differences)).rstrip(", ")


def cell(row: ComparedRow) -> str:
    """Return ``ours ± std (random) [published]``, with the marks that HEAD explains."""
    comparison, random = row.comparison, row.random
    text = f"**{percent(row.accuracy)}**"
    if random is not None:
        text += f" ({100 * random.mean:.1f})"
    if comparison.published is not None:
        near = "" if comparison.difference is not None else "≠ "
        text += f" [{near}{published_percent(comparison.published)}]"
    return text + f" {FLAG}" * comparison.flagged


def linked(method: str, dataset: str) -> str:
    """Return the method, with a link to its preset where that has settings for the dataset."""
    file = ROOT / "conf" / "experiment" / "laptop" / f"{method}.yaml"
    has_row = file.is_file() and re.search(rf"dataset: {dataset}\b", file.read_text())
    return f"[`{method}`](../{file.relative_to(ROOT)})" if has_row else f"`{method}`"


def anchor(heading: str) -> str:
    """Return what a link to a heading says, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def place_of(dataset: str) -> tuple[int, str]:
    """Return a key that sorts the datasets as TITLES does."""
    known = list(TITLES)
    return known.index(dataset) if dataset in known else len(known), dataset


def picture(comparison: Compared) -> None:
    """Draw accuracy against seconds of distilling on MNIST, each figure with its method's name."""
    rows = [row for row in comparison.tables["dc2021_dsa"] if row.first.dataset == "mnist"]
    canvas = Canvas(figsize=(11, 5.4), layout="constrained")
    for axes, ipc in zip(canvas.subplots(1, 2), (1, 10), strict=True):
        same_size = [row for row in rows if row.first.ipc == ipc]
        random = max(100 * r.accuracy.mean for r in same_size if r.first.method == "random")
        shown = [r for r in same_size if r.seconds and 100 * r.accuracy.mean > random]
        for row in shown:
            x, y = row.seconds or 0, 100 * row.accuracy.mean
            wide = row.network == "convnet 128"
            axes.errorbar(x, y, 100 * (row.accuracy.std or 0), fmt="o" if wide else "s",
                          color="#0072b2" if wide else "#d55e00", elinewidth=0.7)  # fmt: skip
            axes.annotate(row.first.method, (x, y), xytext=(5, 3), textcoords="offset points",
                          fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        images = f"{ipc} image{'s' * (ipc > 1)} per class"
        axes.set_title(f"MNIST, {images} (random real images: {random:.1f})", fontsize=10)
        axes.margins(x=0.12)
        axes.set_xlabel("seconds of distilling, one CPU core")
        axes.set_ylabel("test accuracy, %")
        axes.grid(alpha=0.3)
    for colour, marker, label in (("#0072b2", "o", "ConvNet-3 of width 128"),
                                  ("#d55e00", "s", "of width 32")):  # fmt: skip
        axes.plot([], [], marker, color=colour, label=label)
    axes.legend(loc="lower left", fontsize=8)
    canvas.savefig(PAGE.with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["keep", *folders] if folders:
            try:
                keep([Path(folder) for folder in folders])
            except DdistError as error:
                sys.exit(f"results.py: a run's results.json is not usable: {error}")
        case ["write"]:
            found = compared_runs()
            for problem in found.problems:
                print(problem, file=sys.stderr)
            for file, text in pages(found).items():
                file.write_text(text)
            picture(found)
        case _:
            sys.exit(__doc__)
