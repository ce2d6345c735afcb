# SPDX-License-Identifier: Apache-2.0
"""Whether a unit of systemd keeps the specs true: at boot, before engines, and after changes."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cdi_base.findings import Finding
from cdi_gen.doctor.check import Check, NotApplicable, Unseen
from cdi_gen.doctor.host import Host
from cdi_gen.paths import join

OWN, WATCH, PATH = "cdi-gen.service", "cdi-gen-watch.service", "cdi-gen.path"
NVIDIAS = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")
ORDER = "cdi-gen.service.d/10-engines.conf"
UNIT_DIRECTORIES = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/lib/systemd/system",
)  # fmt: skip
"""In falling priority."""
SPEC_WRITERS = "/var/lib/kubelet/device-plugins/kubelet.sock"
"""On a node of a cluster the device plugin writes the specs."""

EXIT_CODES = {
    "4": ("warning", "a broken GPU was left out", "cdi-gen doctor driver"),
    "5": (
        "error",
        "the specs are held back, because the driver's libraries and its module disagree",
        "cdi-gen doctor driver-versions",
    ),
}


def examine_units(host: Host) -> Iterator[Finding]:
    """Yield that nothing writes the specs at boot, or that two programs do, or that one fails."""
    if not host.exists("/run/systemd/system"):
        raise NotApplicable("the host does not run systemd")
    if not host.pci_gpus and host.driver_module is None:
        raise NotApplicable("the host has no GPU of NVIDIA")
    own = [unit for unit in (OWN, WATCH, PATH) if _is_enabled(host, unit)]
    nvidias = [unit for unit in NVIDIAS if _is_enabled(host, unit)]
    if own and nvidias:
        yield Finding(
            "CDG-A213",
            "warning",
            f"{' and '.join(nvidias)} of NVIDIA's toolkit and {own[0]} both write specs; engines "
            "then have two specs of one GPU, and the journal has a warning of nvidia-ctk for each "
            "library that a driver may have",
            subject=nvidias[0],
            fix=f"sudo systemctl disable --now {' '.join(nvidias)} && "
            "sudo rm -f /run/cdi/nvidia.yaml /etc/cdi/nvidia.yaml",
        )
    elif nvidias:
        yield Finding(
            "CDG-A214",
            "warning",
            f"{nvidias[-1]} of NVIDIA's toolkit writes the specs: it is ordered before no engine, "
            "does not notice changes of MIG devices, and writes a warning to the journal for each "
            "library that a driver may have",
            subject=nvidias[-1],
            fix=f"{_enable(host)} && sudo systemctl disable --now {' '.join(nvidias)} && "
            "sudo rm -f /run/cdi/nvidia.yaml",
        )
    elif not {OWN, PATH, WATCH} & {*own}:
        is_node = host.exists(SPEC_WRITERS)
        yield Finding(
            "CDG-A214",
            "info" if is_node else "warning",
            "no unit writes the specs at boot and after an update of the driver",
            subject=OWN,
            fix=_enable(host),
        )
    yield from _last_results(host, (*own, *nvidias))


def _enable(host: Host) -> str:
    command = f"sudo systemctl enable --now {OWN} {WATCH}"
    return command if _unit_file(host, OWN) else f"sudo cdi-gen install && {command}"


def _is_enabled(host: Host, unit: str) -> bool:
    """Whether a unit is started by another: a link in a directory ``.wants`` or ``.requires``."""
    for directory in UNIT_DIRECTORIES:
        if host.link(join(directory, unit)) == "/dev/null":
            return False
    return any(
        host.glob(f"{directory}/{kind}/{unit}")
        for directory in UNIT_DIRECTORIES
        for kind in ("*.wants", "*.requires")
    )


def _unit_file(host: Host, name: str) -> str | None:
    paths = (join(directory, name) for directory in UNIT_DIRECTORIES)
    return next((path for path in paths if host.exists(path)), None)


def _last_results(host: Host, units: tuple[str, ...]) -> Iterator[Finding]:
    for unit in units:
        if not unit.endswith(".service"):
            continue
        try:
            text = host.output(
                "systemctl", "show", "--property=Result,ExecMainStatus,ActiveState", unit
            )
        except Unseen:
            return
        shown = dict(line.partition("=")[::2] for line in (text or "").splitlines())
        if shown.get("ActiveState") != "failed" and shown.get("Result") in {"success", None, ""}:
            continue
        status = shown.get("ExecMainStatus", "")
        known = EXIT_CODES.get(status) if unit == OWN else None
        severity, reason, command = known or ("error", f"result {shown.get('Result')}", "")
        yield Finding(
            "CDG-A215",
            "warning" if severity == "warning" else "error",
            f"{unit} failed at its last run: {reason}",
            subject=unit,
            fix=command or f"sudo systemctl start {unit}  # see why with: journalctl -b -u {unit}",
        )


def examine_order(host: Host) -> Iterator[Finding]:
    """Yield that engines may start before the specs are written."""
    if not host.exists("/run/systemd/system") or not _is_enabled(host, OWN):
        raise NotApplicable(f"{OWN} is not enabled")
    path = _unit_file(host, ORDER)
    if path is None or not (host.text(path, 1 << 16) or "").strip():
        where = f"{path} is empty" if path else f"no unit directory has {ORDER}"
        yield Finding(
            "CDG-A216",
            "warning",
            f"{where}: at boot, engines do not wait for the specs, and the first containers may "
            "find none",
            subject=OWN,
            fix=f"sudo rm {quote(path)} && sudo systemctl daemon-reload"
            if path
            else "sudo cdi-gen install",
        )


CHECKS = (
    Check("refresh-units", "specs", "a unit keeps the specs true", examine_units),
    Check("boot-order", "specs", "engines start after the specs are written", examine_order),
)
