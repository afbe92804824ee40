"""Random command lines, valid and invalid: each must work, or end with one sentence that helps.

    python scripts/random_commands.py                     1,000 of them, in a quarter of an hour
    python scripts/random_commands.py --num 50 --seed 1   others, fewer
    python scripts/random_commands.py --only 17           what the 18th printed
    python scripts/random_commands.py --each              each setting with odd values

They are made from the options and settings of conf/, at a scale of seconds: the digits, one outer
step, one network. Each runs in a fork of this process, which has everything imported, in an empty
folder, with a limit of time and memory. Listed are those that hang, leave a traceback, die or say
something else than one line for whoever typed the command; the exit status is 1 if there are any.
"""

import argparse
import itertools
import os
import random
import re
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch

# Its fork of a process with everything imported serves the tests too.
sys.path.append(str(Path(__file__).parents[1] / "tests"))

from fork_server import become

from ddist.cli.suggest import known_settings
from ddist.tasks.config import composed_apart, option_names, register_resolvers

SECONDS = 60  # of a command, at most
BEFORE = """
import os, resource, signal
os.setsid()
most = 8 * 2**30  # bytes of address space, which torch reserves generously
resource.setrlimit(resource.RLIMIT_AS, (most, most))
signal.signal(signal.SIGINT, signal.default_int_handler)
"""

TASKS = ("compare", "evaluate", "experts", "export", "import", "report")
FORMATS = ("png", "npz", "torch", "hub", "dc", "mtt", "idc", "folder", "onnx", "null", "[png]")

