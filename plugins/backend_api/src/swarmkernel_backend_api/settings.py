"""The ``[backend_api]`` table of the settings file."""

import attrs
from attrs.validators import ge, gt

from swarmkernel_backend_api.interpreters import absolute


@attrs.frozen
class BackendApiSettings:
    """How backends are started, watched, ended and kept."""

    engine: str = ""
    """A backend type that is to be used: each start sees that one runs, and switches off other types for the same models."""
    lock_settings: bool = False
    """Refuse the routes that add, delete, edit, toggle or restart backends."""
    max_init_attempts: int = 3
    """How many failed starts of a backend are followed by another try."""
    init_pause_seconds: float = 1.0
    """The pause between them."""
    start_seconds: float = 900.0
    """How long one start may take."""
    parallel_starts: int = attrs.field(default=2, validator=ge(1))
    """How many backends of slow types start at the same time."""
    restart_attempts: int = 3
    """How many times a backend that died is restarted within the window; after that it stays errored."""
    restart_window_minutes: float = 10.0
    restart_pause_seconds: float = 1.0
    """The pause before the first restart in a window; each further one is four times longer."""
    heartbeat_seconds: float = attrs.field(default=1.0, validator=gt(0))
    """How often a worker says that it lives."""
    heartbeat_limit_seconds: float = 30.0
    """A worker that said nothing for so long is ended."""
    interrupt_seconds: float = 5.0
    """How long a backend may take to obey an interrupt before its worker is ended."""
    terminate_seconds: float = 5.0
    """How long a worker may take from SIGTERM to its end before it is killed."""
    stop_seconds: float = 5.0
    """How long a backend may take to stop by itself."""
    drain_seconds: float = 30.0
    """How long a change to a backend, or the end of the server, waits for running work."""
    clear_vram_after_minutes: float = 10.0
    """Free device memory after so long without work; negative: never."""
    clear_system_ram_after_minutes: float = 60.0
    """Free host memory too after so long without work; negative: never."""
    threads: int = attrs.field(default=0, validator=ge(0))
    """Compute threads of each worker; 0 leaves a core to the server."""
    max_frame_mib: int = attrs.field(default=256, validator=ge(1))
    """The largest message between server and worker."""
    log_lines_per_second: int = attrs.field(default=50, validator=ge(1))
    """How many log lines of one worker are forwarded; the rest is counted."""
    keep_environment: list[str] = attrs.field(factory=list)
    """Names of environment variables that look secret and that workers may see all the same."""
    interpreters: dict[str, str] = attrs.field(factory=dict, validator=absolute)
    """Name -> Python interpreter that backends may choose to run in."""
