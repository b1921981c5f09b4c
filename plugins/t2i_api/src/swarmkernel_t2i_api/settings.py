"""The plugin's table in the settings file."""

from __future__ import annotations

import attrs


@attrs.frozen
class T2ISettings:
    """`[t2i_api]`: limits, and how the queue decides.

    Limits of one request: `max_images` pictures (images x batch size), `max_side` pixels, `max_steps`,
    `max_prompt` characters of any text, and `max_cost`, which is width x height x steps x pictures.
    Limits of one user, over all their sessions: `max_simultaneous` pictures in the making (fewer if their roles say
    so), `max_queued` waiting.

    A backend keeps its model at least `model_residency` seconds while others still want that model; a second
    backend loads a model that is busy elsewhere after `load_delay` seconds; a load that failed is not tried
    again on that backend for `load_retry` seconds.

    `queue_minutes` is how long a picture may wait, `stall_minutes` how long a backend may show no progress.
    `socket_grace` is how many seconds a finished WebSocket waits for a further request, `keep_alive` how
    often a quiet one says so. `outbox_bytes` of finished pictures stay in memory for a client that reads slowly.

    Pictures are kept in `output_folder` (relative to the data folder), in a folder per user if `append_user`, else
    in one folder that all users see; below `min_free_mb` of free disk none are kept. Browsers may cache them for `view_cache` seconds.
    """

    max_images: int = 100
    max_side: int = 4096
    max_steps: int = 150
    max_prompt: int = 32_768
    max_cost: int = 20_000_000_000
    max_simultaneous: int = 32
    max_queued: int = 500
    model_residency: float = 10.0
    load_delay: float = 1.5
    load_retry: float = 30.0
    queue_minutes: float = 10_080.0
    stall_minutes: float = 120.0
    socket_grace: float = 2.0
    keep_alive: float = 30.0
    outbox_bytes: int = 8 * 1024 * 1024
    output_folder: str = "Output"
    append_user: bool = True
    min_free_mb: int = 2048
    view_cache: int = 30
