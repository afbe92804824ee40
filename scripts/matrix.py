"""Run every method on several datasets with nothing but a budget, and show where it is worth it.

    python scripts/matrix.py FOLDER --budget 5m --ipc 10 --data digits fashion_mnist imagenette128

Each cell is one command, ``ddist method=M dataset=D ipc=N budget=T``, in FOLDER/M/D; a cell whose
results are there is not run again. Names that are no dataset are folders of pictures in DDIST_DATA.
The table says by how much a set is above random real images under which protocol, and whether the
intervals are apart (> or <); cells of different protocols do not compare.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ddist.formatting import format_duration, parse_duration
from ddist.tasks.config import option_names

LATE = 1.1
"""What a command may take of its budget."""


def command(method: str, data: str, ipc: int, budget: str, words: list[str]) -> list[str]:
    """Return the words of one cell's command line."""
    if data in option_names("dataset"):
        source = [f"dataset={data}"]
    else:
        source = ["dataset=imagefolder", f"dataset.folder={Path(os.environ['DDIST_DATA']) / data}"]
    return [f"method={method}", *source, f"ipc={ipc}", f"budget={budget}", *words]


def run_cell(folder: Path, words: list[str]) -> dict[str, Any]:
    """Run one command in ``folder``; return its seconds, exit code, last line and accuracies."""
    note = folder / "cell.json"
    if note.exists():
        return json.loads(note.read_text())  # type: ignore[no-any-return]
    folder.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "ddist", *words, f"hydra.run.dir={folder}"]
    started = time.monotonic()
    done = subprocess.run(line, capture_output=True, text=True)
    seconds = time.monotonic() - started
    (folder / "stderr.txt").write_text(done.stderr)
    lines = done.stderr.strip().splitlines()
    cell = {"command": " ".join(words), "seconds": seconds, "code": done.returncode,
            "last": lines[-1] if lines else ""}  # fmt: skip
    if done.returncode == 0:
        results = json.loads((folder / "results.json").read_text())
        cell["set"] = results["evaluation"][0]
        cell["random"] = results["baselines"].get("random")
        cell["steps"], cell["kept"] = results["steps"], results.get("selection", {}).get("kept")
    note.write_text(json.dumps(cell, indent=2))
    return cell


def describe(cell: dict[str, Any], budget: float) -> str:
    """Return a cell of the table: both accuracies, and what is wrong with it."""
    if cell["code"] != 0:
        return f"FAILED ({cell['last'][:60]})"
    protocol = f" ({cell['set']['protocol']})"
    late = f", late: {format_duration(cell['seconds'])}" if cell["seconds"] > LATE * budget else ""
    start = ", start kept" if cell.get("kept") == "start" else ""
    ours, random = cell["set"], cell["random"]
    mean = 100 * ours["accuracy_mean"]
    if random is None:
        return f"{mean:.1f}{protocol}{late}{start}"
    if None in (ours["accuracy_ci95"], random["accuracy_ci95"]):
        return f"{mean:.1f} beside {100 * random['accuracy_mean']:.1f}{protocol}{late}{start}"
    apart = abs(ours["accuracy_mean"] - random["accuracy_mean"]) > (
        ours["accuracy_ci95"] + random["accuracy_ci95"]
    )
    sign = "=" if not apart else ">" if ours["accuracy_mean"] > random["accuracy_mean"] else "<"
    return f"{mean:.1f} {sign} {100 * random['accuracy_mean']:.1f}{protocol}{late}{start}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--ipc", type=int, default=10)
    parser.add_argument("--data", nargs="+", default=["digits", "fashion_mnist"])
    parser.add_argument("--methods", nargs="+", default=option_names("method"))
    parser.add_argument("--set", nargs="+", default=[], help="further settings")
    options = parser.parse_args()
    budget = parse_duration(options.budget)
    print(f"| method | {' | '.join(options.data)} |\n|---|{'---|' * len(options.data)}")
    for method in options.methods:
        cells = []
        for data in options.data:
            words = command(method, data, options.ipc, options.budget, options.set)
            cells.append(describe(run_cell(options.folder / method / data, words), budget))
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
