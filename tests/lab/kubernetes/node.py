# SPDX-License-Identifier: Apache-2.0
"""A node: a Debian root in namespaces of its own, with an engine, on which a kubelet can run.

The sockets of kubelet, the directories of specs and the logs are folders of the machine that tests
run on, so that a test, or a plugin that it starts, can use them without entering the node. TCP is
reached by ``network``. Leaving ends every process of the node, its containers too.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import archives, cache
from tests.lab.archives import Configuration
from tests.lab.engines import Device, Inside, Lab, StrPath
from tests.lab.kubernetes import configuration, container_engines, programs
from tests.lab.kubernetes.container_engines import Engine
from tests.lab.kubernetes.network import Network
from tests.lab.kubernetes.process import SHARED, Process
from tests.lab.kubernetes.waiting import until

ROOT = "trixie-kubernetes"
"""The root of ``debian.ENGINES`` that a node has by default."""

BUSYBOX = "localhost/busybox:lab"
"""An image of every node: a shell and its tools, to try things in a pod."""

KUBELET_DIRECTORY = "/var/lib/kubelet"
_FOLDERS, _PREFIX = "/var/tmp", "cdi-gen-node-"
_KMSG = Device("/dev/kmsg", 1, 11)
"""Kubelet ends without it."""
_NUMBERS = itertools.count()


class Ended(NamedTuple):
    """How a container ended, and what it printed."""

    status: int
    text: str


class Node:
    """An entered node; threads may share it.

    Attributes:
        inside: runs commands and reads and writes files in the node.
        network: connects to servers in the node.
        shared: the folder ``SHARED`` as seen from outside.
        device_plugins: ``/var/lib/kubelet/device-plugins``, as seen from outside, for sockets.
        etc_cdi: ``/etc/cdi``, as seen from outside.
        run_cdi: ``/var/run/cdi``, as seen from outside.
        engine: its container engine.
        pod_resources: kubelet's socket for questions about devices of pods, as seen from outside.
        busybox: the files of the image ``BUSYBOX``, to make other images of.
        processes: by name, what was started and not forgotten.
    """

    def __init__(self, inside: Inside, folder: Path, engine: Engine) -> None:
        self.inside = inside
        self.engine = engine
        self.network = Network(inside.init)
        self.folder = folder
        self.shared = folder / "shared"
        self.device_plugins = folder / "kubelet/device-plugins"
        self.pod_resources = folder / "kubelet/pod-resources/kubelet.sock"
        self.etc_cdi = folder / "etc-cdi"
        self.run_cdi = folder / "run-cdi"
        self.busybox = folder / "busybox"
        self.processes: dict[str, Process] = {}
        self._cri = ("crictl", "--timeout=60s", "--runtime-endpoint", f"unix://{engine.socket}")

    def run(self, *argv: str, check: bool = True, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the node, see ``Inside.run``."""
        return self.inside.run(argv, check=check, **how)

    def start(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a program in the node and leave it running; ``name`` is that of its log."""
        log = self.shared / f"log/{name}.log"
        process = Process(self.inside, name, argv, env or {}, log)
        self.processes[name] = process
        return process

    def load_image(
        self, tree: Path, reference: str, settings: Configuration = archives.USUAL
    ) -> None:
        """Make an image of a folder and load it into the engine.

        Args:
            tree: its files.
            reference: its whole name, ``nvcr.io/nvidia/cuda:12.9.1-base-ubuntu22.04`` say. Kubelet
                tries to pull an image with the tag ``latest``, if the pod does not forbid it.
            settings: what its containers are started with.
        """
        name = f"loaded-{next(_NUMBERS)}"
        archive = self.shared / f"{name}.tar"
        archives.archive({name: (tree, settings)}, archive)
        loaded = f"localhost/{name}:latest"
        for command in self.engine.loading(f"{SHARED}/{archive.name}", loaded, reference):
            self.run(*command)
        archive.unlink()

    def start_engine(self) -> Process:
        """Start the engine as the files in ``/etc`` configure it, and wait for it."""
        for path, text in self.engine.files.items():
            self.inside.write(path, text)
        process = self.start(self.engine.name, self.engine.name)
        self.wait_for_engine()
        return process

    def wait_for_engine(self) -> None:
        """Wait until the engine answers, after a restart."""

        def answers() -> bool:
            self.check_alive(self.engine.name)
            return self.run(*self._cri, "info", check=False).returncode == 0

        until(answers, f"{self.engine.name} answers")

    def kubelet(self, *options: str, changes: Mapping[str, Any] | None = None) -> Process:
        """Start the kubelet that the node was entered with, and wait until it serves.

        Args:
            options: more options of its command line; ``--kubeconfig``, for instance.
            changes: keys of its configuration file that differ from the lab's.
        """
        path = "/etc/kubernetes/kubelet.json"
        self.inside.write(path, configuration.kubelet(self.engine.socket, changes or {}))
        process = self.start(
            "kubelet",
            "kubelet",
            *(f"--config={path}", f"--hostname-override={configuration.NODE}"),
            *(f"--node-ip={configuration.NODE_ADDRESS}", "--v=2"),
            *options,
        )
        self.wait_for_kubelet()
        return process

    def restart_kubelet(self, number: int = signal.SIGKILL) -> None:
        """Kill kubelet, by default without notice, start it again, and wait until it serves."""
        self.processes["kubelet"].restart(number)
        self.wait_for_kubelet()

    def wait_for_kubelet(self) -> None:
        """Wait until kubelet serves its API and accepts device plugins, after a restart."""

        def serves() -> bool:
            self.check_alive("kubelet")
            return self.network.get("https://127.0.0.1:10250/healthz") == "ok"

        until(serves, "kubelet is healthy")
        sockets = (self.device_plugins / "kubelet.sock", self.pod_resources)
        until(lambda: all(map(_listens, sockets)), "kubelet accepts device plugins")

    def container(
        self,
        *command: str,
        image: str = BUSYBOX,
        devices: Sequence[str] = (),
        annotations: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        handler: str = "",
        pod_annotations: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a container to its end by CRI, as kubelet would, without one.

        Args:
            command: instead of the image's.
            image: a loaded one.
            devices: qualified names, in CRI's field for CDI devices.
            annotations: of the container; CDI's are called ``cdi.k8s.io/ANYTHING``.
            env: variables of the container.
            handler: of the engine; that of a RuntimeClass.
            pod_annotations: of the container's pod.

        Raises:
            CommandFailed: the engine refused; the message says why.
        """
        name = f"container-{next(_NUMBERS)}"
        # The network of the node, and processes of its own for the container, as kubelet wants it.
        namespaces = {"namespace_options": {"network": 2, "pid": 1}}
        pod = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "log_directory": f"{SHARED}/log",
            "annotations": dict(pod_annotations or {}),
            "linux": {"security_context": namespaces},
        }
        settings = {
            "metadata": {"name": name},
            "image": {"image": image},
            "command": list(command),
            "log_path": f"{name}.log",
            "linux": {"security_context": namespaces},
            "annotations": dict(annotations or {}),
            "envs": [{"key": key, "value": value} for key, value in (env or {}).items()],
            "CDI_devices": [{"name": device} for device in devices],
        }
        files = []
        for kind, content in (("pod", pod), ("container", settings)):
            (self.shared / f"{name}.{kind}").write_text(json.dumps(content), "utf-8")
            files.append(f"{SHARED}/{name}.{kind}")
        sandbox = self.run(*self._cri, "runp", f"--runtime={handler}", files[0]).stdout.strip()
        try:
            container = self.run(*self._cri, "create", sandbox, files[1], files[0]).stdout.strip()
            self.run(*self._cri, "start", container)

            def ended() -> Any:
                status = json.loads(self.run(*self._cri, "inspect", container).stdout)["status"]
                return status["state"] == "CONTAINER_EXITED" and status

            status = until(ended, f"{name} ends")
            return Ended(status["exitCode"], self.run(*self._cri, "logs", container).stdout)
        finally:
            self.run(*self._cri, "rmp", "--force", sandbox)

    def check_alive(self, name: str) -> None:
        """Raise RuntimeError if a process has ended that should not."""
        process = self.processes[name]
        code = process.returncode()
        if code is not None:
            raise RuntimeError(f"{name} ended with {code}:\n{process.text()[-3000:]}")


