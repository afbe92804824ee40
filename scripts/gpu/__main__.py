"""All stages of scripts/gpu.sh, each in its share of the time, and tables of what they found."""

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from call import Call
from plan import FAMILIES, ITEMS
from rich.console import Console
from stages import SHARES, finished, sound
from tables import show

RESERVED = 20.0
"""Seconds for ending a stage's processes and for the tables."""


def main() -> None:
    call = arguments()
    call.results.mkdir(parents=True, exist_ok=True)
    stages = [stage for stage in SHARES if stage.__name__ in call.stages]
    todo = [stage for stage in stages if not finished(stage.__name__, call)]
    for number, stage in enumerate(todo):
        left = call.left()
        seconds = left * SHARES[stage] / sum(SHARES[other] for other in todo[number:])
        if left > 0:
            print(f"== {stage.__name__}: {seconds:.0f} s at most ==")
            stage(call, seconds)
            call.hand_out()
    show(call, Console(width=130))
    with (call.results / "table.txt").open("w") as file:
        show(call, Console(width=130, file=file))
    call.hand_out()
    sys.exit(0 if sound(call) else 1)


def arguments() -> Call:
    parser = argparse.ArgumentParser(prog="scripts/gpu.sh", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=9.0)
    parser.add_argument("--cpu", action="store_true", help="a dry run of tiny sizes")
    stages = [stage.__name__ for stage in SHARES]
    parser.add_argument("--stages", nargs="*", default=stages, choices=stages)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), help="of the parity stage")
    parser.add_argument("--items", nargs="*", default=ITEMS, help="of the speed stage")
    parser.add_argument("--results", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, required=True, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --cpu is a dry run.")
    begun = float(os.environ.get("GPU_BEGUN") or time.time())  # before anything was imported
    return Call(
        deadline=begun + 60 * given.minutes - RESERVED,
        results=given.results.absolute() / ("dry" if given.cpu else ""),
        data=given.data.absolute(),
        device="cpu" if given.cpu else "cuda",
        stages=given.stages,
        families=given.families,
        items=given.items,
    )


if __name__ == "__main__":
    main()
