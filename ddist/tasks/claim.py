"""The note in a run's folder of the settings that it belongs to, and what is there to resume."""

import json
import shutil
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from ddist.compare.settings import learned
from ddist.errors import DdistError
from ddist.storage.atomic import write_file_whole
from ddist.tasks.config import differences, learned_settings, with_settings
from ddist.tasks.jobs import is_job
from ddist.tasks.upgrade import upgrade

NOTE = "settings.json"
CHECKPOINT = Path("checkpoints", "last.ckpt")
EVALUATED = "evaluated"
STEPS = ("steps", "trainer.max_steps")
"""The settings that say no more than how many outer steps there are."""


def claim(folder: Path, cfg: DictConfig) -> None:
    """Note in the run's folder the settings that it belongs to. With ``cfg.resume``, raise a
    DdistError for what a run of other settings has left there, unless that is the beginning of this
    one; without, remove the checkpoint and the results of an earlier run."""
    if rank_zero_only.rank:  # type: ignore[attr-defined]
        return
    note, checkpoint = folder / NOTE, folder / CHECKPOINT
    left = [leftover for leftover in (checkpoint, folder / "distilled") if leftover.exists()]
    if not cfg.resume:
        checkpoint.unlink(missing_ok=True)
        (folder / "results.json").unlink(missing_ok=True)
        shutil.rmtree(folder / EVALUATED, ignore_errors=True)
    elif left and not note.exists():
        raise DdistError(f"{folder} has no note of its settings: choose another {place()}.")
    elif left:
        check_same(folder, cfg, learned(upgrade(json.loads(note.read_text()))))
    write_file_whole(note, json.dumps(learned_settings(cfg), indent=2).encode())


def check_same(folder: Path, cfg: DictConfig, before: dict[str, Any]) -> None:
    """Raise a DdistError unless the run in ``folder``, of the settings ``before``, is one of
    ``cfg`` or its beginning: with fewer steps, and nothing else that learning depends on."""
    steps, choose = before.get("steps"), f"choose another {place()}, or resume=false to start over"
    changed = differences(before, as_plain(cfg))
    if not changed:
        return
    besides = changed  # what is not the number of steps, nor follows from it
    if isinstance(steps, int):
        besides = differences(before, as_plain(with_steps(cfg, steps)))
    if not besides:
        if cfg.steps < steps:
            raise DdistError(
                f"{folder} holds a run of {steps} steps, and steps={cfg.steps} are fewer: {choose}."
            )
        follow = {name: old for name, (old, _) in changed.items() if name not in STEPS}
        if not follow:
            return
        settings = " ".join(f"{name}={old}".replace(" ", "") for name, old in follow.items())
        raise DdistError(
            f"{folder} holds a run of {steps} steps whose schedule follows their number, so that "
            f"going on would not give what {cfg.steps} steps give: {choose}, or add {settings} to "
            "go on with the schedule as it was."
        )
    lines = [f"{name}: {old} -> {new}" for name, (old, new) in besides.items()]
    more = f" and {len(lines) - 3} more" if len(lines) > 3 else ""
    raise DdistError(
        f"{folder} holds a run of another configuration ({'; '.join(lines[:3])}{more}): {choose} "
        "in this one."
    )


def as_plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings that change what is learned, as the note in a folder has them."""
    plain: dict[str, Any] = json.loads(json.dumps(learned_settings(cfg)))
    return plain


def with_steps(cfg: DictConfig, steps: int) -> DictConfig:
    """Return a copy of ``cfg`` with that many outer steps, and whatever follows from them."""
    return with_settings(cfg, {"steps": steps})


def place() -> str:
    """Return the name of the setting that chooses the run's folder."""
    return "hydra.sweep.dir" if is_job() else "hydra.run.dir"


def where(folder: Path) -> str:
    """Return the setting with which the same command comes back to ``folder``."""
    return f"{place()}={folder.parent if is_job() else folder}"


def kept_in(folder: Path, cfg: DictConfig) -> str:
    """Return a sentence on what an interrupted run leaves in its folder and how to resume it; an
    empty string where there is nothing yet."""
    again = f"the same command with {where(folder)}{'' if cfg.resume else ' and resume=true'}"
    rows = len(list((folder / EVALUATED).glob("*.json")))
    if (folder / "distilled").exists():
        kept = f"the distilled set is in {folder / 'distilled'}"
    elif (folder / CHECKPOINT).exists():
        return f"the outer steps up to the last checkpoint are in {folder}, and {again} goes on"
    elif rows:
        kept = f"the evaluation so far is in {folder / EVALUATED}"
    else:
        return ""
    finished = f" with {rows} finished row{'s' if rows > 1 else ''} of results" if rows else ""
    return f"{kept}{finished}, and {again} does what is missing"
