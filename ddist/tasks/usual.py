"""The settings that names of protocols and networks stand for: conf/evaluation and conf/network."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ddist.tasks.config import composed_apart, option_names, read_option


def usual_protocols(names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the settings of conf/evaluation by the name of the protocol; only of those in
    ``names``, where these are given, as each takes a moment."""
    known = option_names("evaluation")
    wanted = known if names is None else sorted(set(known) & set(names))
    return {name: usual_protocol(name) for name in wanted}


@cache
def usual_protocol(name: str) -> dict[str, Any]:
    return plain(composed_apart([f"evaluation={name}"]).evaluation)


def usual_networks() -> dict[str, dict[str, Any]]:
    """Return the settings of conf/network, by name."""
    return {name: plain(read_option("network", name)) for name in option_names("network")}


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the values of ``cfg``, with interpolations as they stand."""
    plain_config = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain_config, dict)
    return {str(key): value for key, value in plain_config.items()}
