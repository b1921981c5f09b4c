"""``python -m swarmkernel_basic_api``: decodes pictures for a server that started it, and is of no use otherwise."""

from swarmkernel import serve_aside
from swarmkernel_basic_api.pictures import answer

serve_aside(answer)
