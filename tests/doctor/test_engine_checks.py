# SPDX-License-Identifier: Apache-2.0
"""The checks of engines, security, rootless engines and Kubernetes nodes, on hosts in a directory."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest

from cdi_gen.doctor.checks import refresh_units
from cdi_gen.doctor.host import Host
from cdi_gen.engines.machine import Machine
from cdi_gen.host import Where
from tests.doctor.examining import examine, examine_as_user, log, write
from tests.doctor.test_spec_checks import LOADED, with_nvidias_spec, with_spec

HOOK_DIRECTORY = "/usr/share/containers/oci/hooks.d"
PRESTART = "/usr/bin/nvidia-container-runtime-hook"
CONFIGURATION = "/etc/nvidia-container-runtime/config.toml"
KUBELET = "/var/lib/kubelet/device-plugins"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with a spec of one GPU."""
    root = tmp_path / "host"
    with_spec(root)
    return root


def program(host: Path, path: str) -> None:
    write(host, path).chmod(0o755)


def engine(host: Path, path: str, package: str, version: str) -> None:
    """Install an engine by its package."""
    program(host, path)
    with (host / "var/lib/dpkg").joinpath("status").open("a") as database:
        database.write(f"Package: {package}\nStatus: install ok installed\nVersion: {version}\n\n")


@pytest.fixture
def docker(host: Path) -> Path:
    (host / "var/lib/dpkg").mkdir(parents=True)
    engine(host, "/usr/bin/dockerd", "docker-ce", "5:26.1.5-1~debian.13~trixie")
    return host


def daemon_json(host: Path, **members: object) -> None:
    write(host, "/etc/docker/daemon.json", json.dumps(members))


def test_cdi_that_is_switched_off(docker: Path) -> None:
    finding = examine(docker, "engine-support").finding("CDG-A203")
    assert "switched off in docker 26.1.5" in finding.message
    assert finding.fix == "sudo cdi-gen engine configure docker && sudo systemctl restart docker"
    daemon_json(docker, features={"cdi": True})
    assert examine(docker, "engine-support").codes == ()


def test_cdi_that_is_switched_off_beside_an_engine_with_cdi(docker: Path) -> None:
    """Podman gives the devices, so nothing is known to be missing."""
    engine(docker, "/usr/bin/podman", "podman", "5.4.2+ds1-2")
    assert examine(docker, "engine-support").status == "warning"


def test_a_version_without_cdi(host: Path) -> None:
    (host / "var/lib/dpkg").mkdir(parents=True)
    engine(host, "/usr/bin/podman", "podman", "3.4.4+ds1-1ubuntu1")
    finding = examine(host, "engine-support").finding("CDG-E102")
    assert "podman 3.4.4 does not support CDI devices; 4.1 and later do" in finding.message


def test_nerdctl_takes_a_runtime_only_by_its_path(host: Path) -> None:
    (host / "var/lib/dpkg").mkdir(parents=True)
    engine(host, "/usr/bin/nerdctl", "nerdctl", "1.7.7-1")
    fix = examine(host, "engine-support").finding("CDG-E102").fix
    assert "engine configure" not in fix
    assert "nerdctl run --runtime /usr/bin/nvidia-container-runtime" in fix


def test_a_version_of_unknown_packages_is_no_fault(host: Path) -> None:
    program(host, "/usr/bin/podman")
    assert examine(host, "engine-support").status == "ok"


def test_a_configuration_that_is_not_valid(docker: Path) -> None:
    write(docker, "/etc/docker/daemon.json", "{")
    finding = examine(docker, "engine-support").finding("CDG-E002")
    assert "docker does not start" in finding.message
    assert (finding.severity, finding.subject) == ("error", "/etc/docker/daemon.json")


