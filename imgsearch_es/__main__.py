"""``python -m imgsearch_es`` is ``imgsearch``."""

import os
import signal
import sys

from imgsearch_es.stores.interrupts import end, terminate


def main() -> None:
    """Run a command; Ctrl-C or SIGTERM ends it with one line also while modules are imported."""
    open_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)
    from imgsearch_es.interfaces.cli import main as run

    run()


def open_streams() -> None:
    """Open what the caller has closed, or the index file gets its number and a warning hits it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            setattr(sys, name, os.fdopen(descriptor, mode))


if __name__ == "__main__":
    main()
