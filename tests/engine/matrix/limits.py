# SPDX-License-Identifier: Apache-2.0
"""What engines are known not to do, and how they say so: each is a row of the table, too."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.engine.matrix.cells import BOTH, GROUPS, MOBY, SUITES, Cell

CONTAINER = ("container",)
"""No container was started."""
NOTHING = ("nodes", "mounts", "links", "libraries", "listing", "variables")
"""It was, and nothing of the GPU reached it."""


class Limit(NamedTuple):
    """What some cells lack, and why."""

    why: str
    engine: str
    """Patterns: of the engine's name, of what the user writes, of what is printed."""
    row: str = ""
    says: str = ""
    lacks: tuple[str, ...] = CONTAINER
    suites: tuple[str, ...] = SUITES
    runtime: str = ""
    users: tuple[int, ...] = BOTH
    groups: tuple[str, ...] = GROUPS
    machines: bool = False
    """It is this machine's and not the engine's: elsewhere there may be none."""

    def holds_for(self, cell: Cell) -> bool:
        return (
            re.fullmatch(self.engine, cell.row.engine) is not None
            and re.search(self.row, cell.row.says) is not None
            and cell.suite in self.suites
            and self.runtime in {"", cell.runtime}
            and cell.user in self.users
            and cell.groups in self.groups
        )


WITHOUT_HOOKS = "a spec without hooks creates no links, and adds nothing to the loader's cache"

_12 = ("bookworm",)
_12_13 = ("bookworm", "trixie")
_13_SID = ("trixie", "sid")
_CDI = "nvidia.com/gpu"

LIMITS = (
    Limit(
        "crun 1.8 raises RLIMIT_MEMLOCK for a device filter; root of the machine that ran this "
        "has no permission for it (no CAP_SYS_RESOURCE)",
        "podman|crun",
        "^(?!build)",
        "RLIM_MEMLOCK",
        suites=_12,
        runtime="crun",
        users=(0,),
        groups=("v2",),
        machines=True,
    ),
    Limit(
        "the machine that ran this has no cpu controller in its v2 tree, and CRI always sets a weight",
        "containerd",
        "^CRI",
        "cpu.weight",
        groups=("v2",),
        machines=True,
    ),
    Limit(
        "a prestart hook runs when the process already has its environment: the spec's variables "
        "do not reach it",
        "podman|docker",
        r"prestart|--gpus (device=0|all)$|driver: nvidia",
        lacks=("variables",),
    ),
    Limit("podman 4 accepts --gpus and ignores it", "podman", "--gpus", lacks=NOTHING, suites=_12),
    Limit(
        "buildah 1.28, which is also in podman 4.3, treats the name as a path",
        "podman|buildah",
        "^build",
        f"{_CDI}=0: no such file",
        suites=_12,
    ),
    Limit(
        "for builds of root, buildah writes device rules without an access: runc refuses them, "
        "and so does a v1 devices.allow",
        "podman|buildah",
        "^build",
        "device access at .* cannot be empty",
        suites=_13_SID,
        runtime="runc",
        users=(0,),
    ),
    Limit(
        "for builds of root, buildah writes device rules without an access: runc refuses them, "
        "and so does a v1 devices.allow",
        "podman|buildah",
        "^build",
        "devices.allow.: Invalid argument",
        suites=_13_SID,
        runtime="crun",
        users=(0,),
        groups=("v1",),
    ),
    Limit(
        "Docker 20.10 does not support CDI",
        "docker",
        "^--device",
        "is not an absolute path",
        suites=_12,
    ),
    Limit(
        "Docker 20.10 does not support CDI",
        "docker",
        "driver=cdi|driver: cdi",
        'could not select device driver "cdi"',
        suites=_12,
    ),
    Limit(
        "docker build without BuildKit has no devices",
        "docker",
        "^build",
        "unknown flag: --device",
        suites=_12_13,
    ),
    Limit(
        "the builder of Docker 28 grants no device by default, and its own Dockerfile frontend "
        "has RUN --device only in the labs channel",
        "docker",
        "^build",
        "entitlement device is not allowed by build daemon configuration",
        suites=("sid",),
    ),
    Limit(
        WITHOUT_HOOKS,
        "docker",
        "--hooks=none",
        lacks=("links", "listing"),
        suites=(MOBY,),
    ),
    Limit(
        "Docker's builder replaces all hooks of a spec with a hook of its own, for the network",
        "docker",
        "^build (?!.*--network none)",
        lacks=("links", "libraries", "listing"),
        suites=(MOBY,),
    ),
    Limit(
        "ctr before containerd 2 treats the name as a path",
        "containerd",
        "^ctr run --device",
        f"stat {_CDI}=0: no such file",
        suites=_12_13,
    ),
    Limit(
        "containerd 1.6 does not support CDI, and ignores CRI's fields for it",
        "containerd",
        "CDI_devices|annotation",
        lacks=NOTHING,
        suites=_12,
    ),
    Limit(
        f"{WITHOUT_HOOKS}, and runsc of 2022 creates no device nodes",
        "runsc",
        "--hooks=none",
        lacks=("nodes", "links", "listing"),
        suites=_12,
    ),
    Limit(WITHOUT_HOOKS, "runsc", "--hooks=none", lacks=("links", "listing")),
    Limit(
        "runsc runs no createContainer hook, and the version of 2022 creates no device nodes either",
        "runsc",
        lacks=("nodes", "links", "libraries", "listing"),
        suites=_12,
    ),
    Limit("runsc runs no createContainer hook", "runsc", lacks=("links", "libraries", "listing")),
    Limit(
        "Apptainer 1.4 does not support CDI: --nv has a list of libraries of its own",
        "apptainer",
        says="unknown flag: --device",
    ),
)

NOT_RUN = {
    "nerdctl": "not in Debian, and the module proxy that provided crictl does not have its module",
    "CRI-O": "not in Debian; with a kubelet it is in [cluster-tests.md](cluster-tests.md), built from its sources",
    "podman 6": "only in Debian's experimental",
}
"""Engines that the table lacks, and why."""


def limit_of(cell: Cell) -> Limit | None:
    """The first that is known of a cell."""
    return next((limit for limit in LIMITS if limit.holds_for(cell)), None)
