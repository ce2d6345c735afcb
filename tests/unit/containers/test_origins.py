# SPDX-License-Identifier: Apache-2.0
"""What engines write about containers, laid out as they do, and what hostile users make of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cdi_base.rootfs.resolve import mount_id
from cdi_gen.containers.model import Origin, Pod, Process
from cdi_gen.containers.origins import Finder, conmon, described, docker_directory, engine_of
from cdi_gen.containers.records import RecordError, Tree, state_in

ID = "9c2f6c16c3c79b8af6e35d6ff329cb144d72aa20e54c2ef0cc765dee7d81029a"
STORAGE = "var/lib/containers/storage/overlay-containers"
TASKS = "run/containerd/io.containerd.runtime.v2.task"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[tuple[Path, Tree]]:
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield tmp_path, Tree(descriptor)
    os.close(descriptor)


Root = tuple[Path, Tree]


def write(root: Root, path: str, content: Any) -> Path:
    file = root[0] / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def process(group: str = "/", pid: int = 77, start_time: int = 1000) -> Process:
    return Process(
        pid=pid,
        start_time=start_time,
        parent=1,
        name="sleep",
        user=0,
        mount_namespace=4026532000,
        groups=(("devices", group),),
    )


def origin_of(
    root: Root, first: Process, owner: int | None = None
) -> tuple[Origin, tuple[str, ...]]:
    return Finder(root[1], {first.pid: first}, "/proc").origin(first, owner)


def runc_state(pid: int = 77, start: int = 1000, bundle: str = "/bundle") -> dict[str, Any]:
    return {
        "id": ID,
        "init_process_pid": pid,
        "init_process_start": start,
        "config": {"labels": [f"bundle={bundle}"]},
    }


def test_docker(root: Root) -> None:
    bundle = f"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{ID}"
    write(root, f"run/docker/runtime-runc/moby/{ID}/state.json", runc_state(bundle=bundle))
    source = f"/data/docker/containers/{ID}/hostname"
    write(root, f"{bundle[1:]}/config.json", {"mounts": [{"source": source}]})
    settings = {"Image": "nvidia/cuda:12.8", "Labels": {"a": "b"}}
    write(root, f"data/docker/containers/{ID}/config.v2.json", {"Name": "/web", "Config": settings})
    origin, unseen = origin_of(root, process(f"/docker/{ID}"))
    assert (origin.engine, origin.id, origin.name) == ("docker", ID, "web")
    assert (origin.image, origin.pod, origin.bundle) == ("nvidia/cuda:12.8", None, bundle)
    assert unseen == ()


@pytest.mark.parametrize(
    ("manager", "engine"), [("libpod", "podman"), ("cri-o", "cri-o"), ("", "cri-o")]
)
def test_podman_4_has_annotations_of_crio(manager: str, engine: str) -> None:
    """Of a rootless container, no control group names the engine."""
    annotations = {"io.kubernetes.cri-o.TTY": "false", "io.container.manager": manager}
    assert engine_of("", "/bundle", None, {"annotations": annotations}) == engine


def test_podman(root: Root) -> None:
    bundle = f"/{STORAGE}/{ID}/userdata"
    status = {"pid": 77, "process-start-time": 1000, "bundle": bundle}
    write(root, f"run/crun/{ID}/status", status)
    write(root, f"{bundle[1:]}/config.json", {"annotations": {"io.container.manager": "libpod"}})
    metadata = json.dumps({"image-name": "localhost/x:1", "name": "web"})
    write(root, f"{STORAGE}/containers.json", [{"id": ID, "names": ["web"], "metadata": metadata}])
    origin, unseen = origin_of(root, process(f"/machine.slice/libpod-{ID}.scope"))
    assert (origin.engine, origin.id, origin.name) == ("podman", ID, "web")
    assert (origin.image, origin.state) == ("localhost/x:1", f"/run/crun/{ID}")
    assert unseen == ()


def test_containerd_pod(root: Root) -> None:
    bundle = f"/{TASKS}/k8s.io/{ID}"
    write(root, f"run/containerd/runc/k8s.io/{ID}/state.json", runc_state(bundle=bundle))
    annotations = {
        "io.kubernetes.cri.container-name": "cuda",
        "io.kubernetes.cri.image-name": "cuda:13",
        "io.kubernetes.cri.sandbox-name": "pod-1",
        "io.kubernetes.cri.sandbox-namespace": "ml",
        "io.kubernetes.cri.sandbox-uid": "u-1",
    }
    write(root, f"{bundle[1:]}/config.json", {"annotations": annotations})
    origin, _ = origin_of(root, process(f"/kubepods.slice/cri-containerd-{ID}.scope"))
    assert (origin.engine, origin.name, origin.image) == ("containerd", "cuda", "cuda:13")
    assert origin.pod == Pod(namespace="ml", name="pod-1", container="cuda", uid="u-1")


def test_runc_alone(root: Root) -> None:
    write(root, "run/runc/web/state.json", runc_state())
    origin, _ = origin_of(root, process("/web"))
    assert (origin.engine, origin.id, origin.bundle) == ("runc", "web", "/bundle")


def test_container_without_a_group_is_found_by_its_process(root: Root) -> None:
    """crun with --cgroup-manager=disabled."""
    write(root, "run/user/1000/crun/web/status", {"pid": 77, "process-start-time": 1000})
    origin, _ = origin_of(root, process("/user.slice"), owner=1000)
    assert (origin.engine, origin.id) == ("crun", "web")


@pytest.mark.parametrize("owner", [None, 1001])
@pytest.mark.parametrize("name", ["web", "a", "z"])
def test_state_that_another_user_has_written_does_not_count(
    root: Root, owner: int | None, name: str
) -> None:
    """It names the container of another user, by its id or by its process."""
    status = {"pid": 77, "process-start-time": 1000, "bundle": "/srv/eve"}
    write(root, f"run/user/1000/crun/{name}/status", status)
    write(root, "run/user/1001/crun/mine/status", {**status, "bundle": "/mine"})
    origin, _ = origin_of(root, process("/web"), owner)
    assert origin.bundle == ("/mine" if owner else "")


def test_many_states_of_a_user_are_not_read_to_the_end(root: Root) -> None:
    """Sparse files cost their author nothing; they are not this container's fault either."""
    for number in range(8):
        file = write(root, f"run/user/1000/crun/{number}/status", "")
        os.truncate(file, 4 << 20)
    write(root, "run/user/1000/crun/9/status", {"pid": 77, "process-start-time": 1000})
    write(root, "run/user/1001/crun/1/status", {"pid": 78, "process-start-time": 1000})
    finder = Finder(root[1], {}, "/proc")
    assert finder.origin(process(), 1000) == (Origin(user="1000"), ())
    assert root[1].bytes_read < 5 * (4 << 20) + 1000
    assert finder.origin(process(pid=78), 1001)[0].id == "1"


