"""The stages of scripts/gpu.sh, each in the seconds that it is given."""

import json
import re
import sys
import time
from pathlib import Path

from call import ROOT, Call, run
from plan import Setting, random_images

WORK = str(Path(__file__).with_name("work.py"))
MOST_EXPERTS = 20
EXPERT_BATCHES = 4 * 196
"""Of one expert: what mtt with 1 image per class uses are 4 epochs of 50,000 images."""
TINY_RUN = (
    "network.width=4", "network.depth=1", "method.student_steps=2", "method.max_start_epoch=1",
    "method.expert_epochs=1", "steps=3", "evaluation.num_networks=1", "evaluation.epochs=2",
    "trainer.accelerator=cpu",
)  # fmt: skip


def tests(call: Call, seconds: float) -> None:
    """pytest of the files that have tests marked ``gpu``."""
    marked = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in file.read_text()
    ]
    words = ["-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", *marked]
    code, printed = run([sys.executable, *words], seconds)
    summary = re.search(
        r"^(?:=+ )?(\d+ (?:passed|failed|skipped|error|deselected).*?) in ", printed, re.M
    )
    failed = re.findall(r"^(?:FAILED|ERROR) (.*)", printed, re.M)
    told = "out of time" if code is None else summary[1] if summary else f"exit status {code}"
    call.write("tests", {"finished": code == 0, "summary": told, "failed": failed})


def parity(call: Call, seconds: float) -> None:
    """One outer step of each family, beside the CPU."""
    items("parity", call, seconds)


def speed(call: Call, seconds: float) -> None:
    """Seconds and memory of each method, beside plain loops."""
    items("speed", call, seconds)


def items(stage: str, call: Call, seconds: float) -> None:
    """What is left of a stage, in one process, which writes each as it is done."""
    where = [str(call.file(stage)), str(call.results / "made"), call.device]
    tiny = ["--tiny"] if call.tiny else []
    run([sys.executable, WORK, stage, *where, *tiny, *call.items_left(stage)], seconds)


def mtt(call: Call, seconds: float) -> None:
    """mtt with 1 image per class from nothing, with as many experts as fit. Their number is chosen
    once: a second call goes on with it."""
    batches = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    files = [call.data / "cifar-10-batches-py" / name for name in batches]
    if not call.tiny and not all(file.is_file() for file in files):
        call.write("mtt", call.read("mtt") | {"waits": f"CIFAR-10 is not whole in {call.data}"})
        return
    row = {name: value for name, value in call.read("mtt").items() if name != "waits"}
    row.setdefault("experts", num_experts(call, seconds))
    row.setdefault("seconds", 0.0)
    call.write("mtt", row)
    folder = call.results / "mtt"
    # The budget counts the time of earlier calls; a quarter of this one's is for evaluating.
    budget = max(10.0, row["seconds"] + 0.75 * seconds)
    words = [
        "method=mtt", "ipc=1", f"trajectories.num_experts={row['experts']}",
        f"budget={budget:.0f}s",
        f"paths.cache={call.results / 'cache'}", f"hydra.run.dir={folder}", "task.baseline=false",
        "callbacks.checkpoint.seconds=30",
    ]  # fmt: skip
    if call.tiny:
        file = random_images(Setting("cpu", call.results / "made", tiny=True))
        words += ["dataset=arrays", f"dataset.source.file={file}", *TINY_RUN]
    else:
        words += [
            "dataset=cifar10", "dataset.download=false", f"paths.data={call.data}",
            "recipe=mtt/cifar10",  # which a budget would do without
        ]  # fmt: skip
    begun = time.time()
    code, printed = run([sys.executable, "-m", "ddist", *words], seconds)
    row["seconds"] += time.time() - begun
    row["finished"] = code == 0 and (folder / "results.json").exists()
    if row["finished"]:
        told = json.loads((folder / "results.json").read_text())
        row |= {name: told[name] for name in ("steps", "evaluation", "cost")}
    else:
        row["last"] = "".join(printed.strip().splitlines()[-1:])
        row["failed"] = code not in (None, 0, 130)
    call.write("mtt", row)


def num_experts(call: Call, seconds: float) -> int:
    """How many are trained in a third of ``seconds``, by the measured speed, if it is known."""
    rows = call.read("speed")
    batch = rows.get("experts ddist", {}).get("seconds")
    if call.tiny or batch is None:
        return 1 if call.tiny else 3
    return max(1, min(MOST_EXPERTS, int(seconds / 3 / (EXPERT_BATCHES * batch))))


SHARES = {tests: 0.15, parity: 0.2, speed: 0.35, mtt: 0.3}
"""Of the time, in this order; what one leaves goes to those after it."""


def finished(stage: str, call: Call) -> bool:
    """Whether nothing is left to do. What failed is done again."""
    if stage in ("parity", "speed"):
        return not call.items_left(stage)
    return bool(call.read(stage).get("finished"))


def sound(call: Call) -> bool:
    """Whether nothing of what was done has failed."""
    rows = [*call.read("parity").values(), *call.read("speed").values()]
    failed = [row for row in rows if "error" in row or row.get("passed") is False]
    tests, run = call.read("tests"), call.read("mtt")
    return not failed and not tests.get("failed") and not run.get("failed")
