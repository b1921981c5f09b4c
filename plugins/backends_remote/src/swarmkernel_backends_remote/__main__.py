"""``python -m swarmkernel_backends_remote``: decodes pictures for a server that started it, and is of no use otherwise."""

from swarmkernel import serve_aside
from swarmkernel_backends_remote.decoding import answer

serve_aside(answer)