POD = {
    "io.kubernetes.pod.name": "payroll",
    "io.kubernetes.pod.namespace": "prod",
    "io.kubernetes.pod.uid": "u",
    "io.kubernetes.container.name": "cuda",
    "io.kubernetes.cri.sandbox-name": "payroll",
    "io.kubernetes.cri.sandbox-namespace": "prod",
    "io.kubernetes.cri.container-name": "cuda",
    "io.kubernetes.cri.image-name": "good:1",
    "nerdctl/name": "good",
}
"""What the author of an image writes into its annotations or labels."""


def test_annotations_of_an_image_are_no_pod_of_podman(root: Root) -> None:
    bundle = f"/{STORAGE}/{ID}/userdata"
    status = {"pid": 77, "process-start-time": 1000, "bundle": bundle}
    write(root, f"run/crun/{ID}/status", status)
    annotations = {**POD, "io.container.manager": "libpod"}
    write(root, f"{bundle[1:]}/config.json", {"annotations": annotations})
    metadata = json.dumps({"image-name": "evil:1"})
    write(root, f"{STORAGE}/containers.json", [{"id": ID, "names": ["web"], "metadata": metadata}])
    origin, _ = origin_of(root, process(f"/machine.slice/libpod-{ID}.scope"))
    assert (origin.name, origin.image, origin.pod) == ("web", "evil:1", None)


@pytest.mark.parametrize(
    ("name", "is_pod"),
    [("web", False), ("k8s_cuda_payroll_prod_u_0", True), ("k8s_cuda_payroll_prod_v_0", False)],
)
def test_labels_of_an_image_are_no_pod_of_docker(root: Root, name: str, *, is_pod: bool) -> None:
    """cri-dockerd gives the container a name that no image can choose."""
    settings = {"Image": "evil:1", "Labels": POD}
    write(
        root,
        f"var/lib/docker/containers/{ID}/config.v2.json",
        {"Name": f"/{name}", "Config": settings},
    )
    origin, _ = origin_of(root, process(f"/docker/{ID}"))
    pod = Pod(namespace="prod", name="payroll", container="cuda", uid="u")
    assert origin.pod == (pod if is_pod else None)


def test_user_has_no_pod(root: Root) -> None:
    """The kubelet's engine is root's; a user writes what they like into their bundle."""
    bundle = f"/{TASKS}/k8s.io/{ID}"
    status = {"pid": 77, "process-start-time": 1000, "bundle": bundle}
    write(root, f"run/user/1000/crun/{ID}/status", status)
    write(root, f"{bundle[1:]}/config.json", {"annotations": POD})
    origin, _ = origin_of(root, process(f"/x/cri-containerd-{ID}.scope"), owner=1000)
    assert (origin.engine, origin.pod, origin.user) == ("containerd", None, "1000")


