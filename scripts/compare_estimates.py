"""What ``ddist task=estimate`` says of short runs of every family, beside what they take then.

    DDIST_DATA=... python scripts/compare_estimates.py            ten runs: digits and MNIST
    python scripts/compare_estimates.py --only dd dm              some of them
    python scripts/compare_estimates.py --folder DIR              keep their folders there

Each run has an empty cache, so that experts, pools, teachers and autoencoders are trained; both
commands are timed from the outside, in turn, with one thread. Times on a busy machine say how busy
it was at either time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

MNIST = "dataset=mnist dataset.verify=false dataset.download=false"
RUNS = {
    "dd": "method=dd steps=1500",
    "dm": f"method=dm {MNIST} network.width=16 steps=60 evaluation.epochs=200"
    " evaluation.num_networks=2 evaluation=dc2021",
    "dc": "method=dc network.width=16 ipc=3 steps=40 evaluation.epochs=400"
    " evaluation.num_networks=3",
    "mtt": "method=mtt network.width=16 trajectories.num_experts=5 steps=60"
    " method.student_steps=10 evaluation.epochs=300 evaluation.num_networks=2",
    "kip": "method=kip steps=120 method.real_per_class=100 ipc=5",
    "frepo": "method=frepo network=convnet_bn network.width=16 steps=150 method.batch_real=256"
    " evaluation.epochs=300 evaluation.num_networks=2",
    "rat": "method=rat network.width=16 steps=10 method.batch_real=500 method.student_steps=60"
    " method.window=20 evaluation.epochs=300 evaluation.num_networks=2",
    "ddoq": "method=ddoq network.width=16 generative.steps=600 ipc=5 evaluation.epochs=200"
    " evaluation.num_networks=2",
    "rded": "method=rded network=convnet_bn network.width=16 teacher.epochs=8 ipc=2"
    " evaluation.epochs=100 evaluation.num_networks=2 evaluation.networks=[mlp,convnet_bn]",
    "pretrained": "method=dd init=pretrained init.num_networks=20 init.num_held_out=20"
    " init.epochs=60 steps=800",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    table = Table(title="estimated / taken")
    for column in ("run", "time", "ratio", "peak memory", "ratio", "disk", "ratio"):
        table.add_column(column, justify="left" if column == "run" else "right")
    with tempfile.TemporaryDirectory() as temporary:
        folder = (chosen.folder or Path(temporary)).resolve()
        for name in chosen.only:
            cells = compare(name, RUNS[name].split(), folder / name)
            table.add_row(name, *cells)
            print(name, *cells, sep="  ", flush=True)
    console = Console()
    (console if console.is_terminal else Console(width=110)).print(table)


def compare(name: str, words: list[str], folder: Path) -> list[str]:
    """Estimate, then run; pairs of figures with their ratios."""
    cache = folder / "cache"
    run("task=estimate", *words, f"hydra.run.dir={folder}/estimate", cache=cache)
    found = json.loads((folder / "estimate" / "estimate.json").read_bytes())
    seconds = run(*words, f"hydra.run.dir={folder}/run", cache=cache)
    results = json.loads((folder / "run" / "results.json").read_bytes())
    disk = found["disk_bytes"]["run"] + sum(found["disk_bytes"]["cache"].values())
    left = sum(
        path.stat().st_size
        for part in ("run", "cache")
        for path in (folder / part).rglob("*")
        if path.is_file()
    )
    pairs = (
        (found["total_seconds"], seconds, 1, "s"),
        (found["peak_memory_bytes"], results["cost"]["peak_memory_bytes"], 1e6, "MB"),
        (disk, left, 1e6, "MB"),
    )
    cells = []
    for estimated, taken, unit, symbol in pairs:
        cells.append(f"{estimated / unit:.3g} / {taken / unit:.3g} {symbol}")
        cells.append(f"{estimated / taken:.2f}")
    return cells


def run(*words: str, cache: Path) -> float:
    """Seconds that the command took."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DDIST_CACHE": str(cache)}
    started = time.monotonic()
    command = [sys.executable, "-P", "-m", "ddist", *words, "threads=1"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == "__main__":
    main()
