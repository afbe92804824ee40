"""What is refused before torch is imported: groups that are left out, impossible single values."""

from omegaconf import DictConfig

from ddist.errors import DdistError, check_whole

NEEDED = (
    "task", "dataset", "network", "init", "synthetic", "method", "evaluation", "trainer", "logger",
)  # fmt: skip


def check_groups(cfg: DictConfig) -> None:
    """Raise a DdistError unless every group that a run needs is there."""
    if "published" in (cfg.get("method") or {}):
        raise DdistError(
            "method.published is no setting any more: a method's file begins with "
            "'# @package _global_' and sets steps, synthetic.start or init.scheme where they are, "
            "as conf/method/dc.yaml does."
        )
    for group in NEEDED:
        if "_target_" not in (cfg.get(group) or {}):
            if group in (cfg.get(group) or {}):
                raise DdistError(
                    f"The file of this {group} has its settings under {group}: let it begin with "
                    "'# @package _global_'."
                )
            raise DdistError(f"Nothing is left of {group}, which a run needs: leave ~{group} out.")


def check_values(cfg: DictConfig) -> None:
    """Raise a DdistError unless the single values are the numbers they should be."""
    check_whole("", {"ipc": cfg.ipc})
    check_whole("", {"steps": cfg.steps, "seed": cfg.seed}, least=0)
    check_whole("trainer", {"max_steps": cfg.trainer.max_steps}, least=0)
    if cfg.threads is not None:
        check_whole("", {"threads": cfg.threads})
    if cfg.compile not in ("auto", True, False):
        raise DdistError(f"compile is auto, true or false, not {cfg.compile!r}.")
