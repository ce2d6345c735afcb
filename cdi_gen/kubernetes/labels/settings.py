# SPDX-License-Identifier: Apache-2.0
"""The settings of the labels, with the words of gpu-feature-discovery."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from cdi_gen.errors import UsageError
from cdi_gen.kubernetes.settings import DEFAULTS, Settings

FEATURE_FILE = "/etc/kubernetes/node-feature-discovery/features.d/gfd"
MACHINE_TYPE_FILE = "/sys/class/dmi/id/product_name"
STANDARD_OUTPUT = ("", "-")

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(rf"(\d+\.?\d*|\.\d+)({'|'.join(sorted(_UNITS, key=len, reverse=True))})")
_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """How the labels are made, and where they go."""

    plugin: Settings = DEFAULTS
    """The MIG strategy and the sharing, which the device plugin has too."""
    fail_on_init_error: bool | None = None
    """End if the host cannot be examined; None: with ``oneshot`` only."""
    oneshot: bool = False
    no_timestamp: bool = False
    sleep_interval: float | None = 60.0
    """Seconds until the labels are written again; None: never."""
    output_file: str | None = None
    """The feature file of Node Feature Discovery; ``-`` or empty: standard output."""
    machine_type_file: str | None = None
    """None: the product name that the host's DMI has."""
    node_feature_api: bool | None = None
    """Publish a NodeFeature object; None: unless the labels go to a file or to the node."""
    patch_node: bool = False
    """Write the labels to the node, without Node Feature Discovery."""
    node_name: str = ""
    namespace: str = ""
    pod_name: str = ""
    kubeconfig: str = ""

    @property
    def uses_node_feature(self) -> bool:
        """Whether a NodeFeature object is published."""
        if self.node_feature_api is None:
            return self.output_file is None and not self.patch_node
        return self.node_feature_api and not self.patch_node

    @property
    def uses_api(self) -> bool:
        """Whether the labels go to the API server."""
        return self.patch_node or self.uses_node_feature

    @property
    def fails_without_gpus(self) -> bool:
        """Whether a host that cannot be examined ends the command."""
        return self.oneshot if self.fail_on_init_error is None else self.fail_on_init_error


def label_settings(
    plugin: Settings, command_line: Mapping[str, object], file: Mapping[str, object]
) -> LabelSettings:
    """Return the settings: a flag or its variable wins over the file, the file over the default.

    Args:
        plugin: the settings that the device plugin has, too.
        command_line: values by the names of the fields; None: the flag is not given.
        file: the flags of the config file, by the names of the fields.

    Raises:
        UsageError: an interval or the name of the node is not valid.
    """
    names = {field.name for field in fields(LabelSettings)}
    values: dict[str, Any] = {name: value for name, value in file.items() if name in names}
    values |= {name: value for name, value in command_line.items() if value is not None}
    if "sleep_interval" in values:
        values["sleep_interval"] = seconds(str(values["sleep_interval"]))
    settings = replace(LabelSettings(plugin=plugin), **values)
    if settings.uses_api and not _NODE_NAME.fullmatch(settings.node_name):
        raise UsageError(
            f"{settings.node_name!r} is not the name of a node"
            if settings.node_name
            else "the name of the node is not given, and the labels are published to the cluster",
            hint="give --node-name, or NODE_NAME from the field spec.nodeName of the pod; "
            "--output-file FILE writes a file, and --output-file - prints the labels",
            code="CDG-N309",
            subject="--node-name",
        )
    return settings


def seconds(text: str) -> float | None:
    """Return a duration as Go writes it, ``1m30s``, in seconds; None for ``infinite``.

    Raises:
        UsageError: it is not a duration, or not more than 0.
    """
    if text == "infinite":
        return None
    parts = _PART.findall(text)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or total <= 0:
        raise UsageError(
            f"--sleep-interval (sleepInterval of the config file): {text!r} is not an interval",
            hint="write a number with a unit, such as 60s, 1m30s or 2h; or infinite",
            code="CDG-N309",
            subject="--sleep-interval",
        )
    return total