# What makes a run short, where it has such a setting.
SHORT = {
    "dataset.subset": 20,
    "evaluation.num_networks": 1,
    "evaluation.num_probes": 1,
    "evaluation.epochs": 1,
    "evaluation.epoch_grid": "[1]",
    "evaluation.step_size_grid": "[0.1]",
    "evaluation.tuning_networks": 1,
    "evaluation.tuning_images": 50,
    "evaluation.views": 2,
    "generative.steps": 2,
    "generative.width": 4,
    "generative.components": 4,
    "init.epochs": 1,
    "init.lr_drops": "[]",
    "init.num_held_out": 1,
    "init.num_networks": 2,
    "method.batch_real": 16,
    "method.candidates": 4,
    "method.embedding.epochs": 1,
    "method.expert_epochs": 1,
    "method.first_max_start_epoch": 1,
    "method.judge.epoch_grid": "[1]",
    "method.judge.num_networks": 1,
    "method.judge.tuning_networks": 1,
    "method.max_start_epoch": 1,
    "method.max_student_epochs": 2,
    "method.max_updates": 2,
    "method.min_start_epoch": 0,
    "method.num_candidates": 2,
    "method.num_crops": 1,
    "method.num_frequencies": 16,
    "method.num_pool": 1,
    "method.num_teachers": 1,
    "method.passes": 1,
    "method.query_per_class": 4,
    "method.real_per_class": 4,
    "method.start_size": 20,
    "method.student_images": 20,
    "method.synthetic_per_class": 4,
    "method.train_per_class": 4,
    "method.views": 2,
    "network.width": 4,
    "network.widths": "[8]",
    "reference.training.epochs": 1,
    "reference.training.num_networks": 1,
    "steps": 1,
    "task.baseline": "false",
    "teacher.epochs": 1,
    "teacher.train_per_class": 8,
    "trajectories.epochs": 2,
    "trajectories.num_experts": 1,
}
# Words that YAML comments offer for settings of these last names, and the like.
WORDS = {
    "activation": ("relu", "leaky_relu", "gelu", "sigmoid", "tanh", "erf"),
    "norm": ("instance", "group", "layer", "batch", "none"),
    "pooling": ("avg", "max", "none", "blocks", "global"),
    "scheme": ("xavier_normal", "default"),
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("halfway", "multistep", "constant", "cosine", "smooth_cosine", "warmup_cosine"),
    "loss": ("cross_entropy", "mse"),
    "labels": ("own", "hard", "teacher", "soft", "given", "free", "solved"),
    "start": ("noise", "real", "average", "kmeans"),
    "images": ("learned", "frozen"),
    "unroll": ("checkpoint", "selective", "autograd", "first_order"),
    "distance": ("cosine", "euclidean", "l1", "cosine_magnitude", "mse"),
    "weights": ("mass", "sqrt", "uniform", "null", "no.pth"),
    "decode": ("decoder", "medoid"),
    "kind": ("ntk", "nngp"),
    "precision": ("32-true", "bf16-mixed", "16-mixed", "64-true", "8"),
    "normalize": ("mean_std", "zca", "none"),
    "augmentation": ("none", "crop_flip"),
    "inner": ("adam", "sgd"),
    "prune": ("mask", "gate"),
    "label_start": ("classes", "experts"),
    "dtype": ("float32", "bfloat16", "float16"),
    "layout": ("small", "imagenet", "auto"),
    "accelerator": ("cpu", "auto", "gpu", "tpu"),
    "strategy": ("auto", "ddp", "nonsense", "[color]", "[flip,crop]", "[nothing]", "color"),
    "compile": ("false", "auto", "maybe"),
    "budget": ("1s", "0", "-5", "soon", "1h30m", "[1]"),
    "source": ("digits", "usps", "imagenet", "nothing", "null"),
    "networks": ("[mlp]", "[mlp,convnet]", "mlp", "[]", "[nothing]", "[3]", "{a: 1}", "''"),
    "network": ("mlp", "resnet18_bn", "nothing", "null", "3"),
    "model": ("resnet18", "nothing"),
    "select": ("herding", "kcenter", "kmeans_embedding"),
    "mean": ("null", "[0.5]", "[0.1,0.2,0.3]", "0.5", "[a]", "[]"),
    "std": ("null", "[0.5]", "[0]", "0.5", "[-1]"),
}
ANYTHING = (
    "-1", "0", "1", "2", "3", "0.5", "-0.5", "nan", "inf", "-inf", "1e-9", "null", "true", "false",
    "word", "''", "' '", "[]", "[1]", "[1,2,3]", "[a,b]", "{}", "{a: 1}", "é", "数", "3x", "0x10",
    "${nothing}", "${ipc}", "${oc.env:NOTHING}", "${row:nothing}", "???", "1_0", "-0",
)  # fmt: skip
USED_BY_METHODS = ("kernel", "generative", "teacher", "trajectories", "augment")
HUGE = ("1e30", "1000000000000000000000", "9223372036854775808", "2147483648", "-1e30", "1e400")
# Whole numbers that say how much is computed: huge ones do take forever, which is no hang.
WORK = re.compile(
    r"epoch|steps|num_|passes|update|width|depth|batch|image|per_class|candidates|components|dims"
    r"|size|factor|students|pool|frequencies|window|experts|networks|chunk|memory|store|top_k"
    r"|classes_at_once|shard|seconds|budget|limit|burn_in|k_grid|drops|max_|queue|crops"
)
ODD_VALUES = ("-1", "0", "0.5", "word", "null", "[]", "{a: 1}")  # of every setting, with --each
EACH = (
    "method", "evaluation", "network", "init", "kernel", "generative", "teacher", "trajectories",
    "augment", "synthetic", "objective", "dataset", "trainer", "logger", "callbacks",
)  # fmt: skip
# A method that has a use for the group.
METHOD_OF = {
    "augment": "dsa", "evaluation": "random", "generative": "ddoq", "kernel": "kip",
    "teacher": "rded", "trajectories": "mtt",
}  # fmt: skip
# Settings that start other machines' work, or compile for a minute.
NOT = {"trainer.num_nodes", "trainer.devices", "paths.run", "compile"}
BROKEN = (
    "{key}=[1", "{key}={{a:1", "{key}='", '{key}="a', "{key}=", "{key}", "={value}", "{key}==3",
    "{key}=a=b=c", "{key}=(", "{key}=]", "{key}=${{", "{key}=${{nothing:1}}", "+{key}={value}",
    "++{key}={value}", "~{key}", "~{key}={value}", "{key}x={value}", "x{key}={value}",
    "{key}.x={value}", "+{key}.x={value}", "+new={value}", "+new.thing={value}", "{key} = {value}",
    "{key}={value},{value}", "{key}=range(3)", "{key}=choice(1,2)", "{key}=interval(0,1)",
    "{key}={value} {key}", "@{key}={value}", "{key}@x={value}", "{key}:={value}", "-{key}={value}",
    "--{key}={value}", "--nonsense", "-x", "{key}/{key}={value}", "%{key}={value}", "",
)  # fmt: skip
ODD = (
    "hydra.run.dir=/proc/nothing", "hydra.run.dir=''", "hydra/launcher=nothing",
    "hydra.job.chdir=true", "hydra/job_logging=none", "paths.cache=/proc/nothing",
    "paths.data=/proc/nothing", "paths.cache=''", "experiment=laptop/nothing", "experiment=nothing",
    "experiment=[laptop/dm]", "experiment=laptop/dm_mnist_ipc1", "experiment=laptop/dm",
    "experiment=laptop/datm", "experiment=paper/imagenet10_dit",
    "+recipe=dd/mnist", "recipe=dm/cifar10", "method=[dd,dm]", "method=''", "method=null",
    "~method", "~dataset", "~task", "~evaluation", "~logger", "~callbacks", "~callbacks.progress",
    "~network", "callbacks.images=null", "callbacks=null", "trainer=null", "trainer.max_epochs=2",
    "+trainer.fast_dev_run=true", "+trainer.nothing=1", "trainer._target_=nothing.here",
    "method._target_=ddist.methods.Nothing", "method._target_=os.getcwd",
    "network._target_=torch.nn.Linear", "dataset.source.file=nothing.npz", "--cfg=job",
    "--cfg=nothing", "--resolve", "--help", "--info", "--config-name=nothing",
    "--config-dir=nothing", "--config-path=nothing", "threads=1", "threads=0", "threads=x",
    "resume=false", "resume=maybe", "seed=-1", "seed=1000000000000000000000000", "seed=x",
    "seed=1.5", "ipc=0", "ipc=1000", "ipc=132", "ipc=1e3", "ipc=2.0", "ipc=true", "ipc=[1]",
    "ipc=1,2", "steps=0", "steps=-1", "steps=1e9x", "steps=null", "trainer.devices=0",
    "trainer.devices=-5", "trainer.devices=999", "trainer.devices=[7]", "trainer.devices=x",
    "trainer.strategy=ddp", "dataset=digits dataset=digits", "logger=none", "logger=wandb",
    "logger=tensorboard", "hydra.verbose=true", "hydra.mode=nothing", "hydra/sweeper=nothing",
)  # fmt: skip

