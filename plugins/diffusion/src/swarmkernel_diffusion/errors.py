"""What this package raises."""


class DiffusionError(ValueError):
    """A request that cannot be sampled; the text says what was wrong and what would be right."""
