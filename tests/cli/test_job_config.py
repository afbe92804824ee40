"""Sweeps over groups: each job has the settings of its own."""

from collections.abc import Callable, Iterator

import pytest
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from ddist.cli.explain import explain
from ddist.cli.job_config import JobConfigLoader, check_settings
from ddist.errors import DdistError
from ddist.tasks.config import conf_dir, register_resolvers
from ddist.tasks.targets import make

pytestmark = pytest.mark.slow

Jobs = Callable[..., list[DictConfig]]


class Running:
    """What Hydra has while it runs, as far as it is asked for."""

    def __init__(self, loader: JobConfigLoader) -> None:
        self.config_loader = loader


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    """``jobs(*words, each=…)``: the configs of a sweep's jobs, whose overrides are ``each``, after
    what a sweep checks before it starts; before them the sweep's own."""
    register_resolvers()
    path = create_automatic_config_search_path(None, None, str(conf_dir()))
    loader = JobConfigLoader(path)
    before, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, Running(loader)

    def compose(*words: str, each: list[list[str]]) -> list[DictConfig]:
        config = loader.load_configuration("config", list(words), RunMode.MULTIRUN)
        assert list(config.hydra.overrides.task) == list(words)
        check_settings(config)
        return [config, *(loader.load_sweep_config(config, one) for one in each)]

    yield compose
    # Asked for anew: what is composed meanwhile replaces the instance by a copy.
    GlobalHydra.instance().hydra = before


def refusal(job: DictConfig) -> str:
    """Why a job does nothing."""
    with pytest.raises(DdistError) as caught:
        make(job.task, job)
    return str(caught.value)


def test_a_setting_of_a_swept_group_waits_for_the_jobs(jobs: Jobs) -> None:
    for groups, setting, value in (
        ("method=dm,dsa", "network.width", 8),  # which the method chooses
        ("method=dm,dsa", "method.real_per_class", 32),
        ("evaluation=dc2021,dc2021_dsa", "evaluation.epochs", 5),
        ("experiment=laptop/dm,laptop/dc", "method.real_per_class", 3),
        ("method=glob(ds*)", "method.real_per_class", 4),
    ):
        group, _, names = groups.partition("=")
        each = [[f"{group}={name.replace('glob(ds*)', 'dsa')}", f"{setting}={value}"]
                for name in names.split(",")]  # fmt: skip
        for job in jobs(groups, f"{setting}={value}", each=each)[1:]:
            node, _, key = setting.partition(".")
            assert job[node][key] == value
            assert job.task._target_ == "ddist.tasks.distill.run"


@pytest.mark.parametrize("order", ["convnet,mlp", "mlp,convnet"])
def test_the_job_that_lacks_it_is_refused_alone(jobs: Jobs, order: str) -> None:
    each = [[f"network={name}", f"network.width={w}"] for name in order.split(",") for w in (8, 9)]
    _, *found = jobs(f"network={order}", "network.width=8,9", each=each)
    by_name = {tuple(job.hydra.overrides.task): job for job in found}
    names = {job.hydra.job.override_dirname for job in found}
    assert len(names) == 4  # a folder for each
    for (network, width), job in by_name.items():
        if network == "network=convnet":
            assert job.network.width == int(width[-1])
        else:
            assert refusal(job).startswith(
                "Unknown option 'network.width' (did you mean network.widths?)"
            )
            assert job.hydra.runtime.choices.network == "mlp"


def test_what_no_job_has_is_refused_once_before_any(jobs: Jobs) -> None:
    for words in (
        ["method=dm,dsa", "network.widht=8"],
        ["method=dm,dsa", "network.widht=8,16"],
        ["network=convnet,mlp", "network.widht=8"],
    ):
        with pytest.raises(DdistError, match=r"'network\.widht' \(did you mean network\.width\?\)"):
            jobs(*words, each=[])
    with pytest.raises(DdistError, match=r"'method\.real_per_clas' .*method\.real_per_class\?"):
        jobs("method=dm,dsa", "method.real_per_clas=3", each=[])


def test_other_mistakes_are_refused_as_before(jobs: Jobs) -> None:
    for words in (["method=dm,dsaa", "network.width=8"], ["seed=0,1", "network.width=8"]):
        with pytest.raises(HydraException) as caught:
            jobs(*words, each=[["method=dsaa", "network.width=8"]])
        said = explain(caught.value, words)
        assert said.startswith(("Unknown method 'dsaa'", "Unknown option 'network.width'")), said


def test_a_preset_varies_around_the_value_of_the_jobs(jobs: Jobs) -> None:
    def rates(methods: str) -> str:
        (sweep,) = jobs("sweep=lr", f"method={methods}", "dataset=mnist", each=[])
        return str(sweep.hydra.sweeper.params["method.lr.images"])

    assert rates("dc,dsa") == "0.01,0.03,0.1,0.3,1"  # dd, which is not among them, has others
    with pytest.raises(
        DdistError, match=r"varies around method\.lr\.images, which is not the same"
    ):
        rates("dc,dm")
    jobs(
        "sweep=lr", "method=dc,dm", "dataset=mnist", "method.lr.images=1,2", each=[]
    )  # which are the same for all
    with pytest.raises(DdistError, match=r"No method of this sweep has method\.lr\.images"):
        rates("kmeans,herding")
