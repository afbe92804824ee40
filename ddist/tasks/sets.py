"""task=sets: the distilled sets that come with ddist."""

from typing import Any

from omegaconf import DictConfig

from ddist.artifact.figures import accuracy
from ddist.artifact.ready import ready_meta, ready_names
from ddist.compare.sheet import console, make_sheet, rich_table
from ddist.formatting import size

HOW = (
    "ddist.load(NAME) and artifact=NAME open one, from anywhere and offline; ddist.ReadySet(NAME) "
    "is it as a dataset of torchvision. The commands that made them are on their cards."
)


def run(cfg: DictConfig) -> None:
    """Print a line for each set, a line for each network that it was tested under."""
    screen = console()
    screen.print(rich_table(make_sheet("Ready-made sets", [
        cells for name in ready_names() for cells in lines(name, ready_meta(name))
    ])))  # fmt: skip
    screen.print(HOW, highlight=False, markup=False, soft_wrap=True)


def lines(name: str, meta: dict[str, Any]) -> list[dict[str, str]]:
    """Return the cells of one set, a dict for each of its figures."""
    results = meta["results"]
    random = {
        (row["network"], row["protocol"]): row
        for key, row in results["baselines"].items()
        if key.partition(":")[0] == "random"
    }
    return [
        {
            "name": name,
            "method": meta["method"],
            "size": size(meta["bytes"]),
            "accuracy % (networks)": accuracy(row),
            "random %": accuracy(real) if (real := random.get(key)) else "",
            "network": row["network"],
            "protocol": row["protocol"],
            "licence of the data": meta["licence_of_data"],
        }
        for row in results["evaluation"]
        for key in [(row["network"], row["protocol"])]
    ]
