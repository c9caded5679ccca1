"""``python -m charrnn``, and the command ``charrnn``."""

import os

from charrnn.cli.interrupts import leave_on_interrupt


def main() -> None:
    """Run the program."""
    leave_on_interrupt()  # before anything that takes time to import
    # OpenMP's threads wait for each other by spinning, by default so long that any other busy process makes
    # training several times slower: the spinning one takes the core that the awaited one needs
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    from charrnn.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
