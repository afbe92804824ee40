"""``python -m ddist`` is ``ddist``."""

from ddist.cli import main

main()
