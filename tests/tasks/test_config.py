"""The bridge from YAML to values."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from ddist.cli.sweep import share_of_cores
from ddist.compare.settings import learned
from ddist.storage.signature import signature
from ddist.tasks.config import (
    borrowed_ipcs,
    conf_dir,
    default_path,
    differences,
    job_folder,
    jobs_at_once,
    laptop_preset,
    learned_settings,
    num_cores,
    option_names,
    read_option,
    register_resolvers,
)

pytestmark = pytest.mark.slow  # each composes, builds or trains


@pytest.fixture(autouse=True)
def resolvers() -> None:
    register_resolvers()


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("config", [*overrides, "paths.run=run", "logger=none"])
    cfg.callbacks = {}  # which ask Hydra for names that only a run has
    return cfg


def test_tables_that_settings_are_taken_from_are_found() -> None:
    config = {
        "ipc": 49,
        "dataset": {"name": "digits"},
        "by_ipc": [{"ipc": 1, "lr": 1}, {"ipc": 50, "lr": [50, 50]}],
        "unused": [{"ipc": 3, "lr": 3}],
        "deep": {"value": "${row:lr}"},
    }
    cfg = OmegaConf.create(config)
    assert cfg.deep.value == [50, 50]
    assert borrowed_ipcs(cfg) == {50}
    cfg.deep.value = "${row:lr,  deep.table}"
    cfg.deep.table = [{"dataset": "mnist", "lr": 0}, {"lr": 1}]  # of all ipc
    assert cfg.deep.value == 1
    assert borrowed_ipcs(cfg) == set()
    cfg.deep.value = "${row:nothing}"
    with pytest.raises(InterpolationResolutionError, match="by_ipc has no column nothing"):
        _ = cfg.deep.value


def test_the_signature_names_what_is_learned_and_nothing_else() -> None:
    base = signature(learned_settings(composed()))
    assert len(base) == 8 and int(base, 16) >= 0
    for same in ("dataset.verify=false", "evaluation=dc2021", "budget=1h", "threads=1",
                 "paths.data=there", "trainer.default_root_dir=there", "resume=false",
                 "trajectories=flat", "trajectories.shard=1", "+preset=[{ipc: 1}]"):  # fmt: skip
        assert signature(learned_settings(composed(same))) == base, same
    for other in ("seed=1", "ipc=2", "method.step_size=1", "network=lenet", "init=fixed",
                  "dataset.subset=9", "trainer.precision=bf16-mixed", "steps=9"):  # fmt: skip
        assert signature(learned_settings(composed(other))) != base, other


def test_what_experts_are_matters_to_the_methods_that_follow_them() -> None:
    follow = "+method.trajectories=${trajectories}"
    base = signature(learned_settings(composed(follow)))
    for same in ("trajectories.shard=1", "trajectories.epochs=60"):
        assert signature(learned_settings(composed(follow, same))) == base, same
    for other in ("trajectories=flat", "trajectories.num_experts=9", "trajectories.lr=1",
                  "trajectories.augment.strategy=[]"):  # fmt: skip
        assert signature(learned_settings(composed(follow, other))) != base, other


def test_how_settings_are_called_and_where_they_are_from_is_none_of_them() -> None:
    now = {
        "by_ipc": [{"ipc": 1}],
        "method": {"lr": 1, "augment": {"_by_dataset_": [], "flip": True}},
    }
    then = {
        "method": {
            "_partial_": True, "lr": 1, "published": {"steps": 3},
            "augment": {"_convert_": "all", "flip": True},
        }
    }  # fmt: skip
    assert learned(now) == learned(then) == {"method": {"lr": 1, "augment": {"flip": True}}}


def test_a_method_is_read_with_what_it_starts_from() -> None:
    found = read_option("method", "datm")
    assert found._target_ == "ddist.methods.DATM" and found.growth_steps == 100
    assert found.expert_epochs == 1  # MTT's
    assert found.scheduler._target_ == "ddist.methods.Annealed"  # of all that learn
    assert "steps" not in found


def test_differences_are_named_by_their_path() -> None:
    old = {"seed": 0, "method": {"lr": {"images": 1}, "steps": 3}}
    new = {"seed": 0, "method": {"lr": {"images": 2}}, "ipc": 1}
    assert differences(old, new) == {
        "ipc": (None, 1),
        "method.lr.images": (1, 2),
        "method.steps": (3, None),
    }


def test_an_empty_variable_means_the_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDIST_X", "/somewhere")
    assert default_path("DDIST_X", "data") == "/somewhere"
    monkeypatch.setenv("DDIST_X", "")
    assert default_path("DDIST_X", "data") == str(Path.home() / ".cache/ddist/data")
    assert default_path("DDIST_X", "") == str(Path.home() / ".cache/ddist")


def test_the_laptop_preset_of_a_method_is_known_where_there_is_one() -> None:
    assert [laptop_preset(name) for name in ("dm", "herding", "_trajectories")] == [
        "laptop/dm", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("dataset", option_names("dataset"))
def test_every_dataset_composes_with_its_recipe(dataset: str) -> None:
    cfg = composed(f"dataset={dataset}", "method=dd", "ipc=10")
    assert cfg.dataset.name == dataset
    assert isinstance(cfg.steps, int)
    learned_settings(cfg)


def test_every_method_that_learns_can_average_its_images() -> None:
    learning = [
        name for name in option_names("method") if read_option("method", name).get("lr") is not None
    ]
    assert {"dd", "dsa", "idc", "kip", "ncfm", "rat", "tesla"} < set(learning)
    assert all("ema" in read_option("method", name) for name in learning)


def test_a_job_has_the_folder_of_what_is_swept() -> None:
    assert job_folder("ipc-1_seed-0", 3) == "ipc-1_seed-0"
    assert job_folder("", 3) == "3"
    nested, other = (job_folder(f"experiment-laptop{sign}dm_seed-0", 0) for sign in "/|")
    assert nested != other and "/" not in nested and len(nested) < 100
    long = job_folder("x" * 300, 0)
    assert len(long) < 100 and long != job_folder("x" * 301, 0)


def test_jobs_share_the_cores() -> None:
    for threads in (None, 1, 2, 1000):
        jobs = jobs_at_once(threads, "cpu")
        assert jobs >= 1 and (jobs == 1 or jobs * (threads or 1) <= num_cores())


def test_threads_of_the_jobs_of_each_launcher() -> None:
    def share(**launcher: Any) -> int | None:
        return share_of_cores(OmegaConf.create({"hydra": {"launcher": launcher}}))

    cores = num_cores()
    assert [share(n_jobs=n) for n in (1, cores, -1, 9 * cores)] == [cores, 1, 1, 1]
    assert share(cpus_per_task=3) == 3
    assert share(ray={"init": {}, "remote": {"num_cpus": 2}}) == 2
    assert share() is None  # one after the other, each with all of them


def test_a_row_of_the_table_is_that_of_the_nearest_ipc_and_of_its_dataset() -> None:
    register_resolvers()
    rows = [
        {"dataset": "digits", "ipc": 1, "lr": 1.0},
        {"ipc": 10, "lr": 2.0},
        {"ipc": 50, "lr": 3.0},
    ]
    config: dict[str, Any] = {
        "ipc": 20,
        "dataset": {"name": "mnist"},
        "by_ipc": rows,
        "lr": "${row:lr}",
    }
    assert OmegaConf.create(config).lr == 2.0
    assert OmegaConf.create(config | {"ipc": 40}).lr == 3.0
    assert OmegaConf.create(config | {"ipc": 1}).lr == 2.0
    assert OmegaConf.create(config | {"ipc": 1, "dataset": {"name": "digits"}}).lr == 1.0
    config["by_ipc"] = rows[:1]
    with pytest.raises(InterpolationResolutionError, match="no settings for dataset=mnist"):
        _ = OmegaConf.create(config).lr
