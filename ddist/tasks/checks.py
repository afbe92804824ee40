"""Checks before anything is computed: that parts fit each other and the machine."""

from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import DictConfig

from ddist.data import RealData
from ddist.errors import DdistError
from ddist.evaluation import Protocol
from ddist.init import InitialWeights
from ddist.methods import Method
from ddist.objectives import Objective
from ddist.synthetic.start import earlier_folder
from ddist.tasks.config import num_cores
from ddist.tasks.names import chosen, named, option_of
from ddist.tasks.networks import uses_network
from ddist.tasks.processes import check_all_taken, num_started

HALF = {16, "16", "16-mixed"}
DOUBLE = {64, "64", "64-true"}


def check_run(cfg: DictConfig) -> bool:
    """Tell whether a network takes part. Raise a DdistError for settings that do not fit."""
    check_reference(cfg)
    check_devices(cfg)
    check_groups_used(cfg.method, cfg.evaluation)
    check_teacher_used(cfg, "teacher" in cfg.method or cfg.teacher.store)
    check_labels(cfg)
    check_start(cfg)
    with_network = uses_network(cfg.method) or uses_network(cfg.evaluation)
    check_network_used(cfg, with_network)
    return with_network


def check_reference(cfg: DictConfig) -> None:
    """Raise a DdistError for training on all images where the protocol does without networks."""
    protocol = get_object(cfg.evaluation._target_)
    if cfg.reference.measure and not getattr(protocol, "uses_network", True):
        raise DdistError(
            "reference.measure trains networks on all images, and "
            f"evaluation={cfg.evaluation.name} does without networks: leave it out, or choose "
            "another protocol."
        )


def check_init(init: InitialWeights, method: DictConfig) -> None:
    """Raise a DdistError, before networks are trained, where the method would train the same one
    several times or draw more of them than there will be."""
    num = method.get("num_networks", 1)
    if init.single and num > 1:
        raise DdistError(
            f"This init always gives the same weights, so method.num_networks={num} would train "
            "one network several times: set method.num_networks=1, or choose init=random."
        )
    init.check_enough(method.get("num_pool", num))


def check_held_out(init: InitialWeights, protocol: Protocol) -> None:
    """Raise a DdistError, before networks are trained, where the protocol wants more held-out ones
    than there will be."""
    wanted, most = protocol.num_held_out, init.num_held_out
    if wanted is not None and most is not None and wanted > most and not init.single:
        raise DdistError(
            f"The evaluation asks for {wanted} held-out networks, but init.num_held_out={most}: "
            "pre-train more or evaluate fewer."
        )


def check_objective(cfg: DictConfig, objective: object, data: RealData) -> None:
    """Raise a DdistError for an objective that does not fit the classes, that the method does not
    learn for, or that the protocol cannot follow."""
    if not isinstance(objective, Objective):
        return
    objective.check(data.num_classes)
    if "objective" not in cfg.method:
        raise DdistError(
            "This method always learns to classify: leave objective out, or choose method=dd."
        )
    if cfg.evaluation.name != "replay":
        raise DdistError(
            "What networks do under this objective is followed step by step: choose "
            "evaluation=replay."
        )


def check_trained(cfg: DictConfig, init: InitialWeights) -> None:
    """Raise a DdistError for an objective about trained networks where they start untrained."""
    needs = getattr(get_object(cfg.objective._target_), "needs_trained", False)
    if needs and not init.trained:
        raise DdistError("This objective is about trained networks: choose init=pretrained.")


def check_start(cfg: DictConfig) -> None:
    """Raise a DdistError for an earlier set as the start of a method that learns nothing, and for
    noise as one that is blended in again."""
    if not get_object(cfg.method._target_).learns and earlier_folder(cfg.synthetic.start):
        raise DdistError(
            "This method learns nothing, so that it cannot start from an earlier set: leave "
            "synthetic.start out."
        )
    if (blends := cfg.method.get("blends")) and cfg.synthetic.start == "noise":
        raise DdistError(
            f"method.blends={blends} blends in what the images started at, which is noise: set "
            "synthetic.start=real, or to the folder of a run of method=rded."
        )


def check_augment(cfg: DictConfig) -> None:
    """Raise a DdistError for an augmentation that the method would not apply."""
    if cfg.augment.strategy and "augment" not in cfg.method:
        raise DdistError(
            "This method does not augment its images: leave augment=none (the evaluation's own is "
            "evaluation=dc2021_dsa)."
        )