OPAQUE = re.compile(
    r"Internal error|object has no|has no attribute|is not subscriptable|unsupported operand"
    r"|positional arg|not supported between|object is not|KeyError|<class '|0x[0-9a-f]{6}"
    r"|not iterable|out of range|must match the size|mat1|size of tensor|Boolean value"
    r"|invalid literal|Error instantiating|Error in call|unexpected keyword|NoneType"
)


@dataclass(frozen=True)
class Command:
    """A command line by its words, without ``ddist``."""

    number: int
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.number:4d}  ddist {shlex.join(self.words)}"


@dataclass(frozen=True)
class Outcome:
    """What came of a command; ``fault`` is empty where it is as it should be."""

    kind: str  # works | refused | fault
    fault: str
    said: str
    seconds: float


@cache
@cache
def settings(*groups: str) -> dict[str, Any]:
    """Every setting under the chosen options by its dotted name, with its default."""
    return known_settings(groups)


def make(number: int, seed: int, files: Path) -> Command:
    """The command of that number; ``files`` are those of :func:`prepare`."""
    rng = random.Random(f"{seed}/{number}")
    method = rng.choice(option_names("method"))
    words = {"method": method}
    for group, share in (
        ("network", 0.15), ("init", 0.15), ("evaluation", 0.2), ("augment", 0.05),
        ("synthetic", 0.1), ("objective", 0.05), ("kernel", 0.05), ("generative", 0.1),
        ("teacher", 0.1), ("trajectories", 0.05),
    ):  # fmt: skip
        if rng.random() < share:
            words[group] = rng.choice(option_names(group))
    more = unusual(rng, words, files)
    for group in USED_BY_METHODS:
        if group in words and rng.random() < 0.8:
            own = settings(f"method={words.get('method', 'dd')}")
            if f"method.{group}" not in own:
                del words[group]  # mostly, what has a use
    known = settings(*(f"{group}={option}" for group, option in words.items()))
    takes_part = sorted(key for key in known if belongs(key, words, known))
    line = shortest(words, known) + more
    tested = takes_part if rng.random() < 0.9 else sorted(known)
    tested = [key for key in tested if "." in key or key in ("ipc", "seed", "budget", "resume")]
    tested = [key for key in tested if key not in NOT and not isinstance(known[key], dict)]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3))):
        key = rng.choice(tested)
        text = f"{key}={value(rng, key, known[key])}"
        if rng.random() < 0.12:
            broken = rng.choice(BROKEN)
            text = broken.format(key=rng.choice((key, *words)), value=value(rng, key, known[key]))
        line.append(text)
    if rng.random() < 0.12:
        line += rng.choice(ODD).split(" ")
    if rng.random() < 0.05:
        line.append(rng.choice(line))  # twice
    if rng.random() < 0.3:
        line.append(f"ipc={rng.choice((2, 3, 5, 10, 20, 21))}")
    return Command(number, tuple(line))


