# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen refresh``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdi_gen.cli import console
from cdi_gen.cli.host_options import DIRECTORY, TEXT, HostOptions, configured, host_options
from cdi_gen.errors import UsageError
from cdi_gen.refresh.settings import CHOICES, Layout, Request, settings
from cdi_gen.refresh.update import Outcome, refresh

if TYPE_CHECKING:
    from cdi_gen.refresh.settings import Settings, Value

MAX_SECONDS = 86400


@click.command("refresh")
@click.option(
    "--wait-driver",
    metavar="SECONDS",
    default="0",
    show_default=True,
    help="Wait so long for the driver, if its kernel module is not loaded yet.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Look at the host even if nothing seems to have changed.",
)
@click.option(
    "--form",
    type=click.Choice(CHOICES["form"]),
    help="How the specs give the driver to containers. files: each file is mounted. tree: the "
    "driver tree is mounted.  [default: files]",
)
@click.option(
    "--hooks",
    type=click.Choice(CHOICES["hooks"]),
    help="With none the specs have no hooks.  [default: auto]",
)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=TEXT,
    help="Write the spec of this mode of `cdi-gen generate`; may be given several times.  "
    "[default: auto, cap]",
)
@click.option(
    "--capabilities",
    metavar="LIST",
    help="Driver capabilities of the GPU spec, as for `cdi-gen generate`.  [default: all]",
)
@click.option(
    "--output-directory",
    type=DIRECTORY,
    help="Directory of the spec files.  [default: /run/cdi]",
)
@click.option(
    "--device-nodes",
    is_flag=True,
    help="First create missing device nodes, as `cdi-gen system create-device-nodes`.",
)
@click.option(
    "--dev-char-symlinks",
    is_flag=True,
    help="First link the nodes in /dev/char, as `cdi-gen system create-dev-char-symlinks`.",
)
@host_options
def command(
    host: HostOptions,
    /,
    *,
    wait_driver: str,
    force: bool,
    form: str | None,
    hooks: str | None,
    modes: tuple[str, ...],
    capabilities: str | None,
    output_directory: str | None,
    device_nodes: bool,
    dev_char_symlinks: bool,
) -> int:
    """Bring the CDI specs of this host up to date.

    Only files whose content changes are written. Specs that an earlier refresh wrote and that do
    not describe this host any more are removed; files of other programs stay. The options about the
    specs are keys of the table [refresh] in /etc/cdi-gen/config.toml, too.

    While the driver's libraries and its kernel module disagree, as during an update, the last good
    specs stay, and the exit code is 5. It is 3 if there is no driver or GPU, and 4 if a broken
    device was left out.
    """
    given = {
        "form": form,
        "hooks": hooks,
        "modes": modes,
        "capabilities": _list(capabilities),
        "output-directory": output_directory,
        "device-nodes": device_nodes,
        "dev-char-symlinks": dev_char_symlinks,
    }
    chosen = _settings(host, {key: value for key, value in given.items() if value})
    seconds = _seconds(wait_driver)
    if seconds:
        from cdi_gen.refresh.waiting import wait_for_driver  # noqa: PLC0415 - only on request

        wait_for_driver(seconds, host.host_root.rstrip("/"))
    outcome = refresh(Request(chosen, Layout(**host._asdict())), force=force)
    _report(outcome, hooks=chosen.hooks != "none")
    if outcome.no_driver:
        raise outcome.no_driver
    return outcome.exit_code


def _settings(host: HostOptions, given: dict[str, Value]) -> Settings:
    """Return the settings from the command line, or else from the configuration."""
    values = configured("refresh", click.get_current_context(), host.host_root)
    return settings({key: setting.value for key, setting in values.items()} | given)


def _list(text: str | None) -> tuple[str, ...]:
    names = tuple(name for part in (text or "").split(",") if (name := part.strip()))
    if text is not None and not names:
        raise UsageError(
            "--capabilities is empty: a container would get no file of the driver",
            hint="leave out the option for all capabilities; if intended: --capabilities none",
            code="CDG-U006",
            subject="--capabilities",
        )
    return names


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= MAX_SECONDS:
        raise UsageError(
            f"--wait-driver: {text!r} is not a number of seconds from 0 to {MAX_SECONDS}",
            code="CDG-U003",
            subject="--wait-driver",
        )
    return seconds


def _report(outcome: Outcome, *, hooks: bool) -> None:
    for new in outcome.written:
        console.note(f"{new.spec.kind} in {new.path}: {new.summary}")
    for message in outcome.changes:
        console.note(message)
    for path in outcome.removed:
        console.note(f"{path} is removed: it does not describe this host any more")
    for path in outcome.foreign:
        console.warning(
            f"{path} does not describe this host any more; it stays, because another program has "
            "changed it",
            code="CDG-V005",
            hint="remove the file if no program needs it",
            subject=path,
        )
    if not (outcome.written or outcome.removed or outcome.no_driver):
        console.note(f"nothing to do: {', '.join(outcome.kept) or 'no spec'} unchanged")
    if not outcome.is_clean:
        console.note(
            "the spec directories have files of other programs that engines ignore, that others "
            "override, or that do not describe this host; see: cdi-gen check"
        )
    for finding_ in outcome.findings:
        console.report(finding_)
    if outcome.inventory is not None:
        from cdi_gen.cli.report import print_findings  # noqa: PLC0415 - most refreshes have none

        print_findings(outcome.inventory, hooks=hooks)
