"""``python -m charrnn``."""

from charrnn.cli.main import main

main()