@pytest.mark.parametrize(
    ("version", "refused"), [("4.3.1+ds1-8", True), ("5.4.2+ds1-2", False)], ids=["4.3", "5.4"]
)
def test_a_spec_that_is_too_new_for_an_engine(host: Path, version: str, refused: bool) -> None:
    (host / "var/lib/dpkg").mkdir(parents=True)
    engine(host, "/usr/bin/podman", "podman", version)
    spec = host / "run/cdi/nvidia.json"
    spec.write_text(spec.read_text().replace('"0.5.0"', '"0.7.0"', 1))
    result = examine(host, "spec-versions")
    assert ("CDG-G006" in result.codes) is refused
    if refused:
        assert "podman 4.3.1 reads 0.5.0 and older" in result.line
        assert "--for podman@4.3.1 -o /var/run/cdi/nvidia.json" in result.findings[0].fix


def test_a_runtime_that_does_not_exist(docker: Path) -> None:
    daemon_json(docker, runtimes={"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}})
    finding = examine(docker, "engine-runtimes").finding("CDG-A204")
    assert finding.fix == "sudo cdi-gen hook install --prefix /usr --nvidia-container-runtime"
    program(docker, "/usr/bin/nvidia-container-runtime")
    assert examine(docker, "engine-runtimes").status == "ok"


def test_a_runtime_that_is_named_is_searched_in_the_path(docker: Path) -> None:
    daemon_json(docker, runtimes={"nvidia": {"path": "nvidia-container-runtime"}})
    assert examine(docker, "engine-runtimes").status == "fault"
    program(docker, "/usr/local/bin/nvidia-container-runtime")
    assert examine(docker, "engine-runtimes").status == "ok"


def test_a_default_runtime_that_is_not_registered(docker: Path) -> None:
    """NVIDIA/nvidia-docker#1795 (2023): "unknown or invalid runtime name: nvidia"."""
    write(docker, "/etc/docker/daemon.json", json.dumps({"default-runtime": "nvidia"}))
    finding = examine(docker, "engine-runtimes").finding("CDG-A205")
    assert "dockerd does not start" in finding.message
    assert finding.fix.endswith("cdi-gen engine configure docker --runtime")
    write(docker, "/etc/docker/daemon.json", json.dumps({"default-runtime": "crun"}))
    assert examine(docker, "engine-runtimes").status == "not-applicable"
    program(docker, "/usr/bin/nvidia-container-runtime")
    daemon_json(docker, runtimes={"nvidia": {"path": "/usr/bin/nvidia-container-runtime"}})
    assert examine(docker, "engine-runtimes").status == "ok"


def test_docker_without_a_program_for_gpus(docker: Path) -> None:
    finding = examine(docker, "docker-gpus").finding("CDG-E108")
    assert "dockerd 26.1.5 does not find nvidia-container-runtime-hook" in finding.message
    program(docker, PRESTART)
    assert examine(docker, "docker-gpus").status == "ok"


def test_docker_of_snap_has_directories_of_its_own(host: Path) -> None:
    specs = host / "var/snap/docker/current/etc/cdi"
    specs.mkdir(parents=True)
    result = examine(host, "confined-engines")
    assert (result.status, result.codes) == ("warning", ("CDG-A206",))
    (specs / "nvidia.yaml").touch()
    assert examine(host, "confined-engines").status == "ok"
    write(host, "/.flatpak-info")
    assert "CDG-A207" in examine(host, "confined-engines").codes


@pytest.mark.parametrize(
    ("text", "installed", "code"),
    [
        ("{", False, "CDG-A211"),
        (json.dumps({"hook": {"path": PRESTART}}), False, "CDG-A210"),
        (json.dumps({"hook": {"path": PRESTART}}), True, "CDG-A210"),
        (json.dumps({"hook": {"path": "/usr/bin/other"}}), True, None),
    ],
    ids=["not-json", "no-program", "beside-specs", "of-another"],
)
def test_hooks_of_podman(host: Path, text: str, installed: bool, code: str | None) -> None:
    write(host, f"{HOOK_DIRECTORY}/oci-nvidia-hook.json", text)
    if installed:
        program(host, PRESTART)
        program(host, "/usr/bin/other")
    result = examine(host, "oci-hooks")
    assert result.codes == ((code,) if code else ())
    if code:
        assert result.status == ("warning" if installed else "fault")
        assert result.findings[0].fix.startswith(f"sudo rm {HOOK_DIRECTORY}/oci-nvidia-hook.json")


def test_an_old_package(host: Path) -> None:
    program(host, "/usr/bin/nvidia-docker")
    finding = examine(host, "old-packages").finding("CDG-A212")
    assert finding.fix == "sudo dnf remove nvidia-docker2"


def test_a_hook_that_systemd_does_not_know(docker: Path) -> None:
    (docker / "run/systemd/system").mkdir(parents=True)
    write(docker, "/sys/fs/cgroup/cgroup.controllers")
    assert examine(docker, "daemon-reload").status == "ok"
    program(docker, PRESTART)
    assert examine(docker, "daemon-reload").codes == ("CDG-A240",)
    daemon_json(docker, **{"exec-opts": ["native.cgroupdriver=cgroupfs"]})
    assert examine(docker, "daemon-reload").status == "ok"
    (docker / "etc/docker/daemon.json").unlink()
    (docker / PRESTART[1:]).unlink()
    program(docker, "/usr/libexec/cdi-gen/cdi-gen-runtime-hook")
    (docker / PRESTART[1:]).symlink_to("../libexec/cdi-gen/cdi-gen-runtime-hook")
    assert examine(docker, "daemon-reload").status == "ok", "ours tells systemd"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[nvidia-container-cli]\nno-cgroups = true\n", "CDG-A254"),
        ("[nvidia-container-cli]\nno-cgroups = 3\n", "CDG-C103"),
        ("", None),
    ],
    ids=["set", "not-valid", "empty"],
)
def test_no_cgroups(docker: Path, text: str, code: str | None) -> None:
    program(docker, PRESTART)
    write(docker, CONFIGURATION, text)
    assert examine(docker, "no-cgroups").codes == ((code,) if code else ())


