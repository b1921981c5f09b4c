"""What commands need, the kernel's own and those of plugins: settings from the command line, and an open store."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from swarmkernel.errors import StartupError, StoreError
from swarmkernel.kernel import Kernel
from swarmkernel.services import Services
from swarmkernel.settings import FILE_NAME, PluginSettings, ServerSettings, SettingsSource

T = TypeVar("T")


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every command takes to find its settings."""
    for option in (
        click.option(
            "--config", type=click.Path(path_type=Path), help=f"Settings file [DATA_DIR/{FILE_NAME}]."
        ),
        click.option("--data-dir", type=click.Path(path_type=Path), help="Folder for everything kept."),
        click.option("--strict", is_flag=True, default=None, help="Let any failing plugin stop the server."),
        click.option("--only", multiple=True, metavar="PLUGIN", help="Import no plugin but this one."),
        click.option("--disable", multiple=True, metavar="PLUGIN", help="Do not import this plugin."),
        click.option("--require", multiple=True, metavar="PLUGIN", help="Do not start without this plugin."),
    ):
        command = option(command)
    return command


def source(config: Path | None, data_dir: Path | None, **options: Any) -> SettingsSource:
    """Where the settings of this command line come from."""
    server = {k: options[k] for k in ("host", "port", "allow_open_network") if options.get(k) is not None}
    plugins: dict[str, object] = {"strict": True} if options.get("strict") else {}
    if options.get("only"):
        plugins["enabled"] = list(options["only"])
    if data_dir is not None:
        server["data_dir"] = str(data_dir)
    environ = {k: v for k, v in os.environ.items() if k.startswith("SWARMKERNEL_")}
    overrides = {"server": server, "plugins": plugins}
    if config is not None and not config.exists():
        raise StartupError(f"{config}: no such settings file")
    folder = SettingsSource(config, environ, overrides).load("server", ServerSettings).data_dir
    found = SettingsSource(config or folder / FILE_NAME, environ, overrides)
    stated = found.load("plugins", PluginSettings)
    for option, key in (("require", "required"), ("disable", "disabled")):
        if options.get(option):  # in addition, so that nobody lets in by accident what is kept out
            plugins[key] = [*getattr(stated, key), *options[option]]
    return found


def boot(**options: Any) -> Kernel:
    """A kernel with the settings of this command line."""
    settings = source(options.pop("config"), options.pop("data_dir"), **options)
    return Kernel.boot(settings)


def with_store(action: Callable[[Services], Awaitable[T]], **options: Any) -> T:
    """
    Run *action* with the services that need no server: the store and what rests on it.

    *options* are those of `settings_options`. A server may run on the same data meanwhile.
    StartupError if the store cannot be opened or written.
    """
    kernel = boot(**options)

    async def run() -> T:
        async with kernel.storage():
            return await action(kernel.services)

    try:
        return asyncio.run(run())
    except StoreError as exc:
        raise StartupError(str(exc)) from exc
