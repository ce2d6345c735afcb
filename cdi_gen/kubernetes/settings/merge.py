# SPDX-License-Identifier: Apache-2.0
"""Combines command line, environment and config file into settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace

from cdi_gen.errors import UsageError
from cdi_gen.kubernetes.settings.config_file import ConfigFile
from cdi_gen.kubernetes.settings.model import DEFAULTS, LIST_STRATEGIES, Imex, Settings

_FLAGS = frozenset(field.name for field in fields(Settings)) - {
    "gpu_rules", "mig_rules", "sharing", "imex",
}  # fmt: skip

MAX_MPS_ROOT = 107 - len("/GPU-00000000-0000-0000-0000-000000000000/pipe/control_privileged")


def merge(command_line: Mapping[str, object], config_file: ConfigFile | None) -> Settings:
    """Return the settings of the device plugin, see `combined`.

    Raises:
        UsageError: the settings contradict each other.
    """
    settings = combined(command_line, config_file)
    _check(settings)
    return settings


def combined(command_line: Mapping[str, object], config_file: ConfigFile | None) -> Settings:
    """Return the settings: a flag or its variable wins over the file, the file over the default.

    Args:
        command_line: values by the names of the fields of `Settings`, and ``imex_channel_ids`` and
            ``imex_required``; None: the flag is not given.
        config_file: the content of the config file; None: there is none.
    """
    file = config_file or ConfigFile()
    flags = {name: value for name, value in file.flags.items() if name in _FLAGS}
    flags |= {
        name: value for name, value in command_line.items() if value is not None and name in _FLAGS
    }
    return replace(
        DEFAULTS,
        **flags,  # type: ignore[arg-type]  # the names and types are those of the fields
        mig_rules=file.mig_rules,
        gpu_rules=(*file.gpu_rules, *DEFAULTS.gpu_rules),
        sharing=file.sharing,
        imex=_imex(command_line, file.imex),
    )


def _imex(command_line: Mapping[str, object], imex: Imex) -> Imex:
    channels, required = command_line.get("imex_channel_ids"), command_line.get("imex_required")
    if isinstance(channels, tuple):
        imex = replace(imex, channel_ids=tuple(map(int, channels)))
    if isinstance(required, bool):
        imex = replace(imex, required=required)
    return imex


def _check(settings: Settings) -> None:
    if not settings.list_strategies:
        raise UsageError(
            "no device list strategy is given: containers would get no device",
            hint=f"give one of {', '.join(LIST_STRATEGIES)}",
            code="CDG-N003",
            subject="--device-list-strategy",
        )
    for option, path in (
        ("--mps-root", settings.mps_root),
        ("--driver-root", settings.driver_root),
        ("--dev-root", settings.dev_root),
        ("--nvidia-cdi-hook-path", settings.hook_path),
    ):
        if path and not path.startswith("/"):
            raise UsageError(
                f"{path!r} is not an absolute path",
                hint=f"correct {option}, or the key of the config file",
                code="CDG-N003",
                subject=option,
            )
    if len(os.fsencode(settings.mps_root)) > MAX_MPS_ROOT:
        raise UsageError(
            f"the path of the MPS root is too long: {settings.mps_root}",
            hint=f"give a path of {MAX_MPS_ROOT} bytes at most; the kernel allows 107 for a socket",
            code="CDG-N003",
            subject="--mps-root",
        )
