"""The command ``swarmkernel``."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import attrs
import click

from swarmkernel.commands import boot, settings_options
from swarmkernel.errors import StartupError
from swarmkernel.kernel import VERSION, Kernel
from swarmkernel.logs import log_to_stderr
from swarmkernel.plugin_commands import plugins

log = logging.getLogger(__name__)

#: What the group keeps for one run: the options for settings, and the commands of plugins.
OPTIONS, COMMANDS = f"{__name__}.options", f"{__name__}.commands"


class Group(click.Group):
    """Knows the kernel's commands, and those of plugins once they are looked for; startup errors end with 1."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command of the kernel, or else of a plugin."""
        return super().get_command(ctx, cmd_name) or self._from_plugins(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look for the command with the settings that its options name: they may keep plugins out."""
        ctx.meta[OPTIONS] = _settings(args[1:])
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, for the help, which is there whatever is wrong with the settings."""
        known = super().list_commands(ctx)
        try:
            return sorted({*known, *self._from_plugins(ctx)})
        except StartupError as exc:
            click.echo(f"swarmkernel: {exc}", err=True)
            return sorted(known)

    def _from_plugins(self, ctx: click.Context) -> dict[str, click.Command]:
        if COMMANDS not in ctx.meta:
            ctx.meta[COMMANDS] = _commands(boot(**ctx.meta.get(OPTIONS) or _settings([])))
        found: dict[str, click.Command] = ctx.meta[COMMANDS]
        return found

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say what was wrong in one line instead of a traceback."""
        from swarmkernel.serve import PORT_IN_USE, PortInUseError  # noqa: PLC0415

        try:
            return super().invoke(ctx)
        except StartupError as exc:
            click.echo(f"swarmkernel: {exc}", err=True)
            sys.exit(PORT_IN_USE if isinstance(exc, PortInUseError) else 1)


def _settings(args: list[str]) -> dict[str, Any]:
    """The options for settings among those of a command that is not known yet."""
    lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
    command = click.Command("settings", context_settings=lenient, add_help_option=False)
    settings_options(command)
    return command.make_context("settings", args, resilient_parsing=True).params


def _commands(kernel: Kernel) -> dict[str, click.Command]:
    return kernel.plugins.collect("swarm_commands", key=_name)


def _name(command: object) -> str:
    if not isinstance(command, click.Command) or not command.name:
        raise TypeError(f"swarm_commands gave {command!r}, which is no click command with a name")
    if command.name in main.commands:
        raise ValueError(f"swarm_commands gave {command.name!r}, which is a command of the kernel")
    return command.name


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION)
def main() -> None:
    """A small plugin server that speaks the SwarmUI network API."""


main.add_command(plugins)


@main.command()
@settings_options
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on [7801]; 0 for a free one.")
@click.option("--allow-open-network", is_flag=True, default=None, help="Serve a network without accounts.")
def serve(**options: Any) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    from swarmkernel.serve import run  # noqa: PLC0415  # other commands need no server

    kernel = boot(**options)
    log_to_stderr(kernel.server.log_level.upper())
    for wrong in kernel.plugins.unknown():
        log.warning("%s", wrong)
    for plugin in kernel.plugins.failed():
        log.error("plugin %s is set aside: %r", plugin, plugin.error)
    sys.exit(run(kernel))


@main.command()
@settings_options
@click.option(
    "--format", "form", type=click.Choice(["table", "json", "markdown", "openapi"]), default="table"
)
def routes(*, form: str, **options: Any) -> None:
    """List the API routes: as a table, JSON, a Markdown reference, or an OpenAPI document."""
    from swarmkernel import reference  # noqa: PLC0415

    kernel = boot(**options)
    if form == "markdown":
        click.echo(reference.markdown(kernel))
    elif form == "openapi":
        click.echo(json.dumps(reference.openapi(kernel), indent=2))
    elif form == "json":
        click.echo(json.dumps([attrs.asdict(r) for r in reference.rows(kernel)], indent=2))
    else:
        for row in reference.rows(kernel):
            click.echo(f"{row.name}\t{row.transport}\t{row.permission}\t{row.plugin}\t{row.parameters}")


@main.command()
@settings_options
def check(**options: Any) -> None:
    """Read the settings and load the plugins as `serve` would, and say what is wrong; exit 1 if anything is."""
    kernel = boot(**options)
    _commands(kernel)
    installed = {p.name for p in (*kernel.plugins, *kernel.plugins.left_out)}
    wrong = [
        f"{kernel.settings.file}: [{table}]: no installed plugin has this name"
        for table in sorted(kernel.settings.tables() - {"server", "plugins"} - installed)
    ]
    wrong += kernel.plugins.unknown()
    wrong += [f"{plugin}: {plugin.error!r}" for plugin in kernel.plugins.failed()]
    if wrong:
        click.echo("\n".join(wrong), err=True)
        sys.exit(1)
    click.echo(f"{len(list(kernel.plugins))} plugins and {len(kernel.routes)} routes are fine")
