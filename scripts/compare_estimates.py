"""What ``ddist task=estimate`` says of short runs of every family, beside what they take then.

    DDIST_DATA=... python scripts/compare_estimates.py dd dm      these; without names, all ten

Each run has an empty cache, so that experts, pools, teachers and autoencoders are trained; both
commands run with one thread, one after the other. On a busy machine times say how busy it was.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main(names: list[str]) -> None:
    print(
        "| run | s, estimated / taken | peak memory, MB | disk, MB |", "|---|---|---|---|", sep="\n"
    )
    for name in names or RUNS:
        with tempfile.TemporaryDirectory() as folder:
            pairs = compare(RUNS[name].split(), Path(folder))
        cells = [f"{short(estimated)} / {short(taken)}" for estimated, taken in pairs]
        print("", name, *cells, "", sep=" | ", flush=True)


def short(number: float) -> str:
    """Three digits of ``number``."""
    return f"{float(f'{number:.3g}'):,g}"


def compare(words: list[str], folder: Path) -> list[tuple[float, float]]:
    """Estimate, then run: seconds, megabytes of memory and of disk, estimated and taken."""
    run("task=estimate", *words, f"hydra.run.dir={folder}/estimate", cache=folder / "cache")
    found = json.loads((folder / "estimate" / "estimate.json").read_bytes())
    seconds = run(*words, f"hydra.run.dir={folder}/run", cache=folder / "cache")
    cost = json.loads((folder / "run" / "results.json").read_bytes())["cost"]
    disk = found["disk_bytes"]["run"] + sum(found["disk_bytes"]["cache"].values())
    files = [*folder.glob("run/**/*"), *folder.glob("cache/**/*")]
    left = sum(path.stat().st_size for path in files if path.is_file())
    return [
        (found["total_seconds"], seconds),
        (found["peak_memory_bytes"] / 1e6, cost["peak_memory_bytes"] / 1e6),
        (disk / 1e6, left / 1e6),
    ]


def run(*words: str, cache: Path) -> float:
    """Seconds that the command took."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DDIST_CACHE": str(cache)}
    started = time.monotonic()
    command = [sys.executable, "-P", "-m", "ddist", *words, "threads=1"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == "__main__":
    main(sys.argv[1:])
