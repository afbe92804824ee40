"""Weights in files: read without running what is in them, and matched with a network's names."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar
from safetensors import SafetensorError
from torch import Tensor

from ddist.networks.base import Weights
from ddist.storage.tensors import read_safetensors

# Numpy's numbers (an accuracy beside the weights, say) are the only objects besides torch's own.
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "efd?"),
    (scalar, "numpy.core.multiarray.scalar"),
    (scalar, "numpy._core.multiarray.scalar"),
]
# Under which checkpoints keep the weights of a network and modules wrap one; the likeliest first,
# and the moving averages last.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "ema",
    "state_dict_ema", "model_ema", "ema_state_dict",
)  # fmt: skip
_AVERAGES = frozenset(name for name in _WRAPPERS if "ema" in name.split("_"))
# What DataParallel, torch.compile and FSDP put into names, wherever they wrapped.
_TRANSPARENT = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module"})


def read_weights_file(path: Path) -> tuple[Any, dict[str, str]]:
    """Read the tensors of a .safetensors file, by name, and its metadata; or what torch.save wrote
    to any other file, of which nothing but tensors, plain values and numpy's numbers is read. All
    is on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, for the reason in the message.
    """
    try:
        if path.suffix != ".safetensors":
            with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the version of pickle
                return torch.load(path, map_location="cpu", weights_only=True), {}
        return read_safetensors(path)
    except FileNotFoundError:
        raise
    except pickle.UnpicklingError as error:
        pickled = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class) ([\w.]+)", str(error))
        if pickled is None:
            raise ValueError("it is no file of torch.save, or not all of one") from error
        raise ValueError(
            f"it holds a pickled {pickled[1] or pickled[2]}, which would run code and is never "
            "loaded"
        ) from error
    except (OSError, RuntimeError, EOFError, LookupError, AttributeError, TypeError,
            SafetensorError) as error:  # fmt: skip
        if held := _other_archive(path):
            raise ValueError(f"it is no file of torch.save but an archive of {held}") from error
        reason = str(error).strip().split("\n")[0].split(". ")[0]
        raise ValueError(reason or type(error).__name__) from error


def _other_archive(path: Path) -> str:
    """Name some files in an archive that torch has not written, such as an .npz; else nothing."""
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return "" if any(name.endswith("data.pkl") for name in names) else _few(names)


@dataclass(frozen=True)
class _Candidate:
    """The tensors of a file that may be a network's, by the names that they have within it."""

    place: tuple[str, ...]  # what they are under: keys of dicts, then the prefix of their names
    tensors: Weights

    def rank(self) -> tuple[int, ...]:
        """Return a key that sorts likelier candidates first: under known words, no averages."""
        known = all(candidate in _WRAPPERS for candidate in self.place)
        average = any(candidate in _AVERAGES for candidate in self.place)
        return (not known, average, *(_WRAPPERS.index(e) for e in self.place if e in _WRAPPERS))


def weights_for(
    content: object, wanted: Mapping[str, Tensor], any_shape: Collection[str] = ()
) -> Weights:
    """Find the weights of a network in the ``content`` of a file, whatever they are wrapped in:
    dicts in dicts, prefixes of names, or both.

    Args:
        wanted: the network's own state, by name.
        any_shape: names whose shape does not matter.

    Raises:
        ValueError: they are not there; the message says what is, and what differs.
    """
    candidates = list(_candidates(content, wanted))
    fitting = sorted(
        (
            candidate
            for candidate in candidates
            if not _differences(candidate.tensors, wanted, any_shape)
        ),
        key=_Candidate.rank,
    )
    if not fitting:
        raise ValueError(_no_fit(content, candidates, wanted, any_shape))
    first = fitting[0]
    if first.rank()[0] and len(fitting) > 1:
        places = ", ".join(".".join(candidate.place) for candidate in fitting)
        raise ValueError(f"it holds several such networks, {places}: save one of them alone")
    return {name: first.tensors.get(name, own) for name, own in wanted.items()}


def class_names_in(content: object) -> list[str] | None:
    """Return the class names that may stand beside the weights under ``class_names``, or None."""
    for _, tree in _dicts(content):
        names = tree.get("class_names")
        if isinstance(names, list | tuple):
            return [str(name) for name in names]
    return None


def _dicts(
    content: object, place: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield ``content`` and the dicts in it, each after the keys that it is under."""
    if isinstance(content, Mapping) and len(place) < 5:
        yield place, content
        for key, value in content.items():
            yield from _dicts(value, (*place, str(key)))


def _candidates(content: object, wanted: Mapping[str, Tensor]) -> Iterator[_Candidate]:
    first = next(iter(wanted), "")
    plain = all(_bare(name) == name for name in wanted)
    for place, tree in _dicts(content):
        tensors = {
            _bare(str(name)) if plain else str(name): w
            for name, w in tree.items()
            if isinstance(w, Tensor)
        }
        ends = [name for name in tensors if name == first or name.endswith(f".{first}")]
        for prefix in {name.removesuffix(first) for name in ends} or {""}:
            under = {n.removeprefix(prefix): w for n, w in tensors.items() if n.startswith(prefix)}
            if under:
                yield _Candidate((*place, *filter(None, prefix.split("."))), under)


def _bare(name: str) -> str:
    """Return the name without what wrappers put into it."""
    return ".".join(candidate for candidate in name.split(".") if candidate not in _TRANSPARENT)


def _differences(
    tensors: Weights, wanted: Mapping[str, Tensor], any_shape: Collection[str]
) -> list[str]:
    """Say what keeps ``tensors`` from being the wanted ones."""
    missing = [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")]
    surplus = [n for n, w in tensors.items() if n not in wanted and w.ndim > 0]
    shapes = [
        f"{n} is {list(tensors[n].shape)} there and {list(w.shape)} here"
        for n, w in wanted.items()
        if n in tensors and n not in any_shape and tensors[n].shape != w.shape
    ]
    differences = []
    if missing:
        differences.append(f"it lacks {_few(missing)}")
    if surplus:
        differences.append(f"it has {_few(surplus)} besides")
    return differences + ([_few(shapes)] if shapes else [])


def _no_fit(
    content: object,
    candidates: Sequence[_Candidate],
    wanted: Mapping[str, Tensor],
    any_shape: Collection[str],
) -> str:
    if not candidates:
        keys = [str(key) for key in content] if isinstance(content, Mapping) else []
        held = f"only {_few(keys)}" if keys else f"a {type(content).__name__}"
        return f"it holds no weights by name, {held}"
    nearest = max(candidates, key=lambda candidate: len(candidate.tensors.keys() & wanted.keys()))
    if not nearest.tensors.keys() & wanted.keys():
        return f"it holds {_few(list(nearest.tensors))}, where {_few(list(wanted))} are wanted"
    return "; ".join(_differences(nearest.tensors, wanted, any_shape))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
