# SPDX-License-Identifier: Apache-2.0
"""The device plugin in a node with a real GPU: started, measured, and asked."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence

from tests.gpu.kubernetes import measure
from tests.gpu.kubernetes.gpu_node import CDI_GEN, environment
from tests.gpu.kubernetes.measure import Seen
from tests.gpu.kubernetes.pods import GPU
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

_NUMBERS = itertools.count()

CONFIG = "/etc/cdi-gen-device-plugin.json"


def shared(replicas: int, by: str = "timeSlicing") -> str:
    """Return a config file by which so many pods share each GPU."""
    sharing = {by: {"resources": [{"name": GPU, "replicas": replicas}]}}
    return json.dumps({"version": "v1", "sharing": sharing})


class Plugin:
    """A running device plugin.

    Attributes:
        devices: what the kubelet knows of its devices.
        ready_seconds: from its start to that.
    """

    def __init__(
        self,
        kubernetes: Standalone,
        replicas: int = 0,
        by: str = "timeSlicing",
        *more: str,
        variables: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """Start a plugin, which shares each GPU if there are replicas, and wait until it serves.

        Args:
            kubernetes: where it runs.
            replicas: of each GPU; 0 for GPUs that are not shared.
            by: how they are shared.
            more: options of a plugin with replicas.
            variables: of its environment.
            before: the words before its own: a program that starts it.
        """
        self._node = kubernetes.node
        options: tuple[str, ...] = ()
        if replicas:
            kubernetes.node.inside.write(CONFIG, shared(replicas, by))
            options = ("--config-file", CONFIG, *more)
        begin = time.monotonic()
        words = (*before, *CDI_GEN, "kubernetes", "device-plugin", *options)
        name = f"plugin-{next(_NUMBERS)}"
        settings = {**environment(), **(variables or {})}
        self.process: Process = kubernetes.node.start(name, *words, env=settings)

        def known() -> list[Seen]:
            kubernetes.node.check_alive(name)
            devices = measure.allocatable(kubernetes.node, GPU)
            return devices if len(devices) >= max(replicas, 1) else []

        self.devices = until(known, "the kubelet knows the GPUs", seconds=60)
        self.ready_seconds = time.monotonic() - begin

    def wait_for(self, words: str, count: int = 1, seconds: float = 60) -> None:
        """Wait until the plugin has printed these words so many times."""
        until(lambda: self.process.text().count(words) >= count, words, seconds=seconds)

    def stop(self) -> None:
        """End the plugin."""
        self.process.stop()

    def devices_now(self) -> list[str]:
        """Return the ids of the healthy devices that the kubelet knows."""
        return [device.identifier for device in measure.allocatable(self._node, GPU)]

    def usage(self) -> measure.Usage:
        """Return the usage of the plugin itself."""
        return measure.usage(self._node, self.process.pid)

    def pids(self) -> list[int]:
        """Return the ids of the plugin and of the processes that it has started and that still run."""
        return [self.process.pid, *measure.children(self._node, self.process.pid)]

    def allocate(self, count: int) -> list[float]:
        """Call Allocate so many times, as the kubelet does; return the seconds of each call."""
        (socket,) = self._node.device_plugins.glob("*gpu*.sock")
        return measure.allocate(socket, self.devices[0].identifier, count)
