# SPDX-License-Identifier: Apache-2.0
"""Step update-application-profile: limits EGL and Vulkan to the container's GPUs.

EGL and Vulkan of some drivers try all GPUs of the host, and fail for those without a device node.
An application profile of the driver lists the visible GPUs, by the minors of their nodes.
"""

from __future__ import annotations

from cdi_base import process
from cdi_hook.gpu_nodes import gpu_minors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdi_base.rootfs.rootfs import RootFs
    from cdi_hook.arguments import Options

PROFILE = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"
"""A path that the driver's libraries read (README of the driver, "Application Profiles"). Users can
add files that sort after `10-`."""

MAX_MINOR = 63
"""The setting is a bit mask of 64 bits."""


def prepare(options: Options) -> bool:
    """Return whether the step is requested."""
    return bool(options["--update-application-profile"])


def run(rootfs: RootFs, _requested: bool, _until: float) -> None:
    """Write the profile for the container's GPUs; without a GPU, do nothing."""
    minors = gpu_minors(rootfs)
    visible = [minor for minor in minors if minor <= MAX_MINOR]
    if len(visible) < len(minors):
        process.say(
            f"update-application-profile: /dev/nvidia{minors[-1]}: left out: "
            f"a profile cannot name a minor above {MAX_MINOR}",
            "CDG-K007",
        )
    if visible:
        rootfs.put(PROFILE, profile(visible))


def profile(minors: Iterable[int]) -> bytes:
    """Return a profile that makes the GPUs of these minors visible to every program."""
    mask = sum(1 << minor for minor in minors)
    return (
        b'{"profiles":[{"name":"_container_","settings":["EGLVisibleDGPUDevices",0x%x]}],'
        b'"rules":[{"pattern":[],"profile":"_container_"}]}\n' % mask
    )
