# SPDX-License-Identifier: Apache-2.0
"""MPS between pods: which mounts, variables and users it needs, without host IPC and host PID.

The control daemon limits each client to half of the multiprocessors and to 2 GiB, so that a pod
that sees these limits is a client of the daemon, and one that does not is none.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tests.gpu.kubernetes import pods
from tests.gpu.kubernetes.pods import Volume
from tests.lab.kubernetes.manifests import Manifest
from tests.lab.kubernetes.process import Process
from tests.lab.kubernetes.standalone import Standalone
from tests.lab.kubernetes.waiting import until

_NUMBERS = itertools.count()

ROOT = "/run/nvidia/mps"
CONTROL = "nvidia-cuda-mps-control"
PIPES = Volume(f"{ROOT}/pipe", "/mps/pipe")
READ_ONLY_PIPES = PIPES._replace(read_only=True)
SHM = Volume("/dev/shm", "/dev/shm")
OWN_SHM = Volume(f"{ROOT}/shm", "/dev/shm")
"""The shared memory of a daemon in a pod, and of its clients."""
LOGS = Volume(f"{ROOT}/log", "/mps/log")
IN_POD = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe", "CUDA_MPS_LOG_DIRECTORY": "/mps/log"}
ON_NODE = {"CUDA_MPS_PIPE_DIRECTORY": PIPES.node, "CUDA_MPS_LOG_DIRECTORY": LOGS.node}
LIMITS = "set_default_active_thread_percentage 50\nset_default_device_pinned_mem_limit 0 2G\n"
WORK = ("/usr/bin/work", "4", "60", "4096")


class Variant(NamedTuple):
    """What two clients get."""

    title: str
    volumes: Sequence[Volume]
    user: int | None = None
    second_user: int | None = None
    """Of the second client, if that is another one."""
    environment: Mapping[str, str] = {"CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe"}
    command: Sequence[str] = WORK
    """Of the second client."""


LIMITED = {
    "CUDA_MPS_PIPE_DIRECTORY": "/mps/pipe",
    "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "100",
    "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=8G",
}
USERS = Variant("pipe directory, users 0 and 1000", (PIPES,), 0, 1000)
ON_NODE_VARIANTS = (
    Variant("pipe directory", (PIPES,)),
    Variant("pipe directory read-only", (READ_ONLY_PIPES,)),
    Variant("pipe directory, /dev/shm", (PIPES, SHM)),
    Variant("pipe directory, /dev/shm, user 1000", (PIPES, SHM), 1000),
    Variant("pipe directory, user 1000", (PIPES,), 1000),
    USERS,
    Variant("pipe directory, the pods set higher limits", (PIPES,), environment=LIMITED),
    Variant(
        "pipe directory, the second pod has a fault",
        (PIPES,),
        command=("/usr/bin/work", "2", "60", "64", "fault"),
    ),
    Variant("pipe directory, after the fault", (PIPES,)),
)
SOCKET = Volume(f"{PIPES.node}/control", "/mps/pipe/control")
SOCKET_VARIANT = Variant("the socket control alone", (SOCKET,))
IN_POD_VARIANTS = (
    Variant("pipe directory", (PIPES,)),
    Variant("pipe directory, the daemon's /dev/shm", (PIPES, OWN_SHM)),
)


def clients(name: str, variant: Variant) -> list[Manifest]:
    """Return the manifests of two pods."""
    second = variant.user if variant.second_user is None else variant.second_user
    return [
        pods.gpu_pod(
            f"{name}-{number}",
            *command,
            environment=variant.environment,
            volumes=variant.volumes,
            user=user,
        )
        for number, (user, command) in enumerate(((variant.user, WORK), (second, variant.command)))
    ]


@contextlib.contextmanager
def daemon_on_node(
    kubernetes: Standalone, folder: str, pipes: str = PIPES.node, *options: str
) -> Iterator[Process]:
    """Run the control daemon beside the kubelet.

    Args:
        kubernetes: the node.
        folder: has the driver's programs.
        pipes: the pipe directory.
        options: more of the daemon.
    """
    node = kubernetes.node
    node.run("mkdir", "-p", pipes, LOGS.node)
    environment = {**ON_NODE, "CUDA_MPS_PIPE_DIRECTORY": pipes, "PATH": f"{folder}:/usr/bin:/bin"}
    name = f"mps-{next(_NUMBERS)}"
    process = node.start(name, f"{folder}/{CONTROL}", "-f", *options, env=environment)

    def answers() -> bool:
        node.check_alive(name)
        return not tell(kubernetes, folder, LIMITS, pipes).startswith("Cannot")

    try:
        until(answers, "MPS answers", seconds=20)
        yield process
    finally:
        if process.returncode() is None:
            tell(kubernetes, folder, "quit\n", pipes)
            process.wait(20)


def tell(kubernetes: Standalone, folder: str, commands: str, pipes: str = PIPES.node) -> str:
    """Send commands to the daemon on the node; return what it answers."""
    environment = {"CUDA_MPS_PIPE_DIRECTORY": pipes}
    process = kubernetes.node.run(
        f"{folder}/{CONTROL}", env=environment, stdin=commands, check=False, timeout=20
    )
    return (process.stdout + process.stderr).strip()


DAEMON = f"""\
mkdir -p /mps/pipe /mps/log
{CONTROL} -f & daemon=$!
until printf '{LIMITS.replace(chr(10), chr(92) + "n")}' | {CONTROL}; do sleep 0.1; done
trap 'echo quit | {CONTROL}' TERM
echo ready
wait $daemon; wait $daemon
"""


@contextlib.contextmanager
def daemon_in_pod(kubernetes: Standalone) -> Iterator[None]:
    """Run the control daemon in a pod with namespaces of its own."""
    kubernetes.node.run("mkdir", "-p", OWN_SHM.node)
    kubernetes.node.run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", OWN_SHM.node)
    volumes = (PIPES, LOGS, OWN_SHM)
    manifest = pods.gpu_pod("mps", "/bin/sh", "-c", DAEMON, environment=IN_POD, volumes=volumes)
    kubernetes.apply(manifest)
    try:
        kubernetes.wait("mps", "Running", seconds=pods.SECONDS)
        until(lambda: "ready" in kubernetes.log("mps"), "MPS is ready", seconds=30)
        yield
    finally:
        kubernetes.delete("mps")
        kubernetes.node.run("umount", OWN_SHM.node)
