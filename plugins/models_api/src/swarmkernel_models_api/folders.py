"""Which folders hold which kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from swarmkernel_models_api.settings import FOLDER_NAMES, ModelsSettings
from swarmkernel_models_api.types import ModelFolder


def model_folders(
    settings: ModelsSettings, data_dir: Path, added: Iterable[ModelFolder]
) -> list[ModelFolder]:
    """Every folder to scan, first come first: those of the settings, then those that plugins *added*.

    Relative roots are below *data_dir*. A folder need not exist.
    """
    own = (folder for root in roots_of(settings, data_dir) for folder in _below(root, settings))
    return [*own, *added]


def roots_of(settings: ModelsSettings, data_dir: Path) -> list[Path]:
    """The folders that the operator lists, or the usual one."""
    return [data_dir / root for root in settings.roots] or [data_dir / "Models"]


def _below(root: Path, settings: ModelsSettings) -> Iterator[ModelFolder]:
    for kind, names in FOLDER_NAMES.items():
        for name in settings.folders.get(kind, names):
            yield ModelFolder(root / name, kind, read_only=False)
