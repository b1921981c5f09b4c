"""``python -m swarmkernel``."""

from swarmkernel.cli import main

main()
