# SPDX-License-Identifier: Apache-2.0
"""Step update-application-profile: EGL and Vulkan see the container's GPUs, and no others.

Those of some drivers look for all GPUs of the host, and fail on those whose nodes are not there. A
profile of the driver names the visible ones, by the minors of their nodes.
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
"""Where the driver's libraries look (its README, "Application Profiles"); `10-` leaves later files
to the user."""

MAX_MINOR = 63
"""The setting is a number of 64 bits."""


def prepare(options: Options) -> bool:
    """Whether it is asked for."""
    return bool(options["--update-application-profile"])


def run(rootfs: RootFs, _asked: bool, _until: float) -> None:
    """Write the profile for the GPUs whose nodes the container has; without any, do nothing."""
    minors = gpu_minors(rootfs)
    visible = [minor for minor in minors if minor <= MAX_MINOR]
    if len(visible) < len(minors):
        process.say(
            f"update-application-profile: /dev/nvidia{minors[-1]}: left out: "
            f"no profile can name a minor above {MAX_MINOR}",
            "CDG-K007",
        )
    if visible:
        rootfs.put(PROFILE, profile(visible))


def profile(minors: Iterable[int]) -> bytes:
    """A profile, for every program, that makes the GPUs of these minors visible."""
    mask = sum(1 << minor for minor in minors)
    return (
        b'{"profiles":[{"name":"_container_","settings":["EGLVisibleDGPUDevices",0x%x]}],'
        b'"rules":[{"pattern":[],"profile":"_container_"}]}\n' % mask
    )
