# SPDX-License-Identifier: Apache-2.0
"""NVSwitches and the Fabric Manager, without which CUDA does not start on these machines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cdi_base.findings import Finding
from cdi_gen.doctor import distribution
from cdi_gen.doctor.check import Check, NotApplicable, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.engines.machine import printed_version
from cdi_gen.errors import CdiGenError
from cdi_gen.host.devices import nvml_fabric
from cdi_gen.host.devices.mig_mode import NvmlUnavailable
from cdi_gen.host.driver.installed import open_path

PROGRAM = "nv-fabricmanager"
UNIT = "nvidia-fabricmanager"
PATHS = tuple(f"{directory}/{PROGRAM}" for directory in ("/usr/bin", "/usr/sbin", "/usr/local/bin"))
RESTART = f"sudo systemctl enable {UNIT} && sudo systemctl restart {UNIT}"
WAITING = "CUDA fails with 802 (system not yet initialized)"


def examine(host: Host) -> Iterator[Finding]:
    """Yield that the Fabric Manager does not run, or has not built the fabric."""
    switches = [function for function in host.pci_functions if function.is_nvswitch]
    has_manager = any(map(host.exists, PATHS))
    if host.driver_module is None or not (switches or has_manager):
        raise NotApplicable("no NVSwitch and no Fabric Manager")
    states = _states(host)
    unfinished = {
        address: state for address, state in states.items() if state != nvml_fabric.COMPLETED
    }
    if switches and states and not unfinished:
        return  # a virtual machine may have the Fabric Manager outside
    if not host.processes(PROGRAM):
        if switches or unfinished:
            yield _not_running(host, len(switches), has_manager=has_manager)
        return
    yield from _version_fault(host)
    if unfinished:
        gpus = ", ".join(f"GPU {address}: {state}" for address, state in unfinished.items())
        yield Finding(
            "CDG-A123",
            "error",
            f"the Fabric Manager runs and has not built the fabric: {gpus}; {WAITING}",
            subject=UNIT,
            fix=f"{RESTART}  # its log: /var/log/fabricmanager.log",
        )


def _not_running(host: Host, switches: int, *, has_manager: bool) -> Finding:
    number = f"{switches} NVSwitches" if switches else "GPUs that wait for their fabric"
    module = host.driver_module
    fix = RESTART
    if not has_manager and module is not None:
        fix = f"{_install(host, module.version)} && {RESTART}"
    return Finding(
        "CDG-A121",
        "error",
        f"the machine has {number}, and the Fabric Manager does not run: {WAITING}",
        subject=UNIT,
        fix=fix,
    )


def _install(host: Host, version: str) -> str:
    """Return the command that installs the Fabric Manager of a version."""
    commands = distribution.commands(host)
    package = f"nvidia-fabricmanager-{version.partition('.')[0]}={version}-*"
    if not commands.install.startswith("sudo apt-get"):
        package = f"nvidia-fabric-manager-{version}"
    return commands.install.format(f"'{package}'")


def _version_fault(host: Host) -> Iterator[Finding]:
    """Yield that the Fabric Manager has another version than the driver, which it must have."""
    try:
        version = printed_version(host.output(PROGRAM, "--version") or "")
    except Unseen:
        return
    module = host.driver_module
    if version is None or module is None or version == module.version:
        return
    yield Finding(
        "CDG-A122",
        "error",
        f"the Fabric Manager is {version}, the driver is {module.version}: both must have the same "
        "version",
        subject=UNIT,
        fix=f"{_install(host, module.version)} && {RESTART}",
    )


def _states(host: Host) -> dict[str, str]:
    """Return NVML's state of each GPU in a fabric; nothing if NVML does not answer."""

    def ask() -> Any:
        try:
            inventory = host.inventory
        except CdiGenError:
            return {}
        library = open_path(host.roots.driver, inventory.libraries, "libnvidia-ml.so.")
        addresses = [gpu.pci_address for gpu in inventory.gpus if gpu.pci_address]
        try:
            return nvml_fabric.states(library, addresses) if library else {}
        except NvmlUnavailable:
            return {}

    states: dict[str, str] = host.fact("fabric", ask)
    return states


CHECK = Check("fabric-manager", "fabric", "the Fabric Manager has built the NVLink fabric", examine)
