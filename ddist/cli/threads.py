"""How long OpenMP's threads wait for each other awake, before torch starts them."""

import os
from collections.abc import MutableMapping

SPINS = 10_000
OWN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly(environment: MutableMapping[str, str] = os.environ) -> None:
    """Have GNU's OpenMP let a waiting thread sleep after ``SPINS`` turns instead of 300,000, unless
    the user says otherwise.

    Awake they wait shortest while each has a core to itself; where another program takes one of
    the cores, each of the many short waits of a small network lasts until the scheduler's next
    slice. A small ConvNet's step on ten images with two threads of two cores took 1.36 ms alone
    (1.29 by default), and 11.5 ms beside one busy process (133 to 167 by default).
    """
    if not any(name in environment for name in OWN):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
