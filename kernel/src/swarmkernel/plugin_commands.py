"""The commands ``swarmkernel plugins``."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import attrs
import click

from swarmkernel import inventory
from swarmkernel.commands import boot, settings_options
from swarmkernel.errors import StartupError
from swarmkernel.inspection import findings
from swarmkernel.kernel import Kernel
from swarmkernel.scaffold import TEMPLATES, Template


class ListsByDefault(click.Group):
    """A group that lists when it is given no subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``list`` in front of options, but for those that ask for help."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=ListsByDefault)
def plugins() -> None:
    """List, show, check and begin plugins; alone it lists them."""


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _boot(options: dict[str, Any]) -> Kernel:
    """What failed is in the output, so it is not logged as well."""
    logging.disable()
    return boot(**options)


@plugins.command("list")
@settings_options
@click.option("--all", "everything", is_flag=True, help="Also those that the settings keep out.")
@click.option("--hook", help="Only those that implement this hook.")
@as_json
def list_plugins(*, everything: bool, hook: str | None, as_json: bool, **options: Any) -> None:
    """List the installed plugins: where they come from, what they add, and why those that failed did."""
    kernel = _boot(options)
    if hook is not None and not hasattr(kernel.plugins.manager.hook, hook):
        raise StartupError(f"no plugin here knows a hook {hook!r}")
    found = inventory.facts(kernel, everything=everything)
    rows = [row for row in found if hook is None or hook in row.hooks]
    if as_json:
        click.echo(json.dumps([attrs.asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        counts = f"{row.routes} routes\t{len(row.permissions)} permissions"
        click.echo(f"{row.name}\t{row.origin}\t{row.error or row.state}\t{counts}\t{' '.join(row.hooks)}")


@plugins.command()
@settings_options
@click.argument("name")
@as_json
def info(name: str, *, as_json: bool, **options: Any) -> None:
    """Tell all about the plugin NAME: also its settings and requirements, and the traceback of a failure."""
    found = attrs.asdict(inventory.details(_boot(options), name))
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
        return
    for key, value in found.items():
        if value is None:
            continue
        if isinstance(value, dict):
            value = [f"{k} = {json.dumps(v, default=str)}" for k, v in value.items()]  # noqa: PLW2901
        click.echo(f"{key}: {', '.join(value) if isinstance(value, list) else value}")


@plugins.command()
@settings_options
@click.argument("name")
@as_json
def check(name: str, *, as_json: bool, **options: Any) -> None:
    """Hold the plugin NAME against the rules for plugins; exit 1 if one is broken."""
    kernel = _boot(options)
    found = findings(kernel, inventory.find(kernel, name))
    if as_json:
        click.echo(json.dumps([attrs.asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(
                "\n  ".join([f"{'not ok' if finding.wrong else 'ok'}: {finding.rule}", *finding.wrong])
            )
    sys.exit(any(finding.wrong for finding in found))


@plugins.command()
@settings_options
@click.argument("name")
@click.option(
    "--kind",
    default=TEMPLATES[0].kind,
    show_default=True,
    help="What it adds; any other word lists the kinds.",
)
@click.option("--into", type=click.Path(path_type=Path), help="Folder to write to [./NAME].")
def new(name: str, *, kind: str, into: Path | None, **options: Any) -> None:
    """Write a package to start the plugin NAME from, with its tests."""
    templates = _templates(_boot(options))
    if kind not in templates:
        known = "; ".join(f"{t.kind}: {t.description}" for t in templates.values())
        raise StartupError(f"there is no kind {kind!r}, but {known}")
    for path in templates[kind].write(name, into or Path(name)):
        click.echo(path)


def _templates(kernel: Kernel) -> dict[str, Template]:
    return {t.kind: t for t in TEMPLATES} | kernel.plugins.collect("swarm_templates", key=lambda t: t.kind)