def shortest(words: dict[str, str], known: dict[str, Any]) -> list[str]:
    """The command line of the chosen options, made short."""
    short = {key: str(value) for key, value in SHORT.items() if belongs(key, words, known)}
    short = {key: value for key, value in short.items() if key in known}
    if isinstance(known.get("network.width"), list):
        short["network.width"] = "[4,4,4]"
    return [f"{key}={value}" for key, value in (words | short).items()]


def each_setting() -> Iterator[Command]:
    """Every setting, once for each class that takes it, with every odd value."""
    numbers, done = itertools.count(), set()
    without = ["dataset.download=false"]
    for group in EACH:
        for option in option_names(group):
            words = {"method": METHOD_OF.get(group, "dd"), group: option}
            known = settings(*(f"{name}={chosen}" for name, chosen in words.items()))
            made = known_target(group, option)
            for key in sorted(known):
                own = key.startswith(f"{group}.") and not isinstance(known[key], dict)
                if own and key not in NOT and (made, key) not in done:
                    done.add((made, key))
                    for odd in ODD_VALUES:
                        line = (*shortest(words, known), *without, f"{key}={odd}")
                        yield Command(next(numbers), line)


def known_target(group: str, option: str) -> str:
    """The class of an option."""
    return str(composed_apart([f"{group}={option}"])[group].get("_target_"))


def belongs(key: str, words: dict[str, str], known: dict[str, Any]) -> bool:
    """Whether a setting may be named: ddist refuses those of parts that take no part."""
    group = key.split(".")[0]
    if group == "task" and words.get("task", "evaluate") != "evaluate":
        return False
    if group == "trajectories" and words.get("task") == "experts":
        return True
    if group in ("generative", "trajectories"):
        return f"method.{group}" in known
    if group == "kernel":
        return "method.kernel" in known or "evaluation.kernel" in known
    if group == "teacher":
        return "method.teacher" in known or known.get("evaluation.labels") == "teacher"
    return group != "augment" or "method.augment" in known


