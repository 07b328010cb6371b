"""Runs a command that dies with whoever started it: python leash.py COMMAND…

A stopped process hears nothing and ends for nobody; the kernel ends it when its parent has gone (Linux: prctl(2),
PR_SET_PDEATHSIG). Elsewhere the command simply runs.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.execvp(sys.argv[1], sys.argv[1:])