def test_a_configuration_that_the_runtime_cannot_read(docker: Path) -> None:
    write(docker, CONFIGURATION, '[nvidia-container-runtime]\nmode = "cdi\n')
    assert examine(docker, "no-cgroups").status == "not-applicable"
    program(docker, "/usr/bin/nvidia-container-runtime")
    finding = examine(docker, "no-cgroups").finding("CDG-C102")
    assert "line 2" in finding.message


def selinux(host: Path, **states: str) -> None:
    write(host, "/sys/fs/selinux/enforce", states.pop("enforce", "1"))
    for name, state in states.items():
        write(host, f"/sys/fs/selinux/booleans/{name}", f"{state} {state}")


def test_selinux_that_denies_devices(host: Path) -> None:
    assert examine(host, "selinux").status == "not-applicable"
    program(host, "/usr/bin/podman")
    selinux(host, container_use_devices="0")
    result = examine(host, "selinux")
    assert (result.status, result.codes) == ("fault", ("CDG-A222",))
    assert "sudo setsebool -P container_use_devices on" in result.findings[0].fix
    selinux(host, container_use_devices="1")
    assert examine(host, "selinux").status == "ok"
    selinux(host, container_use_devices="0", enforce="0")
    assert examine(host, "selinux").status == "ok"


def node(host: Path, *names: str) -> None:
    """Make the host a node, with sockets of device plugins, and a loaded driver."""
    for name in names:
        write(host, f"{KUBELET}/{name}")
    write(host, "/proc/driver/nvidia/version", LOADED)


def checkpoint(host: Path, registered: dict[str, list[str]], *responses: bytes) -> None:
    entries = [
        {
            "PodUID": "0f1e2d3c-0000-4000-8000-0000000000aa",
            "ContainerName": "secret-name",
            "ResourceName": "nvidia.com/gpu",
            "DeviceIDs": {"-1": ["GPU-1"]},
            "AllocResp": base64.b64encode(response).decode(),
        }
        for response in responses
    ]
    data = {"PodDeviceEntries": entries or None, "RegisteredDevices": registered}
    text = json.dumps({"Data": data, "Checksum": 1})
    write(host, f"{KUBELET}/kubelet_internal_checkpoint", text)


