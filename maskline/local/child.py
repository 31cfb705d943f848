"""``python -m maskline.local.child PARENT COMMAND…``: run a command that does not outlive its parent.

On Linux the kernel kills it; elsewhere this process stays beside it and watches the parent.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

_PR_SET_PDEATHSIG = 1
_WATCH_S = 0.3


def main(arguments: list[str]) -> None:
    """Become the command, or watch over it."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the call
            os.execv(command[0], command)  # noqa: S606 (the stack's own command)
        return
    child = subprocess.Popen(command)  # noqa: S603 (the stack's own command)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: child.send_signal(received))
    while child.poll() is None and os.getppid() == parent:
        time.sleep(_WATCH_S)
    child.kill()
    sys.exit(child.wait())


if __name__ == "__main__":
    main(sys.argv[1:])
