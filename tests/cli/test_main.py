"""The command line as somebody types it: what it says, and what it says when they slip."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddist import __version__
from ddist.cli.main import without_dashes
from ddist.tasks.config import option_names
from tests.conftest import EVALUATED

STEP = "steps=1"
ENOSPC = """
import pytorch_lightning
def full(*args, **kwargs):
    raise OSError(28, "No space left on device")
pytorch_lightning.Trainer.save_checkpoint = full
"""
OTHER_BUILD = """
import sys
class Broken:
    def find_spec(name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
    del sys.modules[name]
sys.meta_path.insert(0, Broken)
"""
UNREACHABLE = """
import urllib.request
def refuse(*args, **kwargs):
    raise urllib.request.URLError("no route\\nto host")
urllib.request.urlopen = refuse
"""

MISTAKES = [
    # names
    ("method=ddd", "Unknown method 'ddd' (did you mean dd?): choose one of average, "),
    ("methd=dd", "Unknown option 'methd' (did you mean method?)"),
    ("stps=10", "Unknown option 'stps' (did you mean steps?)"),
    ("student_step=1", "Unknown option 'student_step' (did you mean method.student_steps?)"),
    ("task=evaluate artifact=digits-1 evaluation.epochs=5",
     "Unknown option 'evaluation.epochs' (did you mean evaluation.epoch_grid?): to change a "
     "setting of the set's own evaluation, name that too, "
     "evaluation=NAME evaluation.epochs=VALUE."),
    ("method=random method.num_candidates=1", "Unknown option 'method.num_candidates'"),
    ("+method.foo=1", "method.foo: there is no such setting of DD."),
    ("~foo", "Unknown option 'foo'"),
    ("logger=null", "logger takes the name of one of its options: ddist --help lists"),
    ("ipc", "Could not read 'ipc': write group=option or key=value."),
    # values
    ("ipc=0", "ipc is a whole number of at least 1, not 0."),
    ("synthetic.start=real ipc=132", "132 different real images of the class 8 are needed, but"),
    ("method.student_steps=2", "method.student_steps=2 needs at least one image per class"),
    ("method.step_size=big", "method.step_size is a finite number above 0, not 'big'."),
    ("network.widths=64", "network.widths is a list of whole numbers of at least 1, not 64."),
    ("synthetic.start=nose", "synthetic.start is one of noise, real, average, kmeans, the folder "
     "of a distilled set or the name of a ready-made one (ddist task=sets), not 'nose'"),
    ("budget=soon", "A time such as 20m, 90s, 1h30m or 45 (seconds) was expected, but 'soon'"),
    ("task=compare runs=. paths.run=null", "paths.run is a word, not None."),
    ("task=export seed=-1", "seed is a whole number of at least 0, not -1."),
    ("~task", "Nothing is left of task, which a run needs: leave ~task out."),
    ("evaluation.networks=[mlp,convent]", "Unknown network 'convent' (did you mean convnet?)"),
    # targets
    ("method._target_=3", "method._target_ is package.module.Name, not 3."),
    ("method._target_=ddist.No", "method._target_=ddist.No is nothing that Python can import:"),
    ("network._target_=torch.nn.Linear",
     "network.widths, network.activation: there are no such settings of Linear."),
    # several mistakes in one line
    ("method=ddd seed=${x}}", "Could not read 'seed=${x}}': write group=option or key=value"),
    # parts that do not go together
    ("init=fixed method.num_networks=2", "This init always gives the same weights, so"),
    ("init=pretrained init.source=mnits", "Unknown dataset 'mnits' (did you mean mnist?)"),
    ("network=alexnet network.layout=imagenet dataset.size=32", "needs images of at least 63x63"),
    ("init=pretrained init.weights=a.pth", "init.weights are those of init.source=imagenet: leave"),
    ("init=pretrained init.source=imagenet init.weights=no.pth", "There is no file no.pth: set"),
    ("dataset=voc_crops dataset.download=false paths.data=here", "voc_crops is not in here: expec"),
    ("dataset=cub200 dataset.download=false paths.data=here", "cub200 is not in here: expected"),
    ("network=lenet", "LeNet needs images of at least 12x12 pixels, but these are 8x8"),
    ("augment=dsa", "This method does not augment its images: leave augment=none"),
    ("method=dm synthetic.labels=soft", "This method compares images class by class and learns"),
    ("method=dm synthetic.images=frozen", "Nothing is left to learn: set synthetic.images=learned"),
    ("synthetic=multiformation synthetic.factor=3", "synthetic.factor=3 must divide the images'"),
    # the machine
    ("trainer.devices=999 trainer.accelerator=cpu", "trainer.devices=999 starts that many"),
    ("trainer.precision=16-mixed", "trainer.precision=16-mixed does not scale the inner losses"),
    ("method=dm trainer.precision=16-true", "trainer.precision=16-true keeps the learned images"),
    ("trainer.devices=[7] trainer.accelerator=cpu", "This machine cannot run the trainer"),
    ("trainer.precision=8", "trainer.precision is null or one of 64, 32, 16, transformer-engine,"),
    ("trainer.strategy=nonsense", "This machine cannot run the trainer as asked: You selected an"),
    ("trainer.precision=64-true", "trainer.precision=64-true is more than anything here is"),
    ("method.lr.images=${nothing}", "The configuration does not work at method.lr.images: "),
    ("method.optimizer.momentum=-1 method=dsa recipe=dsa/_paper method.real_per_class=4",
     "method.optimizer cannot work: Invalid momentum value: -1."),
    ("method.scheduler.step_size=0", "method.scheduler cannot work with what it was given: torch."),
    ("experiment=paper/imagenet10_dit dataset=digits",
     "no such setting of digits. If experiment=paper/imagenet10_dit sets it, leave its dataset a"),
    ("~evaluation", "Nothing is left of evaluation, which a run needs: leave ~"),
    ("~method=true", "method takes the name of one of its options: ddist --help lists"),
    ("seed=0,1", "seed has several values: put -m before them for a sweep, or quotes"),
    ("generative=pca", "No generative pair takes part in this run: leave generative out, or"),
    ("method=ddoq generative=vqgan", "Unknown generative 'vqgan': choose one of autoencoder, "),
    ("method=ddoq generative=pca generative.components=65", "generative.components=65 are more"),
    ("method=ddoq ipc=132 generative=pca", "132 different real images of the class 8 are"),
    # data
    ("dataset=mnist dataset.download=false paths.data=here", "mnist is not in here: expected here"),
    # evaluating
    ("task=evaluate", "task=evaluate needs the folder of a distilled set, or the name of"),
    ("task=evaluate artifact=nowhere", "Could not load nowhere: there is no such folder, and no r"),
]  # fmt: skip


def sentence(code: int, out: str, err: str) -> str:
    """The one line that a mistake prints on standard error; nothing else may complain."""
    assert code == 1
    assert "Traceback" not in out + err
    assert err.startswith("ddist: ") and err.count("\n") == 1, err
    return err.removeprefix("ddist: ")


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_one_sentence(ddist, arguments: str, expected: str) -> None:
    done = ddist(*arguments.split())
    said = sentence(done.code, done.out, done.err)
    assert expected in said
    assert "Internal error" not in said


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_fp16_without_an_accelerator(ddist) -> None:
    done = ddist("method=dm", "trainer.precision=16-mixed", "budget=null")
    said = sentence(done.code, done.out, done.err)
    assert said.startswith("trainer.precision=16-mixed needs an accelerator: use bf16-mixed")


@pytest.mark.skipif(torch.accelerator.is_available(), reason="this machine has an accelerator")
def test_a_gpu_that_is_not_there(ddist) -> None:
    done = ddist(STEP, "trainer.accelerator=gpu")
    assert "No supported gpu backend found" in sentence(done.code, done.out, done.err)


BAD = """
from ddist.methods import DD, Method
right = DD.outer_loss
DD.outer_loss = lambda self, batch: right(self, batch) / float(self.global_step < 1 or "nan")
"""


def test_a_nan_names_the_rates_and_what_to_try(ddist) -> None:
    done = ddist("steps=2", "hydra.run.dir=run", before=BAD)
    said = sentence(done.code, done.out, done.err)
    for part in (
        "step 1 although rates were lowered 5 times",
        "images 8.505e-05",
        "student step sizes 0.",
        "try a smaller outer learning",
    ):
        assert part in said
    # the log has it too, for whoever finds the folder next week
    assert said.strip() in (ddist.folder / "run" / "ddist.log").read_text()


LATER = BAD + "Method.checks_later = lambda self, loss: True"


def test_a_nan_that_is_seen_a_step_later_is_in_no_checkpoint(ddist) -> None:
    """As on accelerators, whose losses are not waited for; also where it is the last step's."""
    run = ("hydra.run.dir=run", "callbacks.checkpoint.seconds=0")
    done = ddist("steps=2", *EVALUATED, *run, before=LATER)
    assert (done.code, done.err) == (0, ""), done.err
    results = json.loads((ddist.folder / "run" / "results.json").read_text())
    assert results["provenance"]["rates_lowered_at"] == [1] and "selection" not in results
    saved = torch.load(ddist.folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["synthetic.images"].isfinite().all()

    done = ddist("steps=9", *run, "hydra.run.dir=longer", before=LATER)
    assert "became nan at step 6 although" in sentence(done.code, done.out, done.err)
    saved = torch.load(ddist.folder / "longer" / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["synthetic.images"].isfinite().all()


def test_a_torchvision_for_another_torch(ddist) -> None:
    done = ddist(STEP, before=OTHER_BUILD)
    said = sentence(done.code, done.out, done.err)
    assert "do not match (operator torchvision::nms does not exist)" in said
    assert "pip install" in said


def test_a_full_disk(ddist) -> None:
    done = ddist(STEP, "hydra.run.dir=run", before=ENOSPC)
    assert sentence(done.code, done.out, done.err).startswith("The disk is full: make room")
    assert not list((ddist.folder / "run").rglob("*last.ckpt*"))


def test_a_failed_download(ddist) -> None:
    done = ddist("dataset=usps", "paths.data=here", STEP, before=UNREACHABLE)
    said = sentence(done.code, done.out, done.err)
    assert "usps could not be downloaded to here" in said and "no route to host" in said


def test_another_checksum_names_the_option(ddist, data_dir: Path) -> None:
    done = ddist("dataset=usps", STEP, f"paths.data={data_dir}")
    said = sentence(done.code, done.out, done.err)
    assert "checksum" in said and "dataset.verify=false" in said


def test_debugging_shows_the_traceback(ddist) -> None:
    done = ddist("ipc=0", DDIST_DEBUG="1")
    assert done.code != 0
    assert "Traceback" in done.err and "check_config" in done.err


def imported(module: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``ddist`` with these arguments, which tells at its end whether ``module`` was imported."""
    code = (
        "import atexit, sys; from ddist.cli.main import main; sys.argv[0] = 'ddist';"
        f"atexit.register(lambda: print({module!r} in sys.modules, file=sys.stderr)); main()"
    )
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture(scope="module")
def finished_run(shared_ddist) -> Path:
    return shared_ddist.distil()


@pytest.mark.parametrize(
    "words",
    ["task=export format=hub artifact=distilled", "task=report runs=.", "task=compare runs=."],
)
def test_tasks_that_read_runs_come_without_lightning(finished_run: Path, words: str) -> None:
    """They would take seconds longer with it."""
    done = imported("pytorch_lightning", *words.split(), folder=finished_run)
    assert done.stderr == "False\n"


@pytest.mark.slow
def test_help_and_config_come_without_torch(tmp_path: Path) -> None:
    """They would take seconds longer with it."""
    for argument in ("--help", "--cfg=job"):
        done = imported("torch", argument, folder=tmp_path)
        assert done.stderr == "False\n"
        if argument == "--help":
            assert "method        average, " in done.stdout and "_base" not in done.stdout
            assert re.search(r"experiment    \d\d presets", done.stdout)
            assert len(done.stdout.splitlines()) < 60
        else:
            assert "ipc: 1\n" in done.stdout
    assert os.listdir(tmp_path) == []  # looking leaves nothing behind


def test_each_option_of_a_group_is_explained(ddist) -> None:
    done = ddist("--help", "method", "recipe")
    assert (done.code, done.err) == (0, "")
    assert "Distribution Matching (Zhao & Bilen 2023): the mean features" in done.out
    assert re.search(r"^  dd +cifar10, cub200, digits", done.out, re.M)
    for name in option_names("method"):
        assert re.search(rf"^  {name} +\w.{{20}}", done.out, re.M), name
    one = ddist("--help", "method=mtt")
    assert "Matching Training Trajectories" in one.out and "task=settings method=mtt" in one.out


def test_help_that_is_not_read_to_its_end_is_no_error() -> None:
    command = [sys.executable, "-m", "ddist", "--help", "recipe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as head does
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_help_on_what_is_not_there_is_one_sentence(ddist) -> None:
    for words, said in (
        (("metod",), "did you mean method?"),
        (("method=dmm",), "ddist --help method"),
    ):
        done = ddist("--help", *words)
        assert done.code == 1 and said in sentence(done.code, done.out, done.err)


def test_help_has_options_of_a_folder_of_ones_own(ddist) -> None:
    mine = ddist.folder / "conf" / "method" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\n# My own method, which is new.\ndefaults: [dm]\n")
    for flag in (("--config-dir=conf",), ("--config-dir", "conf")):
        assert "My own method, which is new" in ddist(*flag, "--help", "method").out


def test_the_config_is_shown_resolved(ddist) -> None:
    done = ddist("method=dd", "dataset=mnist", "ipc=10", "--cfg", "job", "--resolve")
    assert done.code == 0
    assert "preset: laptop/dd\n" in done.out and "student_steps: 10\n" in done.out


def test_a_mistake_beside_a_flag_is_one_sentence(ddist) -> None:
    done = ddist("method=nope", "--cfg", "job")
    assert "nope" in sentence(done.code, done.out, done.err)


@pytest.mark.slow
def test_python_m_ddist_is_ddist(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ddist", "ipc=3", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "ipc: 3\n" in done.stdout


def test_the_version_is_ddists_own(ddist) -> None:
    done = ddist("--version")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"ddist {__version__} (torch ") and done.out.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--method.lr.images=0.1 --seed=1", "method.lr.images=0.1 seed=1"),  # ${args} of wandb
        ("--seed 1 --method.lr.images -0.1", "seed=1 method.lr.images=-0.1"),
        ("method.lr.images=0.1 seed=1", "method.lr.images=0.1 seed=1"),  # ${args_no_hyphens}
        ("--network=convnet -m --seed=1,2", "network=convnet -m seed=1,2"),
        ("--multirun seed=1,2 --config-dir mine", "--multirun seed=1,2 --config-dir mine"),
        ("--config-dir=mine --cfg job --resolve", "--config-dir=mine --cfg job --resolve"),
        ("--multi seed=1", "--multi seed=1"),  # argparse completes it
        # no value that could be meant
        ("--seed --ipc=2", "--seed ipc=2"),
        ("--seed ipc=2", "--seed ipc=2"),
        ("--seed -m", "--seed -m"),
    ],
)
def test_settings_with_dashes(typed: str, meant: str) -> None:
    assert without_dashes(typed.split()) == meant.split()


def test_settings_with_dashes_are_refused_by_their_names(ddist) -> None:
    done = ddist("--method.lr.image=0.1", "--seed=1")
    said = sentence(done.code, done.out, done.err)
    assert said.startswith("Unknown option 'method.lr.image' (did you mean method.lr.images?)")
    done = ddist("seed=1", "--ipc")
    assert done.code == 2 and "Traceback" not in done.err
    assert done.err.startswith("ddist: Unrecognized arguments: --ipc: settings are written")


def test_a_reference_is_of_networks(ddist) -> None:  # type: ignore[no-untyped-def]
    done = ddist("method=random", "evaluation=krr", "reference.measure=true")
    assert "reference.measure trains networks" in sentence(done.code, done.out, done.err)
