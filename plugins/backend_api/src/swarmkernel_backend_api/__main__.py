"""``python -m swarmkernel_backend_api``: a worker process, started by a server and of no use otherwise."""

from swarmkernel_backend_api.worker import main

main()
