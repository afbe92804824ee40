"""The artifact's files as bytes, written and checked.

- data.safetensors: images, labels and the other tensors; of a teacher's labels the largest, where
  the meta says so (label_top_k), as labels.values and labels.indices
- meta.json: what they are, in words, and the checksums of the other two
- config.yaml: the composed configuration of the run
- grid.png, README.md: for people; loading does not need them
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ddist.artifact.codes import Codes, images_of
from ddist.artifact.soft_labels import keep_top, restore_top
from ddist.errors import DdistError

FORMAT, SCHEMA = "ddist.DistilledDataset", 4
READY = Path(__file__).parents[1] / "sets"
"""Where the ready-made sets lie, each in a folder of its name."""
DATA, META, CONFIG = "data.safetensors", "meta.json", "config.yaml"
TENSORS = ("images", "labels", "weights", "step_sizes", "step_index")
CODE = "code."  # before the names of the tensors that images are decoded from
SHARED = ("labels", "step_index")  # by the images in the bytes of one, so that it is stored once
TOP = ("labels.values", "labels.indices")


def stored_tensors(
    tensors: dict[str, Tensor | None], meta: dict[str, Any], codes: Codes | None = None
) -> dict[str, Tensor | None]:
    """Return ``tensors`` as the file holds them, with the ``codes`` of images in their place."""
    images, halved = tensors["images"], meta.get("images_stored") == "float16"
    if codes is not None:
        rest = {name: value for name, value in tensors.items() if name != "images"}
        for name in SHARED:
            if (value := rest[name]) is not None and not value.is_floating_point():
                rest[name] = value[:: meta.get("stored_each", 1)]
        stored = codes.tensors.items()
        tensors = {
            **rest,
            **{CODE + k: v.half() if halved and v.is_floating_point() else v for k, v in stored},
        }
    elif images is not None and halved:
        tensors = {**tensors, "images": images.half()}
    labels, k = tensors["labels"], meta.get("label_top_k")
    if k is None or labels is None or not labels.is_floating_point():
        return tensors
    rest = {name: value for name, value in tensors.items() if name != "labels"}
    return {**rest, **dict(zip(TOP, keep_top(labels, k), strict=True))}


def encode(
    tensors: dict[str, Tensor | None],
    initial_weights: dict[str, Tensor] | None,
    normalization: dict[str, Tensor | str],
    meta: dict[str, Any],
    config: str,
) -> dict[str, bytes]:
    """Return the three files that :func:`read_folder` reads, by name, of ``tensors`` as
    :func:`stored_tensors` gives them. ``meta`` must be JSON."""
    values: dict[str, Tensor | str | None] = {
        **tensors,
        **{f"normalization.{k}": v for k, v in normalization.items()},
        **{f"initial_weights.{k}": v for k, v in (initial_weights or {}).items()},
    }
    # cloned, because safetensors refuses views that share memory
    stored = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    files = {DATA: safetensors.torch.save(stored), CONFIG: config.encode()}
    document = {
        "format": FORMAT,
        "schema": schema_of(meta),
        **{k: v for k, v in meta.items() if k != "schema"},
        "normalization": {k: v for k, v in normalization.items() if isinstance(v, str)},
        "sha256": {name: sha256(content) for name, content in files.items()},
    }
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return {**files, META: text.encode()}


def schema_of(meta: dict[str, Any]) -> int:
    """Return the lowest schema whose readers know all that is stored: codes of images, images in
    half precision and a teacher's labels are newer than the rest."""
    if "code" in meta:
        return 4
    if "images_stored" in meta:
        return 3
    return 2 if "label_temperature" in meta else 1


