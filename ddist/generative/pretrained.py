"""Models of the diffusers library: where they lie, and their parts."""

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import shorten
from typing import Any

from torch import nn

from ddist.errors import DdistError

VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def diffusers_library(asker: str) -> Any:
    """Import diffusers. Raises DdistError, which names ``asker``, if it is not installed, or
    transformers, which has the text encoders, is not."""
    try:
        import diffusers
        import transformers
    except ImportError as error:
        raise DdistError(
            f"{asker} needs the diffusers and transformers libraries, and {error.name} is not "
            "installed: pip install ddist[diffusion]."
        ) from error
    # What they have to say (progress, missing options that nobody asked for) is not the user's.
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return diffusers


def vae_folder(model: str | None, revision: str | None) -> Path:
    """Return the folder of the autoencoder ``model``: its folder, that of a whole pipeline, or the
    name of either on the hub, from where only the autoencoder's files are downloaded."""

    def download(name: str) -> str:
        from huggingface_hub import snapshot_download

        wanted = [*VAE_FILES, *(f"vae/{file}" for file in VAE_FILES)]
        return snapshot_download(name, revision=revision, allow_patterns=wanted)

    folder = find(model, download)
    inner = folder / "vae"
    return inner if inner.is_dir() else folder


def pipeline_folder(
    model: str | None, revision: str | None, pipelines: tuple[str, ...], asker: str
) -> Path:
    """Return the folder of the pipeline ``model``, a folder or a name on the hub. Raises
    DdistError, which names ``asker``, if it is none of ``pipelines``."""

    def download(name: str) -> str:
        pipeline = diffusers_library(asker).DiffusionPipeline
        unused = {"safety_checker": None, "feature_extractor": None}
        return str(pipeline.download(name, revision=revision, **unused))

    folder = find(model, download)
    kind = read_config(folder / "model_index.json").get("_class_name")
    if kind not in pipelines:
        raise DdistError(
            f"{asker} needs a {pipelines[0]} in generative.model, but {model} is a {kind}: choose "
            "another model."
        )
    return folder


def find(model: str | None, download: Callable[[str], str]) -> Path:
    """Return the folder ``model``, or the one to which ``download`` brings that name's files."""
    if not model:
        raise DdistError("Which model? Set generative.model to its folder, or its name on the hub.")
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
        raise DdistError(f"There is no folder {model}, which generative.model names.")
    try:
        return Path(download(model))
    except Exception as error:  # of the hub's client, its transport, or the disk
        raise DdistError(
            f"There is no folder {model}, and no model of that name could be downloaded "
            f"({first_words(error)}): set generative.model to a folder, or repeat the command with "
            "a connection."
        ) from error


def read_config(file: Path) -> dict[str, Any]:
    """Read a model's settings. Raises DdistError for a file that is missing or damaged."""
    try:
        settings: dict[str, Any] = json.loads(file.read_text())
        return settings
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no JSON"
        raise DdistError(
            f"generative.model names a folder that diffusers' save_pretrained has written, but "
            f"{file} cannot be read ({reason})."
        ) from None


def read_part(kind: Any, folder: Path, **options: Any) -> Any:
    """Load ``folder`` by ``kind``'s from_pretrained; a network's weights have no gradients."""
    try:
        module = kind.from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # whatever the libraries raise for what is missing or damaged
        raise DdistError(
            f"{folder} cannot be read as a {kind.__name__} ({first_words(error)}): copy it or "
            "download it again."
        ) from error
    return module.requires_grad_(False).eval() if isinstance(module, nn.Module) else module


def first_words(error: Exception) -> str:
    """Shorten another library's error to a few words."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return shorten(first.split(" (")[0].rstrip("."), 120, placeholder="…")
