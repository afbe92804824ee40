"""What stops a process on a signal, with real signals to short programs."""

import signal
import subprocess
import sys
import time

import pytest

from ddist.stages.stopping import Interrupted, exit_status, farewell, keeping

# One call of a library that answers to nothing, without the interpreter's lock.
STUCK = """
import os, signal, threading, time
from ddist.stages import stopping
stopping.PATIENCE = 0.5
stopping.stop_on_signals()
import ctypes
libc = ctypes.CDLL(None)
def press():
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=press).start()
mutex = ctypes.create_string_buffer(64)
libc.pthread_mutex_lock(mutex)
libc.pthread_mutex_lock(mutex)  # for ever
"""


def test_each_piece_that_was_kept_is_named_from_the_inside_out() -> None:
    with (
        pytest.raises(Interrupted) as caught,
        keeping(lambda: "the run is in B"),
        keeping(lambda: ""),
        keeping(lambda: "3 of 4 are in A"),
    ):
        raise Interrupted(signal.SIGTERM)
    assert farewell(caught.value) == "Stopped by SIGTERM: 3 of 4 are in A; the run is in B."
    assert exit_status(caught.value) == 143
    plain = KeyboardInterrupt()
    assert exit_status(plain) == 130
    assert farewell(plain).startswith("Stopped by SIGINT: nothing was finished yet")


def test_a_call_that_answers_to_nothing_is_left() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143, done.stderr
    assert done.stderr.startswith("ddist: Stopped by SIGTERM in the middle of a long computation")
    assert time.monotonic() - began < 40


def test_a_signal_raises_where_the_process_is_and_a_launchers_handler_stays() -> None:
    program = """
import os, signal, time
from ddist.stages.stopping import Interrupted, stop_on_signals
signal.signal(signal.SIGTERM, lambda *_: print("theirs"))
stop_on_signals()
os.kill(os.getpid(), signal.SIGTERM)
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)
except Interrupted as stop:
    print(stop.number)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "theirs\n2\n"), done.stderr
