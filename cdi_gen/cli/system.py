# SPDX-License-Identifier: Apache-2.0
"""The command ``cdi-gen system``: the commands of ``nvidia-ctk system``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from cdi_gen.cli import Group, console
from cdi_gen.cli.host_options import (
    DIRECTORY,
    HostOption,
    settings_named_in_errors,
)
from cdi_gen.errors import ExitCode
from cdi_gen.system.dev_char import DEFAULT

if TYPE_CHECKING:
    from cdi_gen.host.where import Roots
    from cdi_gen.system import device_nodes

Command = TypeVar("Command", bound=Callable[..., object])

DRIVER_ROOT = click.option(
    "--driver-root",
    "--root",
    "driver_root",
    cls=HostOption,
    type=DIRECTORY,
    default="/",
    show_default=True,
    envvar=["ROOT", "NVIDIA_DRIVER_ROOT", "DRIVER_ROOT"],
    help="Directory under which the driver is installed; its modprobe loads the modules.",
)
DEV_ROOT = click.option(
    "--dev-root",
    cls=HostOption,
    type=DIRECTORY,
    envvar=["NVIDIA_DEV_ROOT", "DEV_ROOT"],
    help="Directory under which the driver's /dev is.  [default: the driver root, or / if the "
    "driver root has no /dev]",
)
HOST_ROOT = click.option(
    "--host-root",
    type=DIRECTORY,
    default="/",
    show_default=True,
    help="Path of the host's /, if cdi-gen runs in a container.",
)
LOAD_MODULES = click.option(
    "--load-kernel-modules",
    is_flag=True,
    envvar="LOAD_KERNEL_MODULES",
    help="First load the kernel modules nvidia, nvidia-uvm and nvidia-modeset.",
)
DRY_RUN = click.option(
    "--dry-run", is_flag=True, envvar="DRY_RUN", help="Print what would be done; change nothing."
)


@click.group("system", cls=Group)
def command() -> None:
    """Create the device nodes that the driver does not create by itself, and links to them."""


@command.command("create-device-nodes", short_help="Create the driver's missing device nodes.")
@DRIVER_ROOT
@DEV_ROOT
@HOST_ROOT
@click.option(
    "--control-devices",
    is_flag=True,
    help="Create only nvidiactl, nvidia-modeset, nvidia-uvm and nvidia-uvm-tools.  [default: also "
    "the nodes of GPUs and of MIG devices]",
)
@LOAD_MODULES
@DRY_RUN
def create_device_nodes(
    *,
    driver_root: str,
    dev_root: str | None,
    host_root: str,
    control_devices: bool,
    load_kernel_modules: bool,
    dry_run: bool,
) -> int:
    """Create the device nodes of the driver that do not exist.

    These are the nodes that nvidia-modprobe creates when a program first uses the driver, with the
    same owner and mode. A node with the numbers of another boot is replaced; any other existing
    node is left as it is.

    Exit code 3: no driver is loaded. 4: a node is missing, for the reason that is printed.
    """
    from cdi_gen.system import device_nodes  # noqa: PLC0415

    roots = _roots(driver_root, dev_root, host_root)
    has_all_modules = not load_kernel_modules or _load_modules(roots, dry_run=dry_run)
    result = device_nodes.create(
        roots.host, roots.dev, control_only=control_devices, dry_run=dry_run
    )
    _report_nodes(result, dry_run=dry_run)
    return ExitCode.OK if has_all_modules and result.is_complete else ExitCode.PARTIAL


@command.command("create-dev-char-symlinks", short_help="Link the driver's nodes in /dev/char.")
@DRIVER_ROOT
@DEV_ROOT
@HOST_ROOT
@click.option(
    "--dev-char-path",
    type=DIRECTORY,
    default=DEFAULT,
    show_default=True,
    envvar="DEV_CHAR_PATH",
    help="Directory of the links, which are named MAJOR:MINOR.",
)
@click.option(
    "--create-all",
    is_flag=True,
    envvar="CREATE_ALL",
    help="Link all nodes that the GPUs and their MIG devices can have.  [default: the nodes that "
    "exist]",
)
@LOAD_MODULES
@click.option(
    "--create-device-nodes",
    is_flag=True,
    envvar="CREATE_DEVICE_NODES",
    help="With --create-all: first create the control nodes that do not exist.",
)
@DRY_RUN
def create_dev_char_symlinks(
    *,
    driver_root: str,
    dev_root: str | None,
    host_root: str,
    dev_char_path: str,
    create_all: bool,
    load_kernel_modules: bool,
    create_device_nodes: bool,
    dry_run: bool,
) -> int:
    """Link the driver's device nodes in /dev/char, where systemd looks for them.

    Without the links, `systemctl daemon-reload` takes the GPUs away from containers that got them
    from NVIDIA's older runtime or whose runtime leaves the cgroup to systemd.

    As in nvidia-ctk, --load-kernel-modules and --create-device-nodes need --create-all.

    Exit code 4: another file has the name of a link.
    """
    from cdi_gen.system import dev_char, device_nodes  # noqa: PLC0415

    roots = _roots(driver_root, dev_root, host_root)
    is_complete = True
    for name, is_given in (
        ("--load-kernel-modules", load_kernel_modules),
        ("--create-device-nodes", create_device_nodes),
    ):
        if is_given and not create_all:
            message = f"{name} has no effect without --create-all"
            console.warning(message, code="CDG-U102", subject=name)
    if create_all and load_kernel_modules:
        is_complete = _load_modules(roots, dry_run=dry_run)
    if create_all and create_device_nodes:
        result = device_nodes.create(roots.host, roots.dev, control_only=True, dry_run=dry_run)
        _report_nodes(result, dry_run=dry_run)
        is_complete = is_complete and result.is_complete
    nodes = (
        dev_char.possible_nodes(roots.host) if create_all else dev_char.existing_nodes(roots.dev)
    )
    if not nodes:
        console.note(f"{roots.dev.name.rstrip('/')}/dev has no node of an NVIDIA driver")
    links = dev_char.link(nodes, roots.host, roots.dev, directory=dev_char_path, dry_run=dry_run)
    for link in links:
        if link.finding is not None:
            console.report(link.finding)
            is_complete = False
        elif link.action != "kept":
            verb = f"would be {link.action}" if dry_run else link.action
            console.note(f"{dev_char_path}/{link.name} -> {link.target}: {verb}")
    return ExitCode.OK if is_complete else ExitCode.PARTIAL


@command.command("wait-driver", short_help="Wait for the driver, if this host will have it.")
@HOST_ROOT
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    help="The longest time.",
)
def wait_driver(*, host_root: str, timeout: float) -> int:
    """Wait until the driver is loaded and has initialised its GPUs.

    The command returns at once if no driver is expected: there is no NVIDIA GPU without another
    driver, or no kernel module nvidia for the running kernel.

    Exit code 3: the driver is not loaded.
    """
    from cdi_gen.host.roots import Root  # noqa: PLC0415
    from cdi_gen.system import driver  # noqa: PLC0415

    kernel = Root(seen_from=host_root)
    if driver.wait(kernel, timeout):
        return ExitCode.OK
    reason = (
        f"the driver is expected and was not loaded in {timeout:g} s; look at dmesg"
        if driver.is_expected(kernel)
        else "no NVIDIA driver is loaded, and none is expected"
    )
    console.note(reason)
    return ExitCode.NO_DRIVER


def _roots(driver_root: str, dev_root: str | None, host_root: str) -> Roots:
    from cdi_gen.host.where import Where, roots  # noqa: PLC0415

    with settings_named_in_errors():
        return roots(Where(host_root=host_root, driver_root=driver_root, dev_root=dev_root))


def _load_modules(roots: Roots, *, dry_run: bool) -> bool:
    """Load the kernel modules; return whether all of them are loaded."""
    from cdi_gen.system import modules  # noqa: PLC0415

    if dry_run:
        for words in modules.commands(roots.driver):
            console.note(f"would run: {' '.join(words)}")
        return True
    findings = modules.load(roots.driver)
    for finding in findings:
        console.report(finding)
    return not findings


def _report_nodes(result: device_nodes.Result, *, dry_run: bool) -> None:
    verbs = {"absent": "created", "stale": "replaced, it had the numbers of another boot"}
    for change in result.changes:
        if change.finding is not None:
            console.report(change.finding)
        elif change.state in verbs:
            verb = verbs[change.state]
            numbers = f"{change.node.major}:{change.node.minor}"
            console.note(f"{change.path} ({numbers}): {'would be ' if dry_run else ''}{verb}")
    for finding in result.findings:
        console.report(finding)
