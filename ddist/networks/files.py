"""Weights in files."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open


def read_weights_file(path: Path) -> tuple[Any, dict[str, str]]:
    """What is in a .safetensors file, by name, or what torch.save wrote in any other, of which
    nothing but tensors and plain values is read; on the CPU. And the former's metadata.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it cannot be read, for the reason in the message.
    """
    try:
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True), {}
        with safe_open(path, "pt") as file:
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return content, file.metadata() or {}
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        # Of torch's paragraph of advice the first sentence.
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise ValueError(reason or type(error).__name__) from error
