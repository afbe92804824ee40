"""Processes that torchrun or SLURM have started: which one speaks, and what they are refused."""

import pytest

from ddist.errors import DdistError
from ddist.tasks.processes import check_all_taken, check_common_folder, first_process, num_started

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}
SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "ddist"}
LIGHTNING = {"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("env", "number", "first"),
    [
        ({}, None, True),
        (LIGHTNING, None, False),
        (TORCHRUN, 4, False),  # the first of its node, and not of all
        (TORCHRUN | {"RANK": "0"}, 4, True),
        (SLURM, 8, False),
        (SLURM | {"SLURM_PROCID": "0"}, 8, True),
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None, True),  # a shell within an allocation
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None, True),
    ],
)
def test_who_was_started(env: dict[str, str], number: int | None, first: bool) -> None:
    assert num_started(env) == number
    assert first_process(env) is first


def test_they_share_a_folder_that_has_a_name() -> None:
    with pytest.raises(DdistError, match=r"4 processes .* hydra\.run\.dir=FOLDER"):
        check_common_folder(["method=dm"], TORCHRUN)
    check_common_folder(["method=dm", "hydra.run.dir=run"], TORCHRUN)
    check_common_folder(["method=dm"], LIGHTNING)


def test_all_of_them_take_part() -> None:
    with pytest.raises(DdistError, match=r"4 processes were started, but trainer\.devices=1"):
        check_all_taken(1, 1, TORCHRUN)
    check_all_taken(2, 2, TORCHRUN)
    check_all_taken(3, 1, LIGHTNING)  # which starts them itself
