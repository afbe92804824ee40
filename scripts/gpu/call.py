"""One call of the script: its time, its files, and processes that keep to it."""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SECONDS_TO_END = 8.0
"""What an interrupted process gets before it is killed."""


@dataclass(frozen=True)
class Call:
    """What all stages are given.

    deadline: of :func:`time.time`; results: kept from call to call; data: where CIFAR-10 may be;
    device: "cuda" or "cpu"; stages: by name; families, items: of parity and of speed.
    """

    deadline: float
    results: Path
    data: Path
    device: str
    stages: list[str]
    families: list[str]
    items: list[str]

    @property
    def tiny(self) -> bool:
        return self.device == "cpu"

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.time()

    def file(self, stage: str) -> Path:
        return self.results / f"{stage}.json"

    def read(self, stage: str) -> dict[str, Any]:
        file = self.file(stage)
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return found

    def write(self, stage: str, rows: dict[str, Any]) -> None:
        partial = self.results / f".{stage}.partial"
        partial.write_text(json.dumps(rows, indent=1))
        partial.replace(self.file(stage))

    def items_left(self, stage: str) -> list[str]:
        """Those of parity or speed that are not done, or failed."""
        rows, wanted = self.read(stage), self.families if stage == "parity" else self.items
        return [item for item in wanted if "error" in rows.get(item, {"error": "not done"})]

    def hand_out(self) -> None:
        """Copy the results to $OUT, if that is set."""
        if out := os.environ.get("OUT"):
            Path(out).mkdir(parents=True, exist_ok=True)
            for file in (*self.results.glob("*.json"), *self.results.glob("*.txt")):
                shutil.copy(file, out)


def run(command: list[str], seconds: float) -> tuple[int | None, str]:
    """Run ``command`` in the checkout and show what it prints.

    After ``seconds`` it and what it has started are interrupted, so that they can keep what they
    have, and then killed. Returns the exit status, None where it was ended, and what it printed.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    ended, printed = False, ""
    for number, patience in ((0, seconds), (signal.SIGINT, SECONDS_TO_END), (signal.SIGKILL, 5.0)):
        if number:
            ended = True
            os.killpg(process.pid, number)
        try:
            printed, _ = process.communicate(timeout=max(1.0, patience))
            break
        except subprocess.TimeoutExpired:
            continue
    print(printed, end="")
    return (None if ended else process.returncode), printed
