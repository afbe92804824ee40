"""Make the distilled sets that come with ddist, each by its command in the table below.

    python scripts/make_sets.py [NAME …] [--runs outputs/sets] [--pack] [--set WORD …]

A run that is finished is not repeated, and one that was stopped goes on: the same command makes
what is missing. Each set goes to ddist/sets/NAME with its images in half precision, whose figures
are measured (``task=evaluate`` under the protocol of the run), with its card. ``--pack`` measures
nothing: the figures are those of the run.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ddist.artifact.dataset import DistilledDataset
from ddist.artifact.files import READY

COMMON = "threads=1 reference.coreset.select=null"
NCFM = (
    "experiment=laptop/ncfm ipc=1 network.width=32 steps=300 task.baseline=true "
    "evaluation.num_networks=3 evaluation.epochs=1000 evaluation.precision=32-true"
)
DM = (
    "method=dm ipc={ipc} steps=450 method.real_per_class=64 network.width=32 evaluation=dc2021_dsa "
    "evaluation.num_networks=2 budget=null dataset.validation=0.0"
)
BASES = (  # recipe=null: the published rate is of pixels
    "method=dm dataset=cifar10 recipe=null synthetic=bases synthetic.copies=8 network.width=128 "
    "evaluation=dc2021_dsa evaluation.precision=bf16-mixed budget=null dataset.validation=0.0"
)
COMMANDS = {
    "digits-1": "experiment=laptop/datm dataset=digits ipc=1",
    "digits-10": "experiment=laptop/ddpp dataset=digits ipc=10",
    "digits-50": f"{DM.format(ipc=50)} dataset=digits network.depth=2",
    "mnist-1": f"{NCFM} dataset=mnist",
    "mnist-10": f"{DM.format(ipc=10)} dataset=mnist",
    "fashion_mnist-1": f"{NCFM} dataset=fashion_mnist",
    "fashion_mnist-10": f"{DM.format(ipc=10)} dataset=fashion_mnist",
    "usps-1": f"{NCFM} dataset=usps",
    "usps-10": f"{DM.format(ipc=10)} dataset=usps",
    "usps-50": f"{DM.format(ipc=50)} dataset=usps",
    "cifar10-1": f"{BASES} ipc=1 steps=1500 method.real_per_class=64 evaluation.num_networks=3",
    "cifar10-10": f"{BASES} ipc=10 steps=300 method.real_per_class=32 evaluation.num_networks=1",
}
LICENCES = {
    "digits": "CC BY 4.0 (UCI, Alpaydin and Kaynak 1998)",
    "mnist": "CC BY-SA 3.0, as commonly cited (LeCun, Cortes and Burges)",
    "fashion_mnist": "MIT (Zalando)",
    "usps": "none stated (Hull 1994)",
    "cifar10": "none stated (Krizhevsky 2009)",
}
KEPT = ("evaluation", "baselines", "cost", "protocol")  # of results.json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"of {', '.join(COMMANDS)}; all without any")
    parser.add_argument("--runs", type=Path, default=Path("outputs/sets"))
    parser.add_argument("--pack", action="store_true", help="pack finished runs, measure nothing")
    parser.add_argument("--set", nargs="+", default=[], help="this machine's settings, for no card")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - COMMANDS.keys()
    if unknown:
        parser.error(f"no such set: {', '.join(sorted(unknown))}")
    for name in arguments.names or COMMANDS:
        run = arguments.runs / name
        if not (run / "results.json").exists():
            if arguments.pack:
                continue
            ddist(f"{COMMANDS[name]} {COMMON}", run, arguments.set)
        results = json.loads((run / "results.json").read_text())
        pack(name, run / "distilled", results)
        if not arguments.pack:
            again = arguments.runs / f"{name}-packed"
            ddist(
                f"task=evaluate artifact={READY / name} task.baseline=false", again, arguments.set
            )
            pack(name, run / "distilled", measured(results, again))
        print(f"{name}: {READY / name}")


def ddist(words: str, folder: Path, more: list[str]) -> None:
    command = [sys.executable, "-m", "ddist", *words.split(), *more, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True, env=os.environ)


def measured(results: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return ``results`` with the figures of the packed set, which ``folder`` has; what the run
    itself has found is shown."""
    rows = json.loads((folder / "results.json").read_text())["evaluation"]
    for before, now in zip(results["evaluation"], rows, strict=True):
        print(
            f"{100 * before['accuracy_mean']:.2f} % as it was learned, "
            f"{100 * now['accuracy_mean']:.2f} % as it is packed"
        )
    return {**results, "evaluation": rows}


def pack(name: str, folder: Path, results: dict[str, Any]) -> None:
    """Write the set of ``folder`` to ddist/sets, without what is of one machine alone."""
    distilled = DistilledDataset.load(folder)
    config = OmegaConf.create(distilled.config)
    for key in ("paths", "callbacks", "logger"):
        config.pop(key, None)
    config.trainer.pop("default_root_dir", None)
    width = config.network.get("width")
    figures = json.loads(json.dumps({key: results[key] for key in KEPT}))
    for row in (*figures["evaluation"], *figures["baselines"].values()):
        if row["network"] == "convnet" and isinstance(width, int):
            row["network"] = f"convnet, width {width}"
    meta = {
        **{key: value for key, value in distilled.meta.items() if key != "results"},
        "ready": name,
        "images_stored": "float16",
        "command": f"ddist {COMMANDS[name]} {COMMON}",
        "licence_of_data": LICENCES[distilled.meta["dataset"]],
        "results": figures,
    }
    shutil.rmtree(READY / name, ignore_errors=True)
    replace(distilled, meta=meta, config=OmegaConf.to_yaml(config)).save(READY / name)


if __name__ == "__main__":
    main()
