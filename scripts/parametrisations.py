"""Run methods on datasets with each parametrisation at the bytes of ipc images of pixels.

    python scripts/parametrisations.py FOLDER --data cifar10 --ipc 1 10 --methods dm

Each cell is one command, ``ddist method=M dataset=D ipc=N synthetic=...``, in a folder of its own
in FOLDER; a cell whose results are there is not run again. ``--only`` takes some of the
parametrisations, ``--set`` adds settings to every command; ``--table`` runs nothing.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ddist.errors import DdistError
from ddist.formatting import size

PARAMETRISATIONS = {
    "pixel": ("synthetic=pixel",),
    "multiformation 2": ("synthetic=multiformation",),
    "frequency x4": ("synthetic=frequency",),
    "frequency x8": ("synthetic=frequency", "synthetic.copies=8"),
    "lowrank x4": ("synthetic=lowrank",),
    "bases x8": ("synthetic=bases", "synthetic.copies=8"),
    "field x4": ("synthetic=field",),
    "mirrored": ("synthetic=mirrored",),
}
"""What the tables show, by the words that choose it."""
TASK = (
    "recipe=null",  # the published rates are of pixels
    "task.baseline=false",
    "reference.coreset.select=null",
    "dataset.validation=0",
)


def run_cell(folder: Path, words: list[str]) -> None:
    """Run one command in ``folder``, unless its results are there."""
    if (folder / "results.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "ddist", *words, f"hydra.run.dir={folder}"]
    done = subprocess.run(line, capture_output=True, text=True)
    (folder / "command.txt").write_text(" ".join(["ddist", *words]) + "\n")
    (folder / "stderr.txt").write_text(done.stderr)


def cell(folder: Path, real: bool = False) -> str:
    """Return the rest of a row: images per class, bytes, accuracy, seconds of distilling; of the
    random images beside the set with ``real``."""
    if not (folder / "results.json").exists():
        note = folder / "stderr.txt"
        last = note.read_text().strip().splitlines()[-1:] if note.exists() else []
        return f"| | | {'failed: ' + last[0] if last else 'not run'} | |"
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    row = results["baselines"]["random"] if real else results["evaluation"][0]
    meta = json.loads((folder / "distilled" / "meta.json").read_text())
    each = 1 if real else meta["factor"] ** 2 * meta.get("stored_each", 1)
    mean, std = (100 * (row[name] or 0.0) for name in ("accuracy_mean", "accuracy_std"))
    seconds = "" if real else f"{results['cost']['distill_seconds']:.0f}"
    bytes_ = size(results["cost"]["artifact_bytes"])
    return f"| {results['ipc'] * each} | {bytes_} | {mean:.1f} ± {std:.1f} | {seconds} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", nargs="+", default=["fashion_mnist", "cifar10"])
    parser.add_argument("--ipc", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--methods", nargs="+", default=["dm"])
    parser.add_argument("--only", nargs="+", default=list(PARAMETRISATIONS))
    parser.add_argument("--set", nargs="+", default=[], help="further settings")
    parser.add_argument("--table", action="store_true", help="run nothing")
    options = parser.parse_args()
    if unknown := set(options.only) - PARAMETRISATIONS.keys():
        raise DdistError(f"--only takes {', '.join(PARAMETRISATIONS)}, not {', '.join(unknown)}.")
    if not options.table and "DDIST_DATA" not in os.environ:
        raise DdistError("Set DDIST_DATA to the folder of the datasets.")
    for method in options.methods:
        for data in options.data:
            for ipc in options.ipc:
                print(f"\n{method}, {data}, the bytes of {ipc} images per class\n")
                print("| parametrisation | images per class | bytes | accuracy % | seconds |")
                print("|---|---|---|---|---|")
                common = [f"method={method}", f"dataset={data}", f"ipc={ipc}", *TASK]
                for name in options.only:
                    folder = options.folder / method / data / str(ipc) / name.replace(" ", "_")
                    beside = ["task.baseline=true"] if name == "pixel" else []
                    words = [*common, *PARAMETRISATIONS[name], *beside, *options.set]
                    if not options.table:
                        run_cell(folder, words)
                    if name == "pixel":
                        print(f"| random real {cell(folder, real=True)}")
                    print(f"| {name} {cell(folder)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except DdistError as error:
        sys.exit(f"parametrisations: {error}")