@contextlib.contextmanager
def node(
    engine: str = "2.2",
    *,
    root: str | Lab = ROOT,
    under: Sequence[StrPath] = (),
    binds: Mapping[str, StrPath] | None = None,
    devices: Sequence[Device] = (),
    dev_from: StrPath | None = None,
) -> Iterator[Node]:
    """Enter a node with a running container engine.

    Args:
        engine: the release of containerd, 2.2 or 1.7, or ``container_engines.CRIO``.
        root: a root of ``debian.ENGINES`` with busybox, runc, conmon and the programs of CNI.
        under: folders laid under the root, see ``Lab.enter``: a fake host's, for instance.
        binds: more views of the machine; a program at ``/usr/local/bin`` is found by its name.
        devices: more nodes for ``/dev``.
        dev_from: a folder whose ``dev`` has nodes for ``/dev``: a fake host's, for instance.

    Raises:
        LabUnavailableError: this machine cannot have it; the message says why.
    """
    lab = root if isinstance(root, Lab) else Lab(root)
    its_engine = container_engines.engine(engine)
    crictl = programs.crictl()
    with _folder() as folder, contextlib.ExitStack() as stack:
        for name in ("engine", "etc-cdi", "kubelet", "run-cdi", "shared/log", "sysctls"):
            (folder / name).mkdir(parents=True)
        inside = stack.enter_context(
            lab.enter(
                under=under,
                binds={
                    **configuration.write_sysctls(folder / "sysctls"),
                    **configuration.write_controllers(folder / "cgroups"),
                    **{
                        f"/usr/local/bin/{name}": path for name, path in its_engine.programs.items()
                    },
                    "/usr/local/bin/crictl": crictl,
                    **(binds or {}),
                },
                writable={
                    "/etc/cdi": folder / "etc-cdi",
                    "/run/cdi": folder / "run-cdi",
                    its_engine.storage: folder / "engine",
                    KUBELET_DIRECTORY: folder / "kubelet",
                    SHARED: folder / "shared",
                },
                devices=[_KMSG, *devices],
                dev_from=dev_from,
            )
        )
        machine = Node(inside, folder, its_engine)
        stack.callback(machine.network.close)
        _configure(machine)
        if under:
            machine.run("ldconfig")
        machine.start_engine()
        _load_usual_images(machine, Path(f"/proc/{inside.init}/root"))
        yield machine


