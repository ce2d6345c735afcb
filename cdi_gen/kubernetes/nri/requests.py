# SPDX-License-Identifier: Apache-2.0
"""Which CDI devices a pod requests by its annotations, and whether it may have them.

The author of a pod writes its annotations. The namespace is the one that the API server checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cdi_base.cdi.names import fault_of_qualified, vendor_of
from cdi_gen.errors import CdiGenError

DOMAIN = "nvidia.cdi.k8s.io"
"""The annotation, followed by `/container.NAME`, `/pod` or nothing; that of NVIDIA's NRI plugin."""

MANAGEMENT = "management.nvidia.com"
"""The vendor of the devices with which a container administers all GPUs of the node."""
VENDOR = "nvidia.com"
"""Devices of this vendor and of those below it are given; a node may have specs of others."""

EVERY_NAMESPACE = "*"
MAX_DEVICES = 1024


class RefusedError(CdiGenError):
    """A pod requests devices that it may not have."""

    code = "CDG-N601"


class InvalidRequestError(CdiGenError):
    """An annotation is not a list of CDI devices."""

    code = "CDG-N602"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The namespaces whose pods may request devices by an annotation.

    Such a pod gets devices without the scheduler, and beside pods that have them from the kubelet.
    """

    management: frozenset[str] = frozenset()
    """The namespaces of management devices, and of all others of the vendor."""
    workload: frozenset[str] = frozenset()
    """The namespaces of the vendor's other devices; `*`: every namespace."""
    management_kinds: frozenset[str] = frozenset()
    """Further kinds of management devices, beside those of the vendor `MANAGEMENT`."""

    def check(self, namespace: str, device: str) -> None:
        """Check that the pods of a namespace may request a device.

        Raises:
            RefusedError: they may not.
        """
        vendor, kind = vendor_of(device), device.partition("=")[0]
        is_of_vendor = vendor == VENDOR or vendor.endswith(f".{VENDOR}")
        if not is_of_vendor and kind not in self.management_kinds:
            raise RefusedError(
                f"the annotation {DOMAIN} does not give {device!r}: only devices of {VENDOR}",
                hint="request it from the plugin of its vendor",
            )
        if namespace in self.management:
            return
        # In any case, and with any name before it: a node may have such a spec.
        is_for_management = f".{vendor.lower()}".endswith(f".{MANAGEMENT}")
        kinds = {name.lower() for name in self.management_kinds}
        if is_for_management or kind.lower() in kinds:
            raise RefusedError(
                f"pods of the namespace {namespace!r} may not have {device!r}, which can "
                "administer all GPUs of the node",
                hint="add the namespace to --management-namespaces of `cdi-gen kubernetes nri` "
                "(NRI_MANAGEMENT_CDI_DEVICE_NAMESPACES)",
            )
        if namespace not in self.workload and EVERY_NAMESPACE not in self.workload:
            raise RefusedError(
                f"pods of the namespace {namespace!r} may not request {device!r} by an annotation, "
                "without the scheduler",
                hint="request nvidia.com/gpu in the limits of the container; or add the namespace "
                "to --workload-namespaces of `cdi-gen kubernetes nri`",
            )


def requested_devices(annotations: Mapping[str, str], container: str) -> tuple[str, ...]:
    """Return the devices that the annotations of a pod request for one of its containers.

    Raises:
        InvalidRequestError: the annotation is not a list of names.
    """
    for key in (f"{DOMAIN}/container.{container}", f"{DOMAIN}/pod", DOMAIN):
        if key in annotations:
            return _parse(key, annotations[key])
    return ()


def _parse(key: str, value: str) -> tuple[str, ...]:
    names = dict.fromkeys(word for part in value.split(",") if (word := part.strip()))
    if len(names) > MAX_DEVICES:
        raise InvalidRequestError(f"the annotation {key} has more than {MAX_DEVICES} devices")
    for name in names:
        fault = fault_of_qualified(name)
        if fault is not None:
            raise InvalidRequestError(
                f"the annotation {key}: {fault}",
                hint="write names with commas between them, such as nvidia.com/gpu=0",
            )
    return tuple(names)
