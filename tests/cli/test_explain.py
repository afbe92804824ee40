"""Sentences for errors of other libraries."""

import errno

import pytest
from hydra.errors import ConfigCompositionException, MissingConfigException
from yaml import YAMLError

from ddist.cli.explain import explain
from ddist.cli.suggest import known_settings, near, parse
from ddist.errors import DdistError


def test_the_cause_that_a_user_can_mend_is_what_is_said() -> None:
    try:
        try:
            raise DdistError("Two lines\nof   text.")
        except DdistError as cause:
            raise RuntimeError("loky says something else") from cause
    except RuntimeError as error:
        assert explain(error) == "Two lines of text."
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explain(full).startswith("The disk is full")
    assert "method.batch_real or ipc" in explain(MemoryError("tried to allocate"))
    said = explain(YAMLError("mapping values are not allowed here\n  in x.yaml, line 3"))
    assert said == (
        "A YAML file cannot be read: mapping values are not allowed here in x.yaml, line 3."
    )


def test_what_nobody_foresaw_is_still_one_sentence() -> None:
    said = explain(ValueError("first line.\nsecond line"))
    assert said.startswith("Internal error, ValueError: first line (DDIST_DEBUG=1 shows where")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [("stps", ["steps", "seed"], "steps"), ("student_step", ["method.student_steps"],
     "method.student_steps"), ("xyz", ["steps"], "")],
)  # fmt: skip
def test_near(name: str, known: list[str], found: str) -> None:
    assert near(name, known) == found


def test_known_settings_are_those_of_the_chosen_options() -> None:
    known = known_settings(["network=convnet", "ipc=3", "stps=1"])
    assert known["network.width"] == "auto"
    assert known["ipc"] == 1
    assert "network.widths" not in known and "method._target_" not in known
    assert "experiment" in known
    assert known_settings(["network=nothing"]) == {}


def test_parse() -> None:
    assert list(parse(["+a.b=1", "seed=1,2"])) == [("a.b", 1)]


def test_what_is_not_installed_names_the_extra() -> None:
    unknown = "Unknown plugin class : 'hydra_plugins.hydra_{}.launcher.Launcher'"
    for module, extra in (
        ("joblib_launcher", "launchers"),
        ("submitit_launcher", "launchers"),
        ("ray_launcher", "ray"),
    ):
        said = explain(RuntimeError(unknown.format(module)))
        name = module.partition("_")[0]
        assert said == f"{name} is not installed here: pip install 'ddist[{extra}]'."
    missing = MissingConfigException("In 'sweep/search': Could not find 'hydra/sweeper/optuna'")
    assert explain(missing).endswith("pip install 'ddist[optuna]'.")


def test_a_cluster_that_does_not_answer() -> None:
    for text in ("Failed to connect to Ray cluster at host:6379.", "ray client connection timeout"):
        said = explain(ConnectionError(text), ["hydra.launcher.ray.init.address=host:6379"])
        assert said.startswith(f"No Ray cluster was reached: {text.rstrip('.')}. Does it run")
        assert "RAY_AUTH_MODE=token" in said
    said = explain(ConnectionError("an array"), ["hydra/launcher=joblib"])
    assert said == "Hydra cannot work with hydra/launcher=joblib: an array."


def test_processes_that_have_gone() -> None:
    class UncompletedJobError(RuntimeError):
        pass

    assert explain(UncompletedJobError("Job 7 (task: 0)\nwith path")) == (
        "A job's process has ended before its job: Job 7 (task: 0)."
    )
    for text in (
        "[../gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:10627",
        "[../gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms for recv operation",
    ):
        assert explain(RuntimeError(text)).startswith("Another process of this run has ended or ")


def test_values_of_a_sweep_without_one() -> None:
    ambiguous = ConfigCompositionException("Ambiguous value for argument 'seed=0,1'\n1. To use")
    assert explain(ambiguous, ["seed=0,1"]).startswith("seed has several values: put -m before")
    # the preset would have made it one, had it been read
    assert explain(ambiguous, ["sweep=seeds", "seed=0,1", "stps=1"]).startswith("Unknown option 's")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
        MemoryError("Unable to allocate 20.0 GiB for an array"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_on_a_cpu_is_a_sentence(error: Exception) -> None:
    assert explain(error).startswith("Out of memory (")
    assert "try a smaller dataset.size, network.width, method.batch_real or ipc." in explain(error)
    assert not explain(RuntimeError("another thing")).startswith("Out of memory")
