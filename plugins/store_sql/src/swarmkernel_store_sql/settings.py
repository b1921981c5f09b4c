"""The table [store_sql] of the settings file."""

import attrs


@attrs.frozen
class Settings:
    """Where the store is."""

    url: str = attrs.field(default="", repr=False)  # it may hold a password
    """`postgresql://user:password@host/database` or `sqlite:///file.db`; empty: swarmkernel.db in the data directory."""
