"""``python -m charrnn``, and the command ``charrnn``."""

from charrnn.cli.interrupts import leave_on_interrupt


def main() -> None:
    """Run the program."""
    leave_on_interrupt()  # before anything that takes time to import
    from charrnn.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
