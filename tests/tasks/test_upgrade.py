"""Configs of earlier versions under today's names."""

from copy import deepcopy

from omegaconf import open_dict

from ddist.tasks.build import build_data
from ddist.tasks.config import composed_apart, register_resolvers
from ddist.tasks.upgrade import ADDED, upgrade

OLD = {
    "synthetic": {"_target_": "ddist.synthetic.Pixel", "start": "real"},
    "dataset": {
        "_target_": "ddist.data.RealData",
        "source": {"_target_": "ddist.data.sources.folder", "folder": "x"},
    },
    "init": {"_target_": "ddist.init.Random", "scheme": "default"},
    "method": {
        "_target_": "ddist.methods.MTT",
        "expert_epochs": 2,
        "trajectories": {"_target_": "ddist.trajectories.Trajectories", "lr": 0.01},
    },
}


def test_names_of_today_and_settings_that_came_later() -> None:
    before = deepcopy(OLD)
    upgraded = upgrade(OLD)
    assert before == OLD  # left as it was
    assert upgraded["method"]["trajectories"]["_target_"] == "ddist.experts.Trajectories"
    assert upgraded["method"]["log_step_size"] is False
    assert upgraded["dataset"]["source"]["test_share"] == 0.2
    assert upgraded["synthetic"]["scarce"] == "refuse"
    assert "classes" not in upgraded["init"]  # of pretrained networks alone
    assert upgrade(upgraded) == upgraded


def test_wishes_of_a_method_for_other_groups_are_no_settings() -> None:
    old = {"method": {"_target_": "ddist.methods.DM", "published": {"steps": 20000}}}
    assert upgrade(old) == {"method": {"_target_": "ddist.methods.DM"}}


def test_what_is_of_today_stays() -> None:
    mtt = {"expert_epochs": 2, "log_step_size": True, "nearest": True}
    own = {"method": {"_target_": "ddist.methods.MTT", **mtt}}
    assert upgrade(own) == own
    assert upgrade({"method": {"_target_": "ddist.methods.DM"}}) == {
        "method": {"_target_": "ddist.methods.DM"}
    }


def test_an_own_file_of_a_dataset_may_lack_settings_that_came_later() -> None:
    register_resolvers()
    cfg = composed_apart(["dataset=digits"])
    with open_dict(cfg):
        for place, name, _ in ADDED:
            if place == "dataset":
                del cfg.dataset[name]
    assert build_data(cfg).num_classes == 10
