# SPDX-License-Identifier: Apache-2.0
"""A node with the GPUs and the driver of a fake host.

    with enter_standalone(**with_gpus(own_host("550-8gpu"))) as kubernetes:
        kubernetes.node.run(*packages.CDI_GEN, "generate", env=packages.ENVIRONMENT)

The driver's files are under the root of the node, as those of a package; the GPUs have device nodes
without a driver behind them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakehost.hosts import FakeHost
from tests.lab.kubernetes import packages

_KERNEL = ("proc/driver/nvidia", "proc/driver/nvidia-caps", "proc/devices")
_SYSFS = ("sys/bus/pci", "sys/class/drm", "sys/module")
_DEVICES = Path("/sys/devices")


def furniture(fake: FakeHost) -> dict[str, Any]:
    """Return arguments for ``node``, ``standalone`` and ``cluster``; cdi-gen is there, too.

    Raises:
        LabUnavailableError: the packages that cdi-gen needs cannot be had.
    """
    own = [fake.root / path for path in (*_KERNEL, *_SYSFS)]
    own += sorted((fake.root / "sys/devices").iterdir())
    shown = {f"/{path.relative_to(fake.root)}": path for path in own if path.exists()}
    # A view of what a kernel does not have hides all that is beside it. Kubelet reads of this
    # machine's processors, disks and networks.
    hidden = [Path("/sys/class/net"), *sorted(_DEVICES.iterdir())]
    shown |= {str(path): path for path in hidden if str(path) not in shown}
    return {
        "under": [fake.root],
        "dev_from": fake.root,
        "binds": {**packages.binds(), **shown},
    }