def field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_node_without_a_kubelet(host: Path) -> None:
    assert examine(host, "kubelet").status == "not-applicable"
    node(host, "nvidia-gpu.sock")
    assert examine(host, "kubelet").codes == ("CDG-A264",)


def test_two_device_plugins(host: Path) -> None:
    node(host, "kubelet.sock", "nvidia-gpu.sock", "nvidia.com_gpu.sock")
    assert examine(host, "kubelet").codes == ("CDG-N114",)


def test_a_resource_without_a_healthy_device(host: Path) -> None:
    node(host, "kubelet.sock")
    checkpoint(host, {"nvidia.com/gpu": [], "example.com/x": []})
    finding = examine(host, "node-devices").finding("CDG-A260")
    assert "nvidia.com/gpu, and no device of it is healthy" in finding.message


@pytest.mark.parametrize(
    ("fields", "twice"),
    [
        ((field(4, b"\n\x12cdi.k8s.io/nvidia"), field(5, b"\n\x10nvidia.com/gpu=0")), True),
        ((field(4, b"\n\x12cdi.k8s.io/nvidia"),), False),
        ((field(1, b"\n\x01A"), field(5, b"\n\x10nvidia.com/gpu=0")), False),
        ((b"\xff" * 40,), False),
    ],
    ids=["both", "annotation", "field", "not-a-message"],
)
def test_devices_that_are_given_twice(host: Path, fields: tuple[bytes, ...], twice: bool) -> None:
    node(host, "kubelet.sock")
    checkpoint(host, {"nvidia.com/gpu": ["GPU-1"]}, b"".join(fields))
    assert ("CDG-A262" in examine(host, "device-strategies").codes) is twice


@pytest.mark.parametrize("text", ["", "[]", '{"Data": 1}', '{"Data": {"RegisteredDevices": [1]}}'])
def test_a_checkpoint_of_another_form_is_not_seen(host: Path, text: str) -> None:
    node(host, "kubelet.sock")
    write(host, f"{KUBELET}/kubelet_internal_checkpoint", text)
    assert examine(host, "node-devices").status == "unseen"


def test_an_engine_that_can_give_pods_no_gpu(host: Path) -> None:
    (host / "var/lib/dpkg").mkdir(parents=True)
    node(host, "kubelet.sock")
    engine(host, "/usr/bin/containerd", "containerd", "1.7.24~ds1-6")
    assert examine(host, "runtime-handlers").codes == ("CDG-A263",)
    assert examine(host, "runtime-handlers").status == "fault"
    shutil.rmtree(host / "var/lib/dpkg")
    (host / "var/lib/dpkg").mkdir()
    engine(host, "/usr/bin/containerd", "containerd", "2.1.9+ds-1")
    assert examine(host, "runtime-handlers").status == "ok"


def test_denials_in_the_kernel_log_are_counted(host: Path) -> None:
    selinux(host, container_use_devices="0")
    denied = 'audit: type=1400 avc:  denied  { read } name="nvidia0" tcontext=xserver_misc_device_t'
    log(host, denied, denied)
    assert "has 2 denials" in examine(host, "selinux").line


def test_a_hook_that_is_older_than_the_spec(host: Path) -> None:
    with_nvidias_spec(host)
    (host / "var/lib/dpkg").mkdir(parents=True)
    engine(host, "/usr/bin/nvidia-cdi-hook", "nvidia-container-toolkit-base", "1.17.4-1")
    result = examine(host, "hook-programs")
    steps = [line for line in result.findings if line.code == "CDG-G007"]
    assert ["update-application-profile" in line.message for line in steps].count(True) == 1
    assert [line.message for line in result.findings if "CVE-2025-23266" in line.message]
    assert not [line.message for line in result.findings if "CVE-2025-23359" in line.message]


