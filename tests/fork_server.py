"""Runs ``ddist`` commands in forks of one process that has everything imported already, because
starting Python and importing torch takes ten times as long as a short run.

Reads one JSON object per line and answers with one: {"argv", "cwd", "env", "before", "out", "err"}
starts a command, answered by its process id; {"wait": pid} is answered by its exit status.
"""

import json
import os
import sys
import traceback

import pytorch_lightning  # noqa: F401
import sklearn.cluster
import sklearn.datasets  # noqa: F401
import torchvision  # noqa: F401
import wandb  # noqa: F401
from hydra import compose, initialize_config_dir

import ddist.tasks.compare
import ddist.tasks.distill
import ddist.tasks.estimate
import ddist.tasks.evaluate
import ddist.tasks.experts
import ddist.tasks.export
import ddist.tasks.importing
import ddist.tasks.page  # noqa: F401
from ddist.cli.main import main
from ddist.compare.published import published_figures
from ddist.tasks.config import conf_dir


def become(argv: list[str], cwd: str, env: dict[str, str], before: str, out: str, err: str) -> None:
    """The command ``argv`` in the folder ``cwd``, printing to the files ``out`` and ``err``, after
    the Python code ``before``; does not return."""
    status = 99
    try:
        os.chdir(cwd)
        os.environ.update(env)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = argv
        exec(before, {})
        main()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(bool(leaving.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def warm_up() -> None:
    """Fill the caches that every command would fill for itself: Hydra's plugins, the tables of its
    parsers and the published figures."""
    published_figures()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        compose("config", ["method=mtt", "evaluation.epochs=1"], return_hydra_config=True)


def serve() -> None:
    warm_up()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                become(**request)
        print(answer, file=answers, flush=True)


if __name__ == "__main__":
    serve()