def read_folder(path: Path) -> dict[str, Any]:
    """Return the fields of the artifact at ``path``. Raises DdistError."""
    meta = read_meta(path)
    checksums = meta.pop("sha256", None)
    contents = {}
    for name in (DATA, CONFIG):
        contents[name] = read_file(path, name)
        if not isinstance(checksums, dict) or sha256(contents[name]) != checksums.get(name):
            raise DdistError(
                f"{name} is damaged or was changed after saving (its checksum differs from the one "
                f"in {META}): copy the folder again."
            )
    try:
        tensors = safetensors.torch.load(contents[DATA])
        config = contents[CONFIG].decode()
    except (safetensors.SafetensorError, ValueError) as error:
        raise DdistError(f"{DATA} or {CONFIG} cannot be read ({error}).") from None
    if tensors.keys() >= set(TOP) and isinstance(meta.get("num_classes"), int):
        values, indices = (tensors[name] for name in TOP)
        tensors["labels"] = restore_top(values, indices, meta["num_classes"])
    codes = read_codes(meta, below(CODE, tensors))
    if codes is not None:
        tensors["images"] = images_of(codes, tuple(meta.get("image_shape", ())))
        for name in SHARED:
            if name in tensors and (fewer := len(tensors["images"]) // len(tensors[name])) > 1:
                tensors[name] = tensors[name].repeat_interleave(fewer)
    missing = {"images", "labels"} - tensors.keys()
    if missing:
        raise DdistError(f"{DATA} lacks the tensors {sorted(missing)}.")
    if tensors["images"].dtype == torch.float16:
        tensors["images"] = tensors["images"].float()
    words = meta.pop("normalization", None)
    if not isinstance(words, dict):
        raise DdistError(f"{META} lacks the normalization.")
    return {
        **{name: tensors.get(name) for name in TENSORS},
        "codes": codes,
        "initial_weights": below("initial_weights.", tensors) or None,
        "normalization": {**words, **below("normalization.", tensors)},
        "meta": meta,
        "config": config,
    }


def read_codes(meta: dict[str, Any], tensors: dict[str, Tensor]) -> Codes | None:
    """Return the codes of images that ``meta`` speaks of, and take them out of it."""
    match meta.pop("code", None):
        case None:
            return None
        case {"kind": str(kind), "mirror": bool(mirror)}:
            whole = {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
            return Codes(kind, mirror, whole)
        case other:
            raise DdistError(f"{META} has no valid code of images, got {other!r}.")


def located(path: Path) -> Path:
    """Return ``path``, or the folder of the ready-made set of that name where nothing lies there.
    Raise a DdistError for a mere word that names neither."""
    if path.exists() or len(path.parts) != 1:
        return path
    names = sorted(file.parent.name for file in READY.glob(f"*/{META}"))
    if path.name in names:
        return READY / path.name
    near = difflib.get_close_matches(path.name, names, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise DdistError(
        f"there is no such folder, and no ready-made set of that name{hint}: ddist task=sets lists "
        "them."
    )


def read_meta(path: Path) -> dict[str, Any]:
    """Return the content of meta.json, known to be this format and a schema that can be read."""
    if not (path / META).is_file() and (path / "distilled" / META).is_file():
        raise DdistError(f"this is a run's folder; its dataset is {path / 'distilled'}.")
    text = read_file(path, META)
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DdistError(f"{META} is not JSON ({error}): copy the folder again.") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DdistError(f"{META} was not written by ddist.")
    del meta["format"]
    schema = meta.get("schema")
    if not isinstance(schema, int) or schema < 1:
        raise DdistError(f"{META} has no valid schema number, got {schema!r}.")
    if schema > SCHEMA:
        raise DdistError(
            f"it has schema {schema} and this ddist reads up to {SCHEMA}: install a newer ddist."
        )
    return meta


def read_file(path: Path, name: str) -> bytes:
    """Return the bytes of a file of the folder ``path``. Raises DdistError."""
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise DdistError(
            f"expected a folder with {DATA}, {META} and {CONFIG}, but {name} cannot be read "
            f"({error.strerror})."
        ) from None


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
