# SPDX-License-Identifier: Apache-2.0
"""The checks. Each module has a ``CHECK``, or ``CHECKS`` for a family of one fault.

`MODULES` has the modules in the order of the output within a group. A new check is a module and an
entry here.
"""

from __future__ import annotations

from importlib import import_module

from cdi_gen.doctor.check import GROUPS, Check

MODULES = (
    "driver_loaded",
    "gpu_present",
    "gpu_drivers",
    "driver_versions",
    "driver_libraries",
    "driver_files",
    "driver_parts",
    "gpu_support",
    "gpu_usable",
    "gpu_errors",
    "xid_errors",
    "persistenced",
    "platform",
    "dev_root",
    "device_nodes",
    "drm_nodes",
    "mig_devices",
    "mps",
    "fabric_manager",
    "imex",
    "spec_directories",
    "spec_freshness",
    "spec_validity",
    "spec_versions",
    "spec_conflicts",
    "refresh_units",
    "hook_limits",
    "mounted_programs",
    "engine_support",
    "engine_directories",
    "engine_runtimes",
    "swarm_resources",
    "docker_gpus",
    "confined_engines",
    "toolkit_leftovers",
    "daemon_reload",
    "spec_permissions",
    "hook_programs",
    "selinux",
    "rootless_users",
    "no_cgroups",
    "kubernetes_node",
    "images",
)


def load() -> tuple[Check, ...]:
    """Return all checks, by group in the order of `GROUPS`."""
    order = [*GROUPS]
    checks: list[Check] = []
    for name in MODULES:
        module = import_module(f"{__name__}.{name}")
        checks += module.CHECKS if hasattr(module, "CHECKS") else (module.CHECK,)
    return tuple(sorted(checks, key=lambda check: order.index(check.group)))
