"""What can go wrong with models."""

from __future__ import annotations


class ModelError(Exception):
    """A model cannot be used; the text is for the user."""


class ModelLoadError(ModelError):
    """A backend could not load a model."""


class ModelFileError(ModelError):
    """A file is not the model that it claims to be; the text says what is wrong with it."""


class FetchError(ModelError):
    """A model could not be fetched."""