def unusual(rng: random.Random, words: dict[str, str], files: Path) -> list[str]:
    """Another dataset or task, now and then, with what they need or not; changes ``words``."""
    more: list[str] = []
    chance = rng.random()
    if chance < 0.06:
        words["dataset"] = rng.choice(
            [each for each in option_names("dataset") if each != "digits"]
        )
        more.append("dataset.download=false")
    elif chance < 0.1:
        words["dataset"] = rng.choice(("arrays", "imagefolder"))
        key = "file" if words["dataset"] == "arrays" else "folder"
        more.append(f"dataset.source.{key}={rng.choice(sorted(map(str, files.iterdir())))}")
    if rng.random() < 0.15:
        words["task"] = task = rng.choice(TASKS)
        found = [*sorted(map(str, files.iterdir())), "nothing", "null", "''", "[a]", "3"]
        if task in ("evaluate", "export"):
            more.append(f"artifact={rng.choice([str(files / 'artifact')] * 8 + found)}")
            if rng.random() < 0.5:
                del words["method"]
        if task in ("compare", "report"):
            more.append(f"runs={rng.choice(found)}")
        if task == "import":
            more += [f"path={rng.choice(found)}", f"normalization={rng.choice(('none', 'zca'))}"]
            more += ["dataset=digits"] * (rng.random() < 0.8)
        if task in ("export", "import"):
            more.append(f"format={rng.choice(FORMATS)}")
    return more


def value(rng: random.Random, key: str, default: Any) -> str:
    """A value for a setting: of its kind, near its default, or anything at all."""
    last = key.rsplit(".", 1)[-1]
    chance = rng.random()
    if last in WORDS and chance < 0.75:
        return rng.choice(WORDS[last])
    if isinstance(default, bool) and chance < 0.6:
        return rng.choice(("true", "false"))
    if isinstance(default, int) and chance < 0.5:
        return str(rng.choice((0, 1, 2, 3, 4, -1)))
    if isinstance(default, float) and chance < 0.5:
        return f"{rng.choice((0.0, 0.1, 0.5, 1.0, 2.0, -0.1)) * (default or 1.0):g}"
    if isinstance(default, list) and chance < 0.4:
        return f"[{','.join(str(rng.choice((0, 1, 2, 0.5, -1, 'a'))) for _ in range(2))}]"
    if chance > 0.9 and not WORK.search(last):
        return rng.choice(HUGE)
    return rng.choice(ANYTHING)


def prepare(folder: Path) -> Path:
    """Files that commands name: a distilled set, damaged ones, and what is none."""
    files = folder / "files"
    files.mkdir(parents=True)
    run = files / "artifact_run"
    words = ("method=random", "evaluation.num_networks=1", "evaluation.epoch_grid=[1]")
    done = execute((*words, "task.baseline=false", f"hydra.run.dir={run}"), folder, SECONDS)
    assert done.kind == "works", done
    shutil.copytree(run / "distilled", files / "artifact")
    for name, file, content in (
        ("truncated", "data.safetensors", (run / "distilled/data.safetensors").read_bytes()[:200]),
        ("empty", "data.safetensors", b""),
        ("no_json", "meta.json", b"{"),
        ("empty_json", "meta.json", b"{}"),
        ("list_json", "meta.json", b"[1, 2]"),
        ("newer", "meta.json", b'{"schema": 99}'),
        ("no_yaml", "config.yaml", b"a: [1"),
        ("other_yaml", "config.yaml", b"ipc: x\nmethod: 3\n"),
    ):
        shutil.copytree(run / "distilled", files / name)
        (files / name / file).write_bytes(content)
    (files / "results").mkdir()
    (files / "results" / "results.json").write_text('{"schema": 1}')
    (files / "pictures" / "train" / "a").mkdir(parents=True)
    (files / "pictures" / "train" / "a" / "1.png").write_bytes(b"no picture")
    (files / "res_DM.pt").write_bytes(b"no tensors")
    (files / "x.npz").write_bytes(b"no arrays")
    torch.save({"data": []}, files / "empty.pt")
    return files