def _listens(path: Path) -> bool:
    """Whether a process listens at a Unix socket; a killed one leaves its socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    return True


def _configure(machine: Node) -> None:
    """Write and set what the engine, kubelet and the programs of CNI find on a node."""
    machine.run("ip", "link", "set", "lo", "up")
    for address in (configuration.NODE_ADDRESS, configuration.SERVICE_ADDRESS):
        machine.run("ip", "address", "add", f"{address}/32", "dev", "lo")
    hosts = f"127.0.0.1 localhost\n{configuration.NODE_ADDRESS} {configuration.NODE}\n"
    machine.inside.write("/etc/hosts", hosts)
    machine.inside.write("/etc/cni/net.d/10-lab.conflist", configuration.cni())
    machine.run("mkdir", "-p", configuration.STATIC_PODS)


def _load_usual_images(machine: Node, root: Path) -> None:
    """Load ``BUSYBOX`` and the image that keeps a pod's namespaces; ``root`` is the node's ``/``."""
    tree = machine.busybox
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", tree / "bin/busybox")
    tools = subprocess.run([tree / "bin/busybox", "--list"], check=True, capture_output=True)
    for tool in tools.stdout.decode("ascii").split():
        if tool != "busybox":
            (tree / "bin" / tool).symlink_to("busybox")
    waits = Configuration(command=("/bin/sleep", "2147483647"))
    machine.load_image(tree, BUSYBOX, Configuration(command=("/bin/sh",)))
    machine.load_image(tree, configuration.PAUSE, waits)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A new folder with a short path, because the path of a socket has at most 107 bytes.

    Folders that killed processes left behind are removed: no process holds their lock.
    """
    with _no_other_starts_or_ends():
        for left in Path(_FOLDERS).glob(f"{_PREFIX}*"):
            _remove_unless_locked(left)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_FOLDERS))
        own = (folder / "lock").open("w")
        fcntl.flock(own, fcntl.LOCK_EX)
    with own:
        try:
            yield folder
        finally:
            with _no_other_starts_or_ends():
                shutil.rmtree(folder)


@contextlib.contextmanager
def _no_other_starts_or_ends() -> Iterator[None]:
    with (cache.home() / "nodes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unless_locked(folder: Path) -> None:
    with contextlib.suppress(BlockingIOError), (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A process of a node that is ending may still write: the next node removes the rest.
        shutil.rmtree(folder, ignore_errors=True)
