"""What was found, as tables."""

import sys
from typing import Any

import torch
from call import Call
from plan import LIMIT, NAMES
from rich.console import Console
from rich.table import Table


def show(call: Call, console: Console) -> None:
    """Print all results so far, of earlier calls as well."""
    gpu = torch.cuda.get_device_name() if call.device == "cuda" else "a dry run on the CPU"
    console.print(f"{gpu}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    tests = call.read("tests")
    console.print(f"Tests marked gpu: {tests.get('summary', 'not done')}")
    for line in tests.get("failed", []):
        console.print(f"  {line}", markup=False)
    console.print(parity_table(call), speed_table(call))
    console.print(mtt_line(call.read("mtt")), markup=False)


def parity_table(call: Call) -> Table:
    """Distances of gradients to the CPU's."""
    found = table(
        "The gradient of one outer step: its distance to the CPU's, relative",
        ("method", "float32", "CPU itself", "loss", "bf16", ""),
        f"float32, without TF32: at most {LIMIT:g}; CPU itself: with other kernels, which round "
        "otherwise",
    )
    rows, keys = call.read("parity"), ("gradient", "rounding", "loss", "gradient_bf16")
    for name in call.families:
        row = rows.get(name, {"error": "not done"})
        cells = [f"{row[key]:.1e}" if key in row else "" for key in keys]
        word = "" if row.get("passed", True) else "TOO FAR"
        found.add_row(name, *cells, row.get("error") or row.get("bf16") or word)
    return found


def speed_table(call: Call) -> Table:
    """Rates and memory."""
    found = table(
        "Steps per second (experts: batches of one; evaluation: networks), and MiB of the peak",
        ("", "ddist", "MiB", "waits", "compiled", "MiB", "plain", "MiB", "ratio", "notes"),
        "waits: of the host for the GPU in one step; ratio: ddist's rate to the plain loop's",
    )
    rows = call.read("speed")
    for name in NAMES:
        own, fast, plain = (rows.get(f"{name} {v}", {}) for v in ("ddist", "compiled", "plain"))
        notes = [row["error"] for row in (own, fast, plain) if "error" in row]
        notes += [line for row in (own, fast) for line in row.get("warned", [])]
        both = "seconds" in own and "seconds" in plain
        ratio = f"{plain['seconds'] / own['seconds']:.1f}" if both else ""
        waits = str(own.get("synchronizations", ""))
        found.add_row(
            name, *rate(own), waits, *rate(fast), *rate(plain), ratio, "; ".join(notes)[:60]
        )
    return found


def rate(row: dict[str, Any]) -> tuple[str, str]:
    """Steps per second, and MiB."""
    if "seconds" not in row:
        return "", ""
    return f"{1 / row['seconds']:.3g}", f"{row['MiB']:,.0f}"


def mtt_line(row: dict[str, Any]) -> str:
    """What became of the run."""
    if "experts" not in row:
        return f"mtt on CIFAR-10: not done ({row.get('waits', 'no time was left')})."
    start = f"mtt on CIFAR-10, ipc 1, {row['experts']} experts, {row['seconds']:.0f} s:"
    if not row.get("finished"):
        return f"{start} not finished, call again. {row.get('last', '')}"
    accuracy = 100 * row["evaluation"][0]["accuracy_mean"]
    return f"{start} {row['steps']} steps, {accuracy:.1f} % (published: 46.3)."


def table(title: str, columns: tuple[str, ...], caption: str) -> Table:
    """An empty one, whose first and last columns are words."""
    found = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for number, column in enumerate(columns):
        words = number in (0, len(columns) - 1)
        found.add_column(column, justify="left" if words else "right")
    return found
