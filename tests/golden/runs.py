"""The golden runs: tiny commands of every family whose figures and tensors must stay the same.

``python -m tests.golden.runs [name …]`` runs them and writes ``tests/golden/runs/<name>.json`` and
``.safetensors`` anew, which is right only where a change of what is computed is meant: say in the
commit which, and why.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).parent / "runs"

_FEW = ("dataset=digits", "seed=3", "evaluation.num_networks=2")
_CONVNET = ("network.depth=2", "network.width=8")
_EPOCHS = ("evaluation.epochs=3",)
_MATCHING = (*_FEW, *_CONVNET, *_EPOCHS, "ipc=2", "method.real_per_class=8")
_EXPERTS = (
    *_FEW, *_CONVNET, *_EPOCHS, "steps=3", "method.student_steps=3", "method.lr.images=10",
    "trajectories.num_experts=2", "method.step_size=0.01", "method.log_step_size=false",
    "method.lr.step_sizes=1e-7",
)  # fmt: skip


def _paper(method: str) -> tuple[str, ...]:
    """Return the words for ``method`` with its paper's settings, which has none for the digits."""
    return (f"method={method}", f"recipe={method}/_paper")


# A name: the words after ``ddist``.
RUNS: dict[str, tuple[str, ...]] = {
    "dd": (*_FEW, "steps=4", "evaluation.epoch_grid=[1]"),
    "dd_fixed_soft": (
        *_FEW, "method=dd", "init=fixed", "synthetic.labels=soft", "ipc=2", "steps=4",
        "evaluation.num_networks=1", "evaluation.epoch_grid=[1]",
    ),
    "poison": (
        *_FEW, "objective=poison", "objective.attacked=3", "objective.target=5",
        "init=pretrained", "init.num_networks=4", "init.epochs=1", "steps=2",
        "evaluation.epoch_grid=[1]",
    ),
    "adaptation": (
        *_FEW, "init=pretrained", "init.num_networks=4", "init.epochs=1", "init.subset=20",
        "dataset.subset=30", "steps=3", "evaluation.epoch_grid=[1]",
    ),
    "rat": (*_FEW, *_EPOCHS, *_paper("rat"), "network=mlp", "steps=3", "method.student_steps=6",
            "method.window=3", "method.min_burn_in=1", "method.batch_real=64"),
    "dc": (*_MATCHING, *_paper("dc"), "steps=3"),
    "dsa_multiformation": (*_MATCHING, *_paper("dsa"), "synthetic=multiformation", "steps=3"),
    "idc": (*_MATCHING, *_paper("idc"), "steps=3", "ipc=1", "method.updates=2",
            "method.student_images=64"),
    "dm_zca": (*_MATCHING, *_paper("dm"), "dataset.normalize=zca", "steps=3"),
    "cafe": (*_MATCHING, *_paper("cafe"), "method.query_per_class=10", "method.window=2",
             "method.max_student_epochs=2", "steps=3"),
    "ncfm": (*_MATCHING, *_paper("ncfm"), "init=random", "method.calibration=0",
             "method.num_frequencies=64", "steps=3", "ipc=1"),
    "mtt": (*_EXPERTS, *_paper("mtt")),
    "tesla": (*_EXPERTS, *_paper("tesla")),
    "ftd": (*_EXPERTS, *_paper("ftd"), "method.ema=0.5"),
    "ddpp": (*_EXPERTS, *_paper("ddpp")),
    "datm": (*_EXPERTS, *_paper("datm"), "method.first_max_start_epoch=1", "method.growth_steps=3"),
    "kip": (*_FEW[:2], *_paper("kip"), "ipc=2", "steps=4", "method.real_per_class=10"),
    "frepo": (
        *_FEW, *_EPOCHS, *_paper("frepo"), "network.depth=2", "network.width=[8,16]", "ipc=2",
        "method.num_pool=2", "method.max_updates=2", "method.batch_real=32", "steps=3",
        "compile=false",
    ),
    "ddoq": (*_FEW, *_EPOCHS, *_CONVNET, "method=ddoq", "generative.steps=5", "generative.width=4",
             "ipc=2"),
    "sre2l": (*_FEW, "method=sre2l", "dataset.validation=0.0", *_CONVNET, "teacher.epochs=1",
              "evaluation.epochs=2", "steps=3", "network=convnet_bn"),
    "rded": (*_FEW, *_CONVNET, "method=rded", "network=convnet_bn", "teacher.epochs=1",
             "evaluation.epochs=2", "method.factor=2", "method.candidates=20"),
    "herding": (*_FEW, *_EPOCHS, "method=herding", "network=mlp", "evaluation=dc2021", "ipc=2"),
    "kmeans": (*_FEW, "method=kmeans", "network=mlp", "evaluation.epoch_grid=[1]", "ipc=2"),
}  # fmt: skip


def figures(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must stay of ``results``, a run's results.json: all but times, places and the
    machine."""
    kept = {k: v for k, v in results.items() if k not in ("cost", "provenance")}
    kept.get("baselines", {}).pop("full", None)  # cited, not computed
    known = {k: v for k, v in kept.pop("figures", {}).items() if not k.startswith("expert_")}
    return kept | ({"figures": known} if known else {})  # experts' accuracies came later


def tensors(run: Path) -> dict[str, Tensor]:
    """Return the tensors of the set that ``run``, a run's folder, has learned."""
    return load_file(run / "distilled" / "data.safetensors")


def write(name: str, run: Path) -> None:
    """Keep the figures and tensors of the folder ``run`` as those of the golden run ``name``."""
    FOLDER.mkdir(exist_ok=True)
    results = figures(json.loads((run / "results.json").read_text()))
    (FOLDER / f"{name}.json").write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    save_file(tensors(run), FOLDER / f"{name}.safetensors")


def main(names: list[str]) -> None:
    """Run the named golden runs (all of them without a name) and keep what they give."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in names or RUNS:
            run = Path(folder) / name
            words = [
                *RUNS[name],
                f"hydra.run.dir={run}",
                f"paths.cache={folder}/cache",
                "threads=1",
            ]
            print(name, flush=True)
            subprocess.run([sys.executable, "-m", "ddist", *words], check=True, capture_output=True)
            write(name, run)


if __name__ == "__main__":
    main(sys.argv[1:])