def test_a_spec_that_was_moved_from_a_home_directory(host: Path) -> None:
    selinux(host, container_use_devices="1")
    assert examine(host, "spec-labels").status == "ok"
    label = b"unconfined_u:object_r:user_home_t:s0\0"
    os.setxattr(host / "run/cdi/nvidia.json", "security.selinux", label)
    finding = examine(host, "spec-labels").finding("CDG-A221")
    assert "unconfined_u:object_r:user_home_t:s0" in finding.message
    assert finding.fix == "sudo restorecon -v /var/run/cdi/nvidia.json"


USER = {"HOME": "/home/user", "XDG_RUNTIME_DIR": "/run/user/1000"}


def test_a_user_without_subordinate_ids(host: Path) -> None:
    program(host, "/usr/bin/podman")
    write(host, "/etc/passwd", "user:x:1000:1000::/home/user:/bin/sh\n")
    write(host, "/etc/subuid", "other:100000:65536\n")
    result = examine_as_user(host, "rootless-ids", **USER)
    assert result.codes == ("CDG-A250",) * 3
    for path, text in (("subuid", "user:100000:65536\n"), ("subgid", "1000:100000:65536\n")):
        write(host, f"/etc/{path}", text)
    program(host, "/usr/bin/newuidmap")
    assert examine_as_user(host, "rootless-ids", **USER).status == "ok"
    assert examine(host, "rootless-ids").status == "not-applicable"


def test_a_user_without_a_runtime_directory(host: Path) -> None:
    program(host, "/usr/bin/podman")
    without = examine_as_user(host, "rootless-directory", HOME="/home/user", XDG_RUNTIME_DIR="")
    assert "XDG_RUNTIME_DIR is not set" in without.finding("CDG-A251").message
    missing = examine_as_user(host, "rootless-directory", **USER).finding("CDG-A251")
    assert "/run/user/1000, which does not exist" in missing.message
    (host / "run/user/1000").mkdir(parents=True)
    assert examine_as_user(host, "rootless-directory", **USER).status == "ok"


def test_a_rootless_engine_with_nvidias_hook(host: Path) -> None:
    program(host, "/usr/bin/podman")
    program(host, PRESTART)
    assert examine_as_user(host, "no-cgroups", **USER).codes == ("CDG-A253",)
    write(host, CONFIGURATION, "[nvidia-container-cli]\nno-cgroups = true\n")
    assert examine_as_user(host, "no-cgroups", **USER).status == "ok"


class SystemdOf(Machine):
    """A machine whose systemd says of a unit what a test wants."""

    def __init__(self, text: str) -> None:
        super().__init__({}, uid=0)
        self.text_of_systemd = text

    def program(self, name: str) -> str | None:
        return name

    def trusts(self, program: str) -> bool:
        return program == "systemctl"

    def output(self, *command: str) -> str | None:
        return self.text_of_systemd if "cdi-gen.service" in command else ""


@pytest.mark.parametrize(
    ("status", "severity", "reason"),
    [
        ("0", None, ""),
        ("4", "warning", "a broken GPU was left out"),
        ("5", "error", "the specs are held back"),
        ("7", "error", "result exit-code"),
    ],
)
def test_the_last_result_of_the_unit(
    host: Path, status: str, severity: str | None, reason: str
) -> None:
    write(host, "/proc/driver/nvidia/version", LOADED)
    (host / "run/systemd/system").mkdir(parents=True)
    write(host, "/etc/systemd/system/multi-user.target.wants/cdi-gen.service")
    result = "success" if status == "0" else "exit-code"
    state = "inactive" if status == "0" else "failed"
    text = f"Result={result}\nExecMainStatus={status}\nActiveState={state}\n"
    examined = Host(Where(str(host)), machine=SystemdOf(text))
    found = [(finding.code, finding.severity) for finding in refresh_units.examine_units(examined)]
    assert found == ([("CDG-A215", severity)] if severity else [])
    messages = [finding.message for finding in refresh_units.examine_units(examined)]
    assert all(reason in message for message in messages)