def test_state_of_an_earlier_process_with_the_same_number_does_not_count(root: Root) -> None:
    write(root, "run/runc/web/state.json", runc_state(start=999))
    origin, _ = origin_of(root, process("/web"))
    assert (origin.engine, origin.id) == ("", "")


def test_pod_of_crio() -> None:
    """CRI-O also passes the annotations of the pod, which its author chooses."""
    annotations = {
        "io.kubernetes.cri.sandbox-name": "payroll",
        "io.kubernetes.cri.container-name": "good",
        "io.kubernetes.container.name": "cuda",
        "io.kubernetes.pod.name": "p",
        "io.kubernetes.pod.namespace": "n",
        "io.kubernetes.pod.uid": "u",
        "io.kubernetes.cri-o.ImageName": "quay.io/x:1",
    }
    pod = Pod(namespace="n", name="p", container="cuda", uid="u")
    assert described("cri-o", annotations) == (pod, "cuda", "quay.io/x:1")


def test_nerdctl_writes_its_labels_as_annotations() -> None:
    assert described("nerdctl", {"nerdctl/name": "web"}) == (None, "web", "")


def test_command_line_of_conmon() -> None:
    words = ["/usr/bin/conmon", "--api-version", "1", "-c", ID, "-u", ID, "-r", "/usr/bin/crun"]
    words += ["-b", "/b/userdata", "-p", "/p/pidfile", "-n", "web", "--exit-dir", "/run/exits"]
    assert conmon(words) == {"id": ID, "bundle": "/b/userdata", "name": "web"}
    assert conmon(["conmon", "-c"]) == {}


def test_directory_of_dockerd_without_its_mounts() -> None:
    assert docker_directory("x", {"mounts": "?"}) == "/var/lib/docker/containers/x"


@pytest.mark.parametrize(
    "configuration",
    [
        "", "[]", "{", "[" * 100_000, '{"a": 1, "a": 2}', "\0", '{"annotations": []}',
        '{"annotations": {"io.kubernetes.cri.sandbox-name": 7}}', '{"annotations": null}',
        "x" * (9 << 20),
    ],
    ids=["empty", "list", "truncated", "deep", "twice", "nul", "other", "number", "null", "huge"],
)  # fmt: skip
def test_hostile_configuration_hides_nothing_but_itself(root: Root, configuration: str) -> None:
    write(root, "run/runc/web/state.json", runc_state())
    write(root, "bundle/config.json", configuration)
    origin, unseen = origin_of(root, process("/web"))
    assert (origin.engine, origin.id, origin.pod) == ("runc", "web", None)
    assert all("config.json" in reason for reason in unseen)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link to procfs", "loop", "socket"])
def test_configuration_that_is_no_file_is_not_opened(root: Root, kind: str) -> None:
    write(root, "run/runc/web/state.json", runc_state())
    file = root[0] / "bundle/config.json"
    file.parent.mkdir()
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to("config.json")
    elif kind == "socket":
        os.mknod(file, 0o140600)
    else:
        # Absolute links lead to files of the tree, not of the machine.
        file.symlink_to("/proc/kmsg")
    origin, unseen = origin_of(root, process("/web"))
    assert (origin.engine, origin.id) == ("runc", "web")
    assert len(unseen) == (0 if kind == "link to procfs" else 1)


def test_file_of_the_kernel_is_not_read() -> None:
    """A user's bundle may be a link into /proc, and reading /proc/kmsg takes lines from the log."""
    descriptor = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(RecordError, match="in a file system of the kernel"):
            Tree(descriptor).read("/proc/self/status", 1000)
    finally:
        os.close(descriptor)


def test_mount_that_may_not_answer_is_not_entered(root: Root) -> None:
    write(root, "run/file", "text")
    descriptor = os.open(root[0], os.O_PATH | os.O_DIRECTORY)
    try:
        own = mount_id(descriptor)
        assert Tree(descriptor, {own}).read("/run/file", 9) == b"text"
        assert Tree(descriptor, {own}).names("/run") == ["file"]
        refused = Tree(descriptor, {own + 1})
        assert (refused.names("/run"), refused.exists("/run/file")) == ([], False)
        with pytest.raises(RecordError, match="cross-device"):
            refused.read("/run/file", 9)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("state", ["[]", "{}", '{"init_process_pid": "1"}', '{"config": 3}'])
def test_odd_states(root: Root, state: str) -> None:
    write(root, "s/state.json", state)
    try:
        found = state_in(root[1], "/s")
    except RecordError:
        return
    assert found is None or found.pid == 0


@pytest.mark.parametrize(
    "group", ["/..", "/../../etc", "/a\0b", "/" + "x" * 5000, "/.", "/web\n\x1b[2J"]
)
def test_name_of_a_group_leads_nowhere_else(root: Root, group: str) -> None:
    write(root, "etc/state.json", runc_state())
    write(root, "run/state.json", runc_state())
    write(root, "run/runc/web/state.json", runc_state(pid=5))
    origin, _ = origin_of(root, process(group))
    assert origin.state == ""
