# SPDX-License-Identifier: Apache-2.0
"""The answers of engines that are not here, for a small host in a directory."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cdi_gen.cli import why_lookup
from cdi_gen.inventory import Inventory, UnusableDevice
from cdi_gen.inventory.json_form import load
from cdi_gen.why import readers
from cdi_gen.why.answer import Answer, answers
from cdi_gen.why.readers import Reader
from cdi_gen.why.spec_files import Host
from cdi_gen.why.user import ROOT, User
from tests.cli.program import GOLDEN, MIG
from tests.unit.why.broken_specs import GOOD, NAME, mount, node, spec

ALICE = User(1000, 1000, "alice", "/home/user", (1000,))


class Small:
    """A host in a directory, and what engines say of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = Path(f"{self.root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def readers(self, engine: str, user: User = ROOT) -> list[Reader]:
        return readers.named(engine, user, {"HOME": "/root"}, [], str(self.root))

    def ask(
        self, name: str, engine: str = "podman@5.4.2", inventory: Inventory | None = None
    ) -> Answer:
        (answer,) = answers([name], self.readers(engine), Host(str(self.root)), lambda: inventory)
        return answer

    def codes(self, name: str, engine: str = "podman@5.4.2", **how: Any) -> tuple[str, list[str]]:
        answer = self.ask(name, engine, **how)
        return answer.outcome, [finding.code for finding in answer.findings]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return Small(tmp_path)


def test_a_good_spec_works_and_nothing_is_said(small: Small) -> None:
    small.write("/etc/cdi/a.json", GOOD)
    assert small.codes(NAME) == ("works", [])


@pytest.mark.parametrize(
    ("engine", "code"),
    [
        ("docker@20.10.24", "CDG-E102"),
        ("docker@27.5.1", "CDG-Y002"),
        ("containerd@1.6.20", "CDG-E102"),
        ("containerd@1.7.24", "CDG-Y002"),
        ("buildah@1.28.2", "CDG-E102"),
    ],
)
def test_an_engine_without_cdi(small: Small, engine: str, code: str) -> None:
    small.write("/etc/cdi/a.json", GOOD)
    assert small.codes(NAME, engine) == ("unresolved", [code])


def test_docker_with_the_setting_reads_specs(small: Small) -> None:
    small.write("/etc/cdi/a.json", GOOD)
    small.write("/etc/docker/daemon.json", '{"features": {"cdi": true}}')
    assert small.codes(NAME, "docker@27.5.1") == ("works", [])


def test_docker_that_cannot_read_its_configuration(small: Small) -> None:
    """No command of ours can change the file, and it may already switch CDI on."""
    small.write("/etc/cdi/a.json", GOOD)
    small.write("/etc/docker/daemon.json", '{"features": {"cdi": true}}}')
    (finding,) = small.ask(NAME, "docker@27.5.1").findings
    assert (finding.code, finding.severity) == ("CDG-E002", "error")
    assert "/etc/docker/daemon.json: line 1, column 28" in finding.message
    assert finding.fix == "correct /etc/docker/daemon.json && sudo systemctl restart docker"


def test_docker_with_other_directories(small: Small) -> None:
    small.write("/etc/cdi/a.json", GOOD)
    small.write("/etc/docker/daemon.json", '{"cdi-spec-dirs": ["/srv/cdi"]}')
    answer = small.ask(NAME, "docker@28.5.2")
    assert [finding.code for finding in answer.findings] == ["CDG-Y001"]
    assert answer.findings[0].fix == (
        'set in /etc/docker/daemon.json: "cdi-spec-dirs": ["/srv/cdi", "/etc/cdi"]'
    )


@pytest.mark.parametrize(
    ("engine", "outcome"),
    [("podman@5.4.2", "works"), ("podman@5.5.2", "unresolved"), ("podman@5.6.0", "works")],
)
def test_some_releases_of_podman_read_one_directory(
    small: Small, engine: str, outcome: str
) -> None:
    """Podman 5.5 heeds containers.conf, whose default then was /etc/cdi alone."""
    small.write("/var/run/cdi/a.json", GOOD)
    answer = small.ask(NAME, engine)
    assert answer.outcome == outcome
    if outcome != "works":
        assert [finding.code for finding in answer.findings] == ["CDG-Y001"]
        assert answer.findings[0].fix == "sudo cdi-gen engine configure podman"


def test_directories_of_containers_conf_are_read(small: Small) -> None:
    small.write("/srv/cdi/a.json", GOOD)
    small.write(
        "/etc/containers/containers.conf.d/cdi.conf", '[engine]\ncdi_spec_dirs = ["/srv/cdi"]\n'
    )
    assert small.codes(NAME, "podman@5.8.2") == ("works", [])
    assert small.codes(NAME, "podman@5.4.2") == ("unresolved", ["CDG-F101"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_rootless_docker_reads_the_directories_of_its_user() -> None:
    """Since 29.2 by default, before only if they are configured."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        assert _rootless_docker(Small(Path(folder))) == ["unresolved", "works"]


def _rootless_docker(small: Small) -> list[str]:
    small.write("/home/user/.config/docker/daemon.json", "{}")
    small.write("/home/user/.config/cdi/a.json", GOOD)
    outcomes: list[str] = []
    for version in ("29.1.0", "29.2.0"):
        (reader,) = (
            reader for reader in small.readers(f"docker@{version}", ALICE) if reader.rootless
        )
        (answer,) = answers([NAME], [reader], Host(str(small.root)), lambda: None)
        outcomes.append(answer.outcome)
    return outcomes


def test_a_spec_that_claims_too_much_names_both_versions(small: Small) -> None:
    small.write("/etc/cdi/nvidia.yaml", spec(version="0.7.0", kind="nvidia.com/gpu", name="0"))
    answer = small.ask("nvidia.com/gpu=0", "podman@4.9.3")
    (finding,) = answer.findings
    assert finding.code == "CDG-S303"
    assert "claims CDI 0.7.0, and podman 4.9.3 reads CDI up to 0.6.0" in finding.message
    assert finding.fix == "sudo cdi-gen generate --for podman@4.9.3 -o /etc/cdi/nvidia.yaml"


def test_a_spec_of_another_vendor_needs_another_claim(small: Small) -> None:
    small.write("/etc/cdi/a.json", spec(version="1.0.0"))
    (finding,) = small.ask(NAME, "podman@4.9.3").findings
    file = small.root / "etc/cdi/a.json"
    follow = finding.fix.removeprefix("sudo ").replace("/etc/cdi/a.json", str(file))
    subprocess.run(["sh", "-ec", follow], check=True)
    assert json.loads(file.read_text())["cdiVersion"] == "0.3.0"
    assert small.ask(NAME, "podman@4.9.3").outcome == "works"


def test_an_unknown_version_cannot_be_answered_where_it_matters(small: Small) -> None:
    small.write("/etc/cdi/a.json", spec(version="0.7.0", additionalGids=[44]))
    reader = small.readers("podman@5.4.2")[0]
    unknown = reader._replace(version=None, library=None, newest_cdi_version=None)
    (answer,) = answers([NAME], [unknown], Host(str(small.root)), lambda: None)
    assert answer.outcome == "unknown"
    assert "CDG-Y003" in {finding.code for finding in answer.findings}


def test_podman_4_1_stops_at_a_directory_that_does_not_exist(small: Small) -> None:
    small.write("/var/run/cdi/a.json", spec(version="0.3.0"))
    assert small.ask(NAME, "podman@4.1.0").outcome == "unresolved"
    assert small.ask(NAME, "podman@4.3.1").outcome == "works"


def test_a_file_that_no_engine_reads_is_named(small: Small) -> None:
    small.write("/etc/cdi/a.json", GOOD[:50])
    answer = small.ask(NAME)
    assert [finding.subject for finding in answer.findings] == ["/etc/cdi/a.json"]


def test_the_ignored_file_of_another_kind_is_not_the_cause(small: Small) -> None:
    small.write("/etc/cdi/a.json", spec(version="1.1.0", kind="example.org/nic"))
    assert small.codes(NAME, "podman@5.4.2") == ("unresolved", ["CDG-F101"])


def test_a_script_with_a_wrong_interpreter(small: Small) -> None:
    hook = {"hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook"]}
    small.write("/etc/cdi/a.json", spec(hooks=[{**hook, "env": ["PATH=/bin"]}]))
    assert small.codes(NAME) == ("fails", ["CDG-V103"])
    small.write("/usr/bin/hook", "#!/usr/bin/python4\n", 0o755)
    assert small.codes(NAME) == ("fails", ["CDG-Y006"])
    small.write("/usr/bin/python4", "", 0o755)
    assert small.codes(NAME) == ("works", [])


def test_an_older_hook_program_than_the_spec(small: Small) -> None:
    """The hook is replaced by a package, the spec is from a newer cdi-gen."""
    path = "/usr/libexec/cdi-gen/cdi-gen-hook"
    args = ["cdi-gen-hook", "--old", "--new=1"]
    hook = {"hookName": "createContainer", "path": path, "args": args, "env": ["PATH=/bin"]}
    small.write("/etc/cdi/a.json", spec(hooks=[hook]))
    small.write(path, "", 0o755)
    module = "/usr/libexec/cdi-gen/cdi_hook/arguments.py"
    small.write(module, 'names = ("--old", "--new")\n')
    assert small.codes(NAME) == ("works", [])
    small.write(module, 'names = ("--old",)\n')
    (finding,) = small.ask(NAME).findings
    assert finding.code == "CDG-G007"
    assert "does not know --new" in finding.message


def test_docker_drops_groups(small: Small) -> None:
    small.write("/etc/cdi/a.json", spec(version="0.7.0", additionalGids=[44]))
    assert small.codes(NAME, "docker@28.5.2") == ("works", ["CDG-S417"])
    assert small.codes(NAME, "podman@5.4.2") == ("works", [])


def test_the_newest_of_files_in_conflict_stays(small: Small) -> None:
    for name, time in ("a", 30), ("b", 10), ("c", 20):
        small.write(f"/etc/cdi/{name}.json", GOOD)
        os.utime(small.root / f"etc/cdi/{name}.json", (time, time))
    (finding,) = small.ask(NAME).findings
    assert finding.fix == "sudo rm /etc/cdi/b.json /etc/cdi/c.json"


def test_links_resolve_inside_the_host(small: Small) -> None:
    """/etc/target of the host is meant, not of this machine."""
    small.write("/etc/cdi/a.json", mount("/opt/link", "bind"))
    (small.root / "opt").mkdir()
    (small.root / "opt/link").symlink_to("/etc/target")
    assert small.codes(NAME) == ("fails", ["CDG-V102"])
    small.write("/etc/target", "")
    assert small.codes(NAME) == ("works", [])


def test_many_missing_files_are_three_and_a_number(small: Small) -> None:
    mounts = [
        {"hostPath": f"/usr/lib/libx{n}.so", "containerPath": f"/l{n}", "options": ["bind"]}
        for n in range(40)
    ]
    small.write("/etc/cdi/a.json", spec(mounts=mounts))
    answer = small.ask(NAME)
    assert len(answer.findings) == 3
    assert "and 37 more such files" in answer.findings[-1].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create device nodes")
def test_another_number_starts_and_does_not_work(small: Small) -> None:
    small.write("/etc/cdi/a.json", node(type="c", major=1, minor=5))
    (small.root / "dev").mkdir()
    os.mknod(small.root / "dev/why", 0o020666, os.makedev(1, 3))
    assert small.codes(NAME) == ("broken", ["CDG-V106"])


def _golden(name: str) -> tuple[str, Inventory]:
    folder = GOLDEN / name
    return (folder / "nvidia.json").read_text(), load((folder / "inventory.json").read_text())


EIGHT, EIGHT_GPUS = _golden("hgx-550-8gpu")
OF_MIG = (MIG / "nvidia.json").read_text()
MIG_HOST = load((MIG / "inventory.json").read_text())


def _by(strategy: str) -> str:
    """The spec of eight GPUs with the names of one scheme."""
    document = json.loads(EIGHT)
    document["devices"] = [
        device
        for device in document["devices"]
        if (device["name"].isdigit() if strategy == "index" else device["name"].startswith("GPU-"))
    ]
    return json.dumps(document)


UUID = str(EIGHT_GPUS.gpus[3].uuid)


@pytest.mark.parametrize(
    ("requested", "code", "fix"),
    [
        ("nvidia.com/gpu", "CDG-U009", "--device nvidia.com/gpu=0"),
        ("3", "CDG-U009", "--device nvidia.com/gpu=3"),
        (UUID, "CDG-U009", "--device nvidia.com/gpu=3"),
        ("nvidia.com/gpu=gpu3", "CDG-Y007", "--device nvidia.com/gpu=3"),
        (f"nvidia.com/gpu={UUID}", "CDG-Y007", "--device nvidia.com/gpu=3"),
        (f"nvidia.com/gpu={UUID.upper()}", "CDG-Y007", "--device nvidia.com/gpu=3"),
        ("nvidia.com/gpu=pci-0000-07-00-0", "CDG-Y007", "--device nvidia.com/gpu="),
        (f"management.nvidia.com/gpu={UUID}", "CDG-Y007", "--device nvidia.com/gpu=3"),
        ("nvidia.com/gpus=3", "CDG-Y007", "--device nvidia.com/gpu=3"),
        ("nvidia/gpu=3", "CDG-Y007", "--device nvidia.com/gpu=3"),
        ("nvidia.com/gpu=9", "CDG-Y007", "--device nvidia.com/gpu=0"),
        ("nvidia.com/gpu=GPU-00000000-1111-2222-3333-444444444444", "CDG-Y009", "--device "),
        ("nvidia.com/gpu=0:1", "CDG-Y008", "nvidia-smi mig"),
    ],
)
def test_the_name_that_was_meant(small: Small, requested: str, code: str, fix: str) -> None:
    small.write("/etc/cdi/nvidia.json", _by("index"))
    answer = small.ask(requested, inventory=EIGHT_GPUS)
    assert answer.outcome == "unresolved"
    (finding,) = answer.findings
    assert finding.code == code, finding.message
    assert finding.fix.startswith(fix), finding.message
    if code == "CDG-Y007" and requested != "nvidia.com/gpu=9":
        assert finding.fix.rpartition(" ")[2] in finding.message


def test_an_index_of_a_spec_of_uuids(small: Small) -> None:
    small.write("/etc/cdi/nvidia.json", _by("uuid"))
    (finding,) = small.ask("nvidia.com/gpu=3", inventory=EIGHT_GPUS).findings
    assert finding.fix == f"--device nvidia.com/gpu={UUID}"


def test_a_name_counts_by_its_node(small: Small) -> None:
    """A spec by hand that counts the GPUs in another order."""
    document = json.loads(_by("index"))
    names = [device["name"] for device in document["devices"]]
    for device, name in zip(document["devices"], reversed(names), strict=True):
        device["name"] = name
    small.write("/etc/cdi/nvidia.json", json.dumps(document))
    (finding,) = small.ask(f"nvidia.com/gpu={UUID}", inventory=EIGHT_GPUS).findings
    assert finding.fix == "--device nvidia.com/gpu=4"


def test_a_mig_device_of_an_earlier_layout(small: Small) -> None:
    small.write("/etc/cdi/nvidia.json", OF_MIG)
    (finding,) = small.ask("nvidia.com/gpu=1:6", inventory=MIG_HOST).findings
    assert finding.code == "CDG-Y008"
    assert finding.fix == "--device nvidia.com/gpu=1:0"


def test_names_can_be_compared_without_a_driver(small: Small) -> None:
    small.write("/etc/cdi/nvidia.json", _by("index"))
    (finding,) = small.ask("nvidia.com/gpu=gpu3").findings
    assert finding.fix == "--device nvidia.com/gpu=3"


MAJORS = "Character devices:\n195 nvidia\n234 nvidia-caps\n238 nvidia-uvm\n\nBlock devices:\n"
INFORMATION = "/proc/driver/nvidia/gpus/0000:1b:00.0/information"


@pytest.fixture
def kernel(small: Small) -> Small:
    """A host whose driver has the GPU 0, and none of whose nodes exist yet."""
    small.write("/proc/devices", MAJORS)
    small.write("/proc/driver/nvidia/version", "NVRM version: Kernel Module  550.163.01\n")
    small.write(INFORMATION, "Model: \t L4\nDevice Minor: \t 0\n")
    for name, minor in (("mig/config", 1), ("gpu0/mig/gi2/access", 21)):
        text = f"DeviceFileMinor: {minor}\nDeviceFileMode: 292\n"
        small.write(f"/proc/driver/nvidia/capabilities/{name}", text)
    # Another GPU has fallen off the bus.
    (small.root / "proc/driver/nvidia/gpus/0000:1e:00.0").mkdir()
    (small.root / "sys/class/drm/renderD128").mkdir(parents=True)
    return small


def _node(path: str, major: int, minor: int) -> str:
    numbers: dict[str, Any] = {"type": "c", "major": major, "minor": minor}
    return spec(deviceNodes=[{"path": path, **numbers}])


@pytest.mark.parametrize(
    ("path", "major", "minor", "code"),
    [
        ("/dev/nvidia0", 195, 0, None),
        ("/dev/nvidia-uvm", 238, 0, None),
        ("/dev/dri/renderD128", 226, 128, None),
        ("/dev/nvidia1", 195, 1, "CDG-V107"),
        ("/dev/nvidia-uvm", 510, 0, "CDG-V105"),
        ("/dev/nvidia-caps/nvidia-cap1", 234, 1, None),
        ("/dev/nvidia-caps/nvidia-cap21", 234, 21, None),
        ("/dev/nvidia-caps/nvidia-cap30", 234, 30, "CDG-V107"),
        ("/dev/dri/renderD140", 226, 140, "CDG-V105"),
    ],
)
def test_a_node_that_no_driver_serves(
    kernel: Small, path: str, major: int, minor: int, code: str | None
) -> None:
    """The engine creates a complete node itself; without its driver it is of no use."""
    kernel.write("/etc/cdi/a.json", _node(path, major, minor))
    assert kernel.codes(NAME) == (("broken", [code]) if code else ("works", []))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create device nodes")
def test_a_node_of_another_boot_is_to_be_created_again(kernel: Small) -> None:
    kernel.write("/etc/cdi/a.json", _node("/dev/nvidia-uvm", 238, 0))
    (kernel.root / "dev").mkdir()
    os.mknod(kernel.root / "dev/nvidia-uvm", 0o020666, os.makedev(237, 0))
    (finding,) = kernel.ask(NAME).findings
    assert (finding.code, finding.fix) == (
        "CDG-H301",
        "sudo cdi-gen system create-device-nodes",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can create device nodes")
def test_the_node_of_a_gpu_that_is_gone(kernel: Small) -> None:
    kernel.write("/etc/cdi/a.json", _node("/dev/nvidia1", 195, 1))
    (kernel.root / "dev").mkdir()
    os.mknod(kernel.root / "dev/nvidia1", 0o020666, os.makedev(195, 1))
    assert kernel.codes(NAME) == ("broken", ["CDG-V107"])


def test_a_spec_directory_that_is_a_link_to_nothing(small: Small) -> None:
    (small.root / "etc").mkdir()
    (small.root / "etc/cdi").symlink_to("/mnt/cdi-gen-test/cdi")
    finding = small.ask("nvidia.com/gpu=0", inventory=EIGHT_GPUS).findings[0]
    assert finding.code == "CDG-Y004"
    assert "/mnt/cdi-gen-test/cdi, which does not exist" in finding.message
    assert finding.fix.startswith("sudo rm /etc/cdi && sudo cdi-gen generate -o /etc/cdi/")
    small.write("/var/run/cdi/nvidia.json", _by("index"))
    assert small.codes("nvidia.com/gpu=gpu3", inventory=EIGHT_GPUS)[1] == ["CDG-Y007"]


def test_mig_devices_that_nvml_does_not_list(small: Small) -> None:
    small.write("/etc/cdi/nvidia.json", EIGHT)
    unlisted = UnusableDevice(device="MIG devices of GPU 1", reason="no pynvml", code="CDG-H107")
    inventory = replace(EIGHT_GPUS, unusable_devices=(unlisted,))
    (finding,) = small.ask("nvidia.com/gpu=1:0", inventory=inventory).findings
    assert "cannot list the host's MIG devices of GPU 1: no pynvml" in finding.message
    assert finding.fix == "sudo cdi-gen doctor mig-devices"


def test_a_spec_directory_that_is_a_file(small: Small) -> None:
    small.write("/etc/cdi", "")
    (finding,) = small.ask(NAME, "podman@5.8.2").findings
    assert finding.code == "CDG-F106"
    assert finding.fix.startswith("sudo rm /etc/cdi && sudo cdi-gen generate ")


def test_a_spec_file_that_is_a_dead_link(small: Small) -> None:
    (small.root / "etc/cdi").mkdir(parents=True)
    (small.root / "etc/cdi/a.json").symlink_to("/data-that-is-not-mounted/a.json")
    (finding,) = small.ask(NAME).findings
    assert finding.code == "CDG-F107"
    assert "a symbolic link to /data-that-is-not-mounted/a.json" in finding.message
    assert finding.fix.startswith("sudo rm /etc/cdi/a.json && ")


def test_the_file_that_cdi_gen_writes_stays(small: Small) -> None:
    """It is the older one of two in conflict."""
    for name, time in (("old.json", 2e9), ("nvidia.json", 1e9)):
        small.write(f"/etc/cdi/{name}", EIGHT)
        os.utime(small.root / f"etc/cdi/{name}", (time, time))
    (finding,) = small.ask("nvidia.com/gpu=0").findings
    assert finding.fix == "sudo rm /etc/cdi/old.json"
    assert "/etc/cdi/nvidia.json is the file that cdi-gen writes" in finding.message


def test_each_cause_has_its_own_fix(small: Small) -> None:
    small.write(
        "/etc/cdi/why.json", spec(deviceNodes=[{"path": "/dev/a"}, {"path": "/dev/nvidia8"}])
    )
    answers_of_two = [small.ask(NAME), small.ask(NAME, "buildah@1.39.3")]
    lines = why_lookup.text(answers_of_two).splitlines()
    causes = [index for index, line in enumerate(lines) if line.startswith("    cause:")]
    assert len(causes) == 2
    assert causes[1] - causes[0] == 2
