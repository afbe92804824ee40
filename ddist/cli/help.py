"""``ddist --help``, short, and ``ddist --help method``: each option of a group in a line."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from ddist.cli.sources import heading
from ddist.cli.suggest import did_you_mean, near
from ddist.errors import DdistError
from ddist.tasks.config import conf_dir
from ddist.tasks.recipes import PAPER, recipes

WIDTH, COLUMN = 100, 16
FLAGS = ("--help", "-h")
SENTENCE = re.compile(r"(?<!\bal)\. (?=[A-Z0-9])")
LEAST = 25  # characters of a first sentence: "Baseline." says too little
HELP = """\
ddist distils an image dataset into a few synthetic images and says how good they are.

  ddist                                              the demo: ten digits, half a minute
  ddist dataset=imagefolder dataset.folder=PICTURES  your own, a folder for each class: 10 minutes
  ddist method=dm dataset=mnist ipc=10 budget=20m    a method, a dataset, a time for all of it
  ddist experiment=laptop/dm dataset=mnist ipc=10    a preset for 2 CPU cores
  ddist task=evaluate artifact=DIR network=convnet   a distilled set under another network
  ddist task=compare runs='outputs/**'               tables of runs, beside published figures
  ddist -m method=dm ipc=1,10 seed=0,1,2             a sweep
  ddist task=settings method=mtt dataset=mnist       every setting: value, meaning, origin
  ddist task=estimate method=mtt dataset=mnist       time, memory and disk of that run

Groups (group=option; ddist --help GROUP explains its options)

{groups}

Values (key=value)

  ipc=10                        synthetic images per class
  steps=1000                    outer steps; a recipe knows the published number
  budget=20m                    time of the whole command, evaluation included
  seed=0                        of everything random
  synthetic.start=real          noise, real, average, kmeans, or the folder of a set
  evaluation.networks=[mlp]     more networks to evaluate under
  trainer.accelerator=cpu       cpu, gpu or auto
  threads=1                     CPU threads
  paths.data=DIR                where datasets are (or the variable DDIST_DATA)
  hydra.run.dir=DIR             the run's folder; the same command again goes on in it

--config-dir DIR adds configs of your own, --cfg job shows the composed config, --hydra-help Hydra's
options. DDIST_DEBUG=1 shows tracebacks. All settings: docs/settings.md.
"""


def help_text(words: Sequence[str]) -> str:
    """Return what ``ddist --help`` prints for the other ``words`` of its command line: an overview,
    the options of each group among them, or an option (``method=dm``). Raise a DdistError for what
    is neither."""
    roots = [conf_dir(), *config_dirs(words)]
    asked = [word for word in words if not word.startswith("-") and word not in map(str, roots)]
    if not asked:
        return HELP.format(groups=overview(roots))
    return "\n".join(explain_word(word, roots) for word in asked)


def config_dirs(words: Sequence[str]) -> list[Path]:
    """Return the folders that ``--config-dir`` names."""
    folders = [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    folders += [folder for flag, folder in pairwise(words) if flag in ("--config-dir", "-cd")]
    return [Path(folder) for folder in folders]


def overview(roots: Sequence[Path]) -> str:
    """Return the names of all options, group by group; presets and recipes as their number."""
    lines = []
    for group in groups(roots):
        names = options(group, roots)
        listed = ", ".join(names)
        if group == "experiment":
            listed = f"{len(names)} presets, for a laptop or a paper: ddist --help experiment"
        if group == "recipe":
            listed = f"{len(names)} papers' settings, taken without a budget: ddist --help recipe"
        lines.append(entry(group, listed, COLUMN))
    return "\n".join(lines)


def groups(roots: Sequence[Path]) -> list[str]:
    """Return the names of all groups of options."""
    folders = {folder.name for root in roots for folder in root.glob("[!_.]*") if folder.is_dir()}
    return sorted(folders - {"hydra"})


def options(group: str, roots: Sequence[Path]) -> dict[str, str]:
    """Return what the files of a group's options say of themselves, by the options' names."""
    said = {}
    if group == "recipe":
        for _, method, dataset, _ in recipes(conf_dir() / "recipe"):
            if dataset != PAPER:
                said[f"{method}/{dataset}"] = ""
    for root in roots:
        for file in sorted((root / group).rglob("[!_]*.yaml")):
            name = file.relative_to(root / group).with_suffix("").as_posix()
            if group != "recipe" or root != conf_dir():  # whose files hold many
                said[name] = heading(file.read_text())
    return dict(sorted(said.items()))


def explain_word(word: str, roots: Sequence[Path]) -> str:
    """Return the explanation of a group, or of ``group=option``."""
    group, equals, name = word.partition("=")
    if group not in groups(roots):
        hint = did_you_mean(near(group, groups(roots)))
        raise DdistError(f"There is no group {group!r}{hint}: ddist --help lists them.")
    known = options(group, roots)
    if equals and name not in known:
        hint = did_you_mean(near(name, known))
        raise DdistError(f"{group} has no option {name!r}{hint}: ddist --help {group} lists them.")
    if equals:
        text = textwrap.fill(known[name] or "Settings of a paper.", WIDTH)
        return f"{word}\n\n{text}\n\nIts settings: ddist task=settings {word}\n"
    if group == "recipe":
        return f"recipe=\n\n{recipes_by_method(known)}\n"
    longest = max(map(len, known)) + 4
    lines = [entry(name, first_sentence(said), longest) for name, said in known.items()]
    return f"{group}=\n\n" + "\n".join(lines) + "\n"


def recipes_by_method(names: Iterable[str]) -> str:
    """Return the datasets of each method's recipes, ``METHOD/DATASET``."""
    split = [tuple(name.split("/", 1)) for name in names]
    return "\n".join(
        entry(method, ", ".join(name for of, name in split if of == method), COLUMN)
        for method in dict.fromkeys(of for of, _ in split)
    )


def entry(name: str, text: str, column: int) -> str:
    """Return ``name`` and ``text``, which begins at ``column`` in each of its lines."""
    first = f"  {name}".ljust(column)
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=" " * column,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def first_sentence(text: str) -> str:
    """Return the first sentence of ``text``, and the next one where that is very short."""
    said = ""
    for sentence in SENTENCE.split(text):
        said += ("" if not said else ". ") + sentence
        if len(said) >= LEAST:
            break
    return said.rstrip(".")
