# SPDX-License-Identifier: Apache-2.0
"""Examines the device plugin of a node, without its socket: only the kubelet may use that.

The kubelet tells which devices pods can get and have (PodResources), and has a socket for each
device plugin. Devices that the plugin advertises as unhealthy are in the plugin's own metrics only,
and those only if their address is configured and the plugin is cdi-gen's.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from cdi_base import host_fingerprint
from cdi_gen.errors import CdiGenError
from cdi_gen.host.kubelet_directories import DIRECTORIES
from cdi_gen.metrics.own.model import DevicePluginState, ResourceState

if TYPE_CHECKING:
    from cdi_gen.refresh.settings import Layout

PREFIX = "nvidia.com/"
PLUGINS, POD_RESOURCES = "device-plugins", "pod-resources/kubelet.sock"
KUBELET = "kubelet.sock"
FAMILY = "cdi_gen_devices"
SECONDS = 3.0
MAX_BYTES = 1 << 20
MAX_RESOURCES = 100


def key(layout: Layout, plugin_metrics: str = "") -> object:
    """Return a value that differs when a plugin, the kubelet or an allocation has changed.

    None: the host has no kubelet, and there is no plugin to ask. The kubelet writes its checkpoint
    when devices or allocations change.
    """
    directory = _directory(layout)
    if directory is None:
        return plugin_metrics or None
    names = [*_names(f"{directory}/{PLUGINS}")]
    return [
        [[name, host_fingerprint.stamp(f"{directory}/{PLUGINS}/{name}")] for name in names],
        host_fingerprint.stamp(f"{directory}/{POD_RESOURCES}"),
    ]


def examine(layout: Layout, plugin_metrics: str = "") -> DevicePluginState:
    """Return what the kubelet and the plugin tell.

    Args:
        layout: the layout of the host.
        plugin_metrics: the address of the plugin's metrics, ``http://127.0.0.1:9401/metrics``;
            empty: do not ask.

    Raises:
        CdiGenError: the packages of the extra ``kubernetes`` are missing.
    """
    directory = _directory(layout)
    allocatable, allocated = Counter[str](), Counter[str]()
    answers = None
    if directory is not None and os.path.exists(socket := f"{directory}/{POD_RESOURCES}"):
        answers = _ask_kubelet(socket, allocatable, allocated)
    healthy, unhealthy = Counter[str](), Counter[str]()
    plugin_answers = _ask_plugin(plugin_metrics, healthy, unhealthy) if plugin_metrics else None
    names = {
        *allocatable,
        *allocated,
        *healthy,
        *unhealthy,
        *(_registered(layout) if answers else ()),
    }
    resources = sorted(name for name in names if name.startswith(PREFIX))[:MAX_RESOURCES]
    return DevicePluginState(
        sockets=_sockets(directory) if directory is not None else None,
        kubelet_answers=answers,
        plugin_answers=plugin_answers,
        resources=tuple(
            ResourceState(
                name=name,
                allocatable=allocatable[name] if answers else None,
                allocated=allocated[name] if answers else None,
                healthy=healthy[name] if plugin_answers else None,
                unhealthy=unhealthy[name] if plugin_answers else None,
            )
            for name in resources
        ),
    )


def _directory(layout: Layout) -> str | None:
    """Return the kubelet's directory, as this process opens it; None: the host has no kubelet."""
    paths = (f"{layout.prefix}{path}" for path in DIRECTORIES)
    return next((path for path in paths if os.path.isdir(f"{path}/{PLUGINS}")), None)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _sockets(directory: str) -> int:
    names = _names(f"{directory}/{PLUGINS}")
    return sum(name.endswith(".sock") and name != KUBELET for name in names)


def _registered(layout: Layout) -> frozenset[str]:
    """Return the resources that the kubelet knows, also those without a healthy device.

    Empty if this user may not read the kubelet's checkpoint.
    """
    from cdi_gen.doctor import kubelet  # noqa: PLC0415 - takes 50 ms
    from cdi_gen.doctor.check import NotApplicable, Unseen  # noqa: PLC0415
    from cdi_gen.doctor.host import Host  # noqa: PLC0415

    with suppress(NotApplicable, Unseen, OSError):
        return frozenset(kubelet.checkpoint(Host(layout.where())).registered)
    return frozenset()


def _ask_kubelet(socket: str, allocatable: Counter[str], allocated: Counter[str]) -> bool:
    """Count the devices that pods can get and have; return whether the kubelet answers.

    Raises:
        CdiGenError: gRPC is not installed.
    """
    try:
        from cdi_gen.kubernetes import pod_resources  # noqa: PLC0415 - loads gRPC, an extra
    except ImportError as error:
        raise _missing("the kubelet is not asked for its devices", error) from error
    try:
        allocatable.update(pod_resources.allocatable(socket))
        # Some kubelets list a device for the pod that has it and for one that has ended.
        given = {
            (devices.resource, name)
            for devices in pod_resources.allocations(socket)
            for name in devices.ids
        }
        allocated.update(resource for resource, _ in given)
    except pod_resources.KubeletError:
        return False
    return True


def _ask_plugin(address: str, healthy: Counter[str], unhealthy: Counter[str]) -> bool:
    """Count the devices that the plugin advertises; return whether it answers.

    Raises:
        CdiGenError: prometheus_client is not installed.
    """
    from urllib.request import ProxyHandler, build_opener  # noqa: PLC0415 - in the process only

    try:
        from prometheus_client.parser import (  # noqa: PLC0415 - an extra
            text_string_to_metric_families,
        )
    except ImportError as error:
        raise _missing("the metrics of the device plugin are not read", error) from error
    numbers = {"healthy": healthy, "unhealthy": unhealthy}
    try:
        # Not by a proxy of the environment: the address is of this node.
        with build_opener(ProxyHandler({})).open(address, timeout=SECONDS) as answer:
            text = answer.read(MAX_BYTES).decode("utf-8", "replace")
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name == FAMILY else ():
                numbers[sample.labels["health"]][sample.labels["resource"]] += int(sample.value)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _missing(what: str, error: ImportError) -> CdiGenError:
    """Return the error that a package of the extra ``kubernetes`` is missing."""
    return CdiGenError(
        f"{what}: {error}. The packages of the extra `kubernetes` are needed",
        hint="after `make install`: make install EXTRAS='kubernetes metrics'; "
        "with pip: cdi-gen[kubernetes]",
        code="CDG-N001",
    )
