"""``python -m swarmkernel_models_api``: reads model files for a server that started it, and is of no use otherwise."""

from swarmkernel_models_api.parser import main

main()