def execute(words: tuple[str, ...], folder: Path, limit: float) -> Outcome:
    """Run a command in a fork, in ``folder``/run."""
    work = folder / "run"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    out, err = folder / "out", folder / "err"
    env = {"DDIST_DATA": str(folder / "data"), "DDIST_CACHE": str(folder / "cache")}
    env |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become(["ddist", *words], str(work), env, BEFORE, str(out), str(err))
    status = wait(pid, started + limit)
    seconds = time.monotonic() - started
    said = err.read_text(errors="replace")
    printed = out.read_text(errors="replace") + said
    logs = "".join(path.read_text(errors="replace") for path in work.rglob("ddist.log"))
    if status is None:
        kind, fault = "fault", f"still running after {limit:g} s"
    elif status < 0:
        kind, fault = "fault", f"killed by {signal.Signals(-status).name}"
    elif "Traceback" in printed + logs:
        kind, fault = "fault", "traceback"
    elif status == 0:
        kind, fault = ("fault", "complains") if said.strip() else ("works", "")
    else:
        kind, fault = "refused", opaque(said)
        kind = "fault" if fault else kind
    return Outcome(kind, fault, printed.strip(), seconds)


def wait(pid: int, until: float) -> int | None:
    """The exit status of the fork; None, and all it started is killed, where it takes longer."""
    for pause in itertools.chain((0.01,) * 50, itertools.repeat(0.05)):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(pause)
    raise AssertionError


def opaque(said: str) -> str:
    """What is wrong with an error message; nothing where it is one sentence for its reader."""
    lines = said.strip().splitlines()
    if not lines:
        return "says nothing"
    if len(lines) > 1 or not lines[0].startswith("ddist: "):
        return "not one line of ddist's"
    if len(lines[0]) < 25:
        return "too short to help"
    return "internal words" if OPAQUE.search(lines[0]) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, help="command lines; 1000, or all with --each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first")
    parser.add_argument("--only", type=int, help="the number of one command")
    parser.add_argument("--each", action="store_true", help="every setting instead, once each")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a command, at most")
    parser.add_argument("--list", action="store_true", help="what the refused ones said")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    register_resolvers()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sys.exit(1 if report(outcomes(chosen, folder), chosen) else 0)


def outcomes(chosen: argparse.Namespace, folder: Path) -> Iterator[tuple[Command, Outcome]]:
    files = prepare(folder)
    made = (
        each_setting() if chosen.each else (make(k, chosen.seed, files) for k in itertools.count())
    )
    first, num = chosen.first, chosen.num or (None if chosen.each else 1000)
    if chosen.only is not None:
        first, num = chosen.only, 1
    for command in itertools.islice(made, first, num and first + num):
        yield command, execute(command.words, folder, chosen.seconds)


def report(found: Iterator[tuple[Command, Outcome]], chosen: argparse.Namespace) -> int:
    """Prints faults as they come, then the counts; returns the number of faults."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    seconds = longest = 0.0
    for command, outcome in found:
        counts[outcome.kind] += 1
        seconds, longest = seconds + outcome.seconds, max(longest, outcome.seconds)
        if outcome.fault:
            faults[outcome.fault] += 1
        if outcome.fault or chosen.only is not None:
            shown = outcome.said if chosen.only is not None else outcome.said[-1500:]
            print(f"{command}\n      {outcome.fault or outcome.kind}:\n{shown}\n", flush=True)
        elif chosen.list and outcome.kind == "refused":
            print(f"{command}\n      {outcome.said.splitlines()[-1]}", flush=True)
    which = "" if chosen.each else f" (seed {chosen.seed})"
    print(
        f"{counts.total()} command lines{which} in {seconds:.0f} s, the longest "
        f"{longest:.0f} s: {counts['works']} work, {counts['refused']} are refused in one "
        f"sentence, {counts['fault']} are faults "
        f"({', '.join(f'{count} {fault}' for fault, count in faults.items()) or 'none'})."
    )
    return counts["fault"]


if __name__ == "__main__":
    main()
