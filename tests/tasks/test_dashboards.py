"""What dashboards get of a run, read back from the files that they leave."""

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.proto.wandb_internal_pb2 import Record

from tests.conftest import QUICK

RUN = (*QUICK, "evaluation.networks=[mlp,lenet]", "dataset.size=12", "network.widths=[8]",
       "callbacks.images.num_pictures=2", "trainer.log_every_n_steps=1")  # fmt: skip
BLOCK = 32768


def records(path: Path) -> list[Record]:
    """The records of a .wandb file: after 7 bytes of its own, blocks of LevelDB's log format, of
    pieces with a checksum (4 bytes), a length (2) and a kind (1: whole, first, middle, last)."""
    content = path.read_bytes()
    assert content.startswith(b":W&B")
    found, part, at = [], b"", 7
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # no room for a header: padding
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(part))
            part = b""
    return found


class Offline:
    """An offline run of wandb, by what lies in its folder."""

    def __init__(self, folder: Path) -> None:
        (self.folder,) = (folder / "wandb").glob("offline-run-*")
        (log,) = self.folder.glob("run-*.wandb")
        self.records = records(log)
        self.run = next(each.run for each in self.records if each.HasField("run"))
        self.history = [self._items(e.history.item) for e in self.records if e.HasField("history")]
        self.metrics = [each.metric for each in self.records if each.HasField("metric")]
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        for each in self.records:
            if each.HasField("config"):
                self.config |= self._items(each.config.update)
            if each.HasField("summary"):
                self.summary |= self._items(each.summary.update)

    @staticmethod
    def _items(items: Any) -> dict[str, Any]:
        return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}

    def table(self, name: str) -> dict[str, Any]:
        (path,) = (self.folder / "files" / "media" / "table").glob(f"{name}_*.table.json")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


@pytest.fixture(scope="module")
def offline(shared_ddist) -> Offline:
    folder = shared_ddist.distil(
        *RUN, "logger=wandb", "logger.artifact=true", folder="wandb_run", WANDB_SILENT="true"
    )
    return Offline(folder)


def test_wandb_groups_runs_and_averages_seeds(offline: Offline) -> None:
    assert offline.run.run_group == "dd-digits-ipc1"
    assert offline.run.display_name == "dd-digits-ipc1-seed0"
    assert offline.run.job_type == "distill"
    config = offline.config
    assert (config["method"], config["dataset"], config["ipc"], config["seed"]) == (
        "dd", "digits", 1, 0,
    )  # fmt: skip
    assert config["settings"]["method"]["student_epochs"] == 10


def test_wandb_has_curves_over_outer_steps(offline: Offline) -> None:
    losses = [row for row in offline.history if "distill/loss" in row]
    assert [row["trainer/global_step"] for row in losses] == [0, 1, 2]
    assert {"step_size/mean", "step_size/min", "step_size/max"} <= losses[0].keys()
    axes = {each.name or each.glob_name: each for each in offline.metrics}
    assert axes["trainer/global_step"]
    assert axes["distill/loss"].summary.min and axes["distill/accuracy"].summary.max
    shown = [
        row["trainer/global_step"] for row in offline.history if "synthetic/images/count" in row
    ]
    assert shown == [1, 2]
    assert len(list((offline.folder / "files/media/images/synthetic").glob("*.png"))) == 2


def test_wandb_has_the_tables_and_the_cost(offline: Offline) -> None:
    results = json.loads((offline.folder.parents[1] / "results.json").read_text())
    evaluation = offline.table("evaluation")
    assert evaluation["columns"][:3] == ["trained on", "protocol", "network"]
    assert len(evaluation["data"]) == 4  # distilled and random, mlp and lenet
    across = offline.table("cross_architecture")
    assert across["columns"] == ["trained on", "mlp", "lenet"]
    means = [row["accuracy_mean"] for row in results["evaluation"]]
    assert across["data"][0] == ["distilled images", *means]
    assert across["data"][1][0] == "random real images"
    assert len(offline.table("step_sizes")["data"]) == 10
    assert ["artifact_bytes", results["cost"]["artifact_bytes"]] in offline.table("costs")["data"]
    assert offline.summary["accuracy"] == means[0]
    assert offline.summary["cost/artifact_bytes"] == results["cost"]["artifact_bytes"]
    assert offline.summary["eval/lenet/accuracy"] == means[1]


def test_the_page_has_its_curves_beside_wandb(offline: Offline) -> None:
    run = offline.folder.parents[1]
    rows = (run / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "0", "1", "2"]
    assert "distill/loss" in (run / "report.html").read_text()


PARAMETERS = {"wandb_version": 1, "seed": {"value": 3}, "method.lr.images": {"value": 0.2}}


@pytest.mark.parametrize("dashes", ["--", ""])
def test_what_an_agent_of_a_wandb_sweep_runs(ddist, tmp_path: Path, dashes: str) -> None:
    """In its environment: the run is the agent's, and has what its sweep looks at."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(PARAMETERS))
    folder = ddist.distil(
        f"{dashes}method.lr.images=0.2", f"{dashes}seed=3", "logger=wandb",
        "dataset.validation=0.2", "task.baseline=false",
        WANDB_RUN_ID="abcd1234", WANDB_SWEEP_ID="sweep123", WANDB_MODE="offline",
        WANDB_SWEEP_PARAM_PATH=str(tmp_path / "config.yaml"), WANDB_SILENT="true",
    )  # fmt: skip
    results = json.loads((folder / "results.json").read_text())
    assert results["seed"] == 3
    assert results["provenance"]["config"]["method"]["lr"]["images"] == 0.2
    run = Offline(folder)
    assert run.folder.name.endswith("-abcd1234") and run.run.sweep_id == "sweep123"
    own = {item.key: item.value_json for item in run.run.config.update}  # the sweep's, untouched
    assert (own["seed"], own["method.lr.images"]) == ("3", "0.2")
    assert run.summary["validation_accuracy"] == results["selection"]["value"]


def test_wandb_keeps_the_set_when_asked(offline: Offline) -> None:
    kept = [each.artifact for each in offline.records if each.HasField("artifact")]
    (artifact,) = (each for each in kept if each.type == "distilled-dataset")
    assert artifact.name == "dd-digits-ipc1-seed0"
    files = {each.path for each in artifact.manifest.contents}
    assert {"data.safetensors", "meta.json", "config.yaml"} <= files


def test_tensorboard_has_the_same(shared_ddist) -> None:
    if find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = shared_ddist.distil(*RUN, "logger=tensorboard", folder="tensorboard_run")
    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    assert [each.step for each in found.Scalars("distill/loss")] == [0, 1, 2]
    assert (folder / "metrics.csv").read_text().count("\n") == 4
    assert found.Scalars("step_size/mean")
    assert [each.step for each in found.Images("synthetic/images")] == [1, 2]
    results = json.loads((folder / "results.json").read_text())
    (accuracy,) = found.Scalars("eval/lenet/accuracy")
    assert accuracy.value == pytest.approx(results["evaluation"][1]["accuracy_mean"])
    (text,) = found.Tensors("cross_architecture/text_summary")
    assert b"| distilled images |" in text.tensor_proto.string_val[0]
    assert found.Scalars("cost/artifact_bytes")
