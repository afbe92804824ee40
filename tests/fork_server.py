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
import sklearn.cluster  # noqa: F401
import torchvision  # noqa: F401
import wandb  # noqa: F401

import ddist.callbacks
import ddist.evaluation
import ddist.tasks.distill
import ddist.tasks.evaluate  # noqa: F401
from ddist.cli import main


def start(request: dict) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = request["argv"]
        exec(request["before"], {})
        main()
    except SystemExit as leaving:
        status = leaving.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        _, status = os.waitpid(request["wait"], 0)
        answer = os.waitstatus_to_exitcode(status)
    else:
        answer = start(request)
    print(answer, file=answers, flush=True)
