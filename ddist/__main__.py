"""``python -m ddist`` is ``ddist``."""

from ddist.cli.main import main

main()