def check_network_used(cfg: DictConfig, used: bool) -> None:
    """Raise a DdistError where the command line names a network that no part of the run uses."""
    if not used and (named("network") or chosen("evaluation.networks")):
        raise DdistError(
            f"No network takes part in this run (evaluation={cfg.evaluation.name} does without): "
            "leave network out, or choose another protocol, such as evaluation=dc2021."
        )


def check_groups_used(*parts: DictConfig) -> None:
    """Raise a DdistError where the command line names a kernel or a generative pair, and none of
    ``parts`` has one."""
    for group, what, users in (
        ("kernel", "kernel", "evaluation=krr (or method=kip)"),
        ("generative", "generative pair", "method=ddoq or method=d4m"),
    ):
        if named(group) and not any(group in used_by for used_by in parts):
            raise DdistError(
                f"No {what} takes part in this run: leave {group} out, or choose {users}."
            )


def check_teacher_used(cfg: DictConfig, used: bool) -> None:
    """Raise a DdistError where the command line names a teacher and neither the protocol nor, as
    ``used`` says, anything else asks one."""
    if named("teacher") and not used and cfg.evaluation.get("labels") != "teacher":
        raise DdistError(
            "No teacher is asked in this run: leave teacher out, or choose evaluation=rded (labels "
            "on the fly) or teacher.store=true (labels in the artifact)."
        )


def check_labels(cfg: DictConfig) -> None:
    """Raise a DdistError for a label temperature in the evaluation of a set with hard labels."""
    temperature = cfg.evaluation.get("temperature", 1)
    hard = cfg.synthetic.labels == "hard" and not cfg.teacher.store
    if temperature != 1 and hard and cfg.evaluation.labels == "own":
        raise DdistError(
            f"evaluation.temperature={temperature} is for soft labels, which this set will not "
            "have: set teacher.store=true, or evaluation.labels=teacher."
        )


def check_precision(precision: object, method: Method, device: torch.device) -> None:
    """Raise a DdistError for fp16 where inner losses are differentiated twice, for fp16 on a CPU
    and without loss scaling, and for double precision."""
    if precision == "16-true":
        raise DdistError(
            "trainer.precision=16-true keeps the learned images themselves in 16 bits, without "
            "scaling their loss: use 16-mixed, bf16-mixed or 32-true."
        )
    if precision in DOUBLE:
        raise DdistError(
            f"trainer.precision={precision} is more than anything here is computed in: use 32-true."
        )
    if precision in HALF and method.supports_fp16 and device.type == "cpu":
        raise DdistError(
            f"trainer.precision={precision} needs an accelerator: use bf16-mixed or 32-true."
        )
    if precision in HALF and not method.supports_fp16:
        raise DdistError(
            f"trainer.precision={precision} does not scale the inner losses of a method that "
            "differentiates them twice, as this one does: use trainer.precision=bf16-mixed or "
            "32-true."
        )


def check_devices(cfg: DictConfig) -> None:
    """Raise a DdistError for more processes than the CPU has cores (Lightning starts any number),
    and for a sweep over runs of several devices."""
    devices, cores = cfg.trainer.devices, num_cores()
    on_cpu = cfg.trainer.accelerator == "cpu" or not torch.accelerator.is_available()
    if on_cpu and str(devices).isdigit() and int(devices) > cores:
        raise DdistError(
            f"trainer.devices={devices} starts that many processes, but this machine has {cores} "
            f"CPU cores: choose trainer.devices of at most {cores}."
        )
    check_all_taken(devices, cfg.trainer.num_nodes)
    # Each process that Lightning starts would repeat the whole sweep (Lightning#15737); those of a
    # SLURM job are started for it.
    single = str(devices) in ("1", "auto") and cfg.trainer.num_nodes == 1
    if HydraConfig.get().mode == RunMode.MULTIRUN and not single and num_started() is None:
        raise DdistError(
            f"-m cannot sweep runs of several devices (trainer.devices={devices}): give each job "
            "one device (trainer.devices=1), or start each run by itself (torchrun, SLURM)."
        )


def check_free(folder: Path) -> None:
    """Raise a DdistError where a task would overwrite the results of a distillation."""
    if (folder / "settings.json").exists():
        raise DdistError(
            f"{folder} is the folder of a distillation, whose results stay: choose another "
            f"hydra.run.dir for task={option_of('task')}."
        )
