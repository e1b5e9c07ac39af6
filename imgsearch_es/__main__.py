"""``python -m imgsearch_es`` is ``imgsearch``."""

import signal

from imgsearch_es.interrupts import end


def main() -> None:
    """Run a command; Ctrl-C ends it with one line also while modules are imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    from imgsearch_es.cli import main as run

    run()


if __name__ == "__main__":
    main()
