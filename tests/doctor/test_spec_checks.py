# SPDX-License-Identifier: Apache-2.0
"""The checks of specs, hooks and units on fake hosts, with specs of cdi-gen and of nvidia-ctk."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.cli.program import CHECKOUT, INVENTORY, cdi_gen
from tests.doctor.examining import document, examine, write
from tests.fakehost.hosts import FakeHost
from tests.host.looking import driver_root_of

OwnHost = Callable[[str], FakeHost]

NVIDIA = CHECKOUT / "tests/parity/reference/nvidia_ctk"
HOOK = "/usr/bin/nvidia-cdi-hook"
OUR_HOOK = "/usr/libexec/cdi-gen/cdi-gen-hook"
OURS = "/run/cdi/nvidia.json"
SEEN = f"/var{OURS}"
"""As engines name it."""
LOADED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.163.01  Tue Apr  8 12:41:17 UTC 2025"
GROUPS = ("specs", "engines", "security", "rootless", "kubernetes")


@cache
def specimen(inventory: str) -> str:
    """The spec that cdi-gen generates for an inventory."""
    return cdi_gen("generate", "--inventory", inventory).out


def with_spec(root: Path, path: str = OURS) -> Path:
    """Write a spec of one GPU to a file of a host, with the hook that it names."""
    if not (root / "var/run").exists():
        (root / "var").mkdir(parents=True, exist_ok=True)
        (root / "var/run").symlink_to("../run")
    for program in (OUR_HOOK, "/sbin/ldconfig"):
        write(root, program).chmod(0o755)
    return write(root, path, specimen(INVENTORY))


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host without a driver, with a spec of one GPU."""
    root = tmp_path / "host"
    with_spec(root)
    return root


def with_its_spec(fake: FakeHost) -> Path:
    """Write the spec of a fake host to a file of it."""
    file = with_spec(fake.root)
    where = ("--host-root", str(fake.root), "--driver-root", driver_root_of(fake))
    file.write_text(cdi_gen("generate", *where).out)
    return file


def with_nvidias_spec(root: Path, name: str = "8gpu") -> Path:
    """Install a spec of nvidia-ctk and the hook that it names, as root's."""
    file = with_spec(root)
    shutil.copy(NVIDIA / f"{name}.json", file)
    write(root, HOOK).chmod(0o755)
    return file


def edit(file: Path, change: Callable[[dict[str, object]], object]) -> None:
    spec = json.loads(file.read_text())
    change(spec)
    file.write_text(json.dumps(spec))


def faults(fake: FakeHost) -> dict[str, str]:
    """The checks that are not well, with their lines."""
    return {
        check["name"]: check["line"]
        for check in document(fake, *GROUPS)["checks"]
        if check["status"] not in {"ok", "not-applicable"}
    }


@pytest.mark.parametrize("name", ["550-8gpu", "550-mig56"])
def test_a_healthy_host_has_no_fault(own_host: OwnHost, name: str) -> None:
    fake = own_host(name)
    with_its_spec(fake)
    assert faults(fake) == {}


def test_a_host_with_nvidias_spec_has_only_the_faults_of_its_hook(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    with_nvidias_spec(fake.root)
    assert [*faults(fake)] == ["hook-limits"]


def test_differences_are_counted_by_file_and_code(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    with_its_spec(fake)
    for library in (fake.root / "usr/lib/x86_64-linux-gnu").glob("libnvidia-[eg]*"):
        library.unlink()
    result = examine(fake, "spec-freshness")
    assert result.status == "fault"
    (finding,) = result.findings
    assert finding.code == "CDG-V102"
    assert "does not exist; and " in finding.message
    assert finding.fix == "sudo cdi-gen refresh --force"


def test_a_host_without_specs(own_host: OwnHost) -> None:
    result = examine(own_host("550-8gpu"), "spec-freshness")
    assert (result.status, result.codes) == ("fault", ("CDG-V109",))


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("kind: [", "fault", "CDG-S003"),
        ("cdiVersion: 0.5.0\nkind: nvidia.com/gpu\ndevices: []\n", "warning", "CDG-S205"),
    ],
    ids=["for-every-engine", "for-some-engines"],
)
def test_an_invalid_file_is_named_with_its_problem(
    host: Path, text: str, status: str, code: str
) -> None:
    write(host, "/etc/cdi/broken.yaml", text)
    result = examine(host, "spec-validity")
    assert (result.status, result.codes) == (status, (code,))
    assert result.line.startswith("/etc/cdi/broken.yaml: ")
    assert "/etc/cdi/broken.yaml" in result.findings[0].fix


def test_files_of_one_directory_with_the_same_devices(host: Path) -> None:
    with_spec(host, "/run/cdi/other.json")
    finding = examine(host, "spec-conflicts").finding("CDG-F102")
    assert (
        "/var/run/cdi/nvidia.json and /var/run/cdi/other.json define nvidia.com/gpu=0"
        in finding.message
    )
    assert finding.fix == (
        "sudo rm /var/run/cdi/other.json  # /var/run/cdi/nvidia.json is the file that cdi-gen "
        "writes"
    )


def test_the_newer_of_two_foreign_files_stays(host: Path) -> None:
    for name, age in (("a", 10), ("b", 20)):
        os.utime(with_spec(host, f"/etc/cdi/{name}.json"), (1e9 - age, 1e9 - age))
    fix = examine(host, "spec-conflicts").finding("CDG-F102").fix
    assert fix == "sudo rm /etc/cdi/b.json  # /etc/cdi/a.json is the newest"


def test_an_older_file_that_is_overridden_completely_is_a_note(host: Path) -> None:
    with_spec(host, "/etc/cdi/nvidia.json")
    result = examine(host, "older-specs")
    assert (result.status, result.codes) == ("ok", ("CDG-F104",))


@pytest.mark.parametrize(
    ("mode", "code", "fix"),
    [
        (0o600, "CDG-F107", f"sudo chmod 644 {SEEN}"),
        (0o666, "CDG-F108", f"sudo chown root:root {SEEN} && sudo chmod 644 {SEEN}"),
    ],
)
def test_a_mode_that_engines_or_users_must_not_have(
    host: Path, mode: int, code: str, fix: str
) -> None:
    (host / OURS[1:]).chmod(mode)
    finding = examine(host, "spec-permissions").finding(code)
    assert (f"{mode:04o}" in finding.message, finding.fix) == (True, fix)


def test_a_directory_of_another_user(host: Path) -> None:
    os.chown((host / OURS[1:]).parent, 1000, 1000)
    finding = examine(host, "spec-permissions").finding("CDG-F005")
    assert "/var/run/cdi belongs to user 1000" in finding.message


def test_a_link_in_place_of_a_spec_is_a_note(host: Path) -> None:
    file = host / OURS[1:]
    file.rename(file.with_name("spec"))
    file.symlink_to("spec")
    assert examine(host, "spec-permissions").codes == ("CDG-A220",)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda hook: hook.unlink(), "CDG-V103"),
        (lambda hook: hook.chmod(0o644), "CDG-A230"),
        (lambda hook: hook.chmod(0o777), "CDG-G002"),
        (lambda hook: os.chown(hook.parent, 1000, 1000), "CDG-G002"),
    ],
    ids=["missing", "not-executable", "writable", "in-a-directory-of-a-user"],
)
def test_a_hook_that_cannot_be_used(
    host: Path, change: Callable[[Path], object], code: str
) -> None:
    with_nvidias_spec(host)
    change(host / HOOK.lstrip("/"))
    finding = examine(host, "hook-programs").finding(code)
    assert HOOK in finding.message
    assert "sudo cdi-gen hook install --prefix /usr --nvidia-cdi-hook" in finding.fix or (
        code == "CDG-A230" and finding.fix == f"sudo chmod 755 {HOOK}"
    )


def test_a_hook_without_environment(host: Path) -> None:
    file = with_nvidias_spec(host)
    edit(file, lambda spec: spec["containerEdits"]["hooks"][0].pop("env"))  # type: ignore[index]
    assert "LD_PRELOAD" in examine(host, "hook-programs").finding("CDG-S409").message


def test_a_link_to_our_hook_is_no_hook_of_nvidia(host: Path) -> None:
    with_nvidias_spec(host)
    hook = host / HOOK.lstrip("/")
    hook.unlink()
    shutil.copy2("/bin/true", write(host, "/usr/libexec/cdi-gen/nvidia-cdi-hook"))
    hook.symlink_to("../libexec/cdi-gen/nvidia-cdi-hook")
    assert examine(host, "hook-limits").status == "ok"


@pytest.mark.parametrize(
    ("unit", "codes"),
    [
        ((), ("CDG-A214",)),
        (("cdi-gen.service",), ()),
        (("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service"), ("CDG-A214",)),
        (("cdi-gen.service", "nvidia-cdi-refresh.service"), ("CDG-A213",)),
    ],
    ids=["none", "ours", "nvidias", "both"],
)
def test_the_units_that_write_specs(
    host: Path, unit: tuple[str, ...], codes: tuple[str, ...]
) -> None:
    write(host, "/proc/driver/nvidia/version", LOADED)
    (host / "run/systemd/system").mkdir(parents=True)
    for name in unit:
        wants = write(host, f"/etc/systemd/system/multi-user.target.wants/{name}")
        wants.unlink()
        wants.symlink_to(f"/usr/lib/systemd/system/{name}")
    assert examine(host, "refresh-units").codes == codes


def test_a_masked_unit_is_not_enabled(host: Path) -> None:
    write(host, "/proc/driver/nvidia/version", LOADED)
    (host / "run/systemd/system").mkdir(parents=True)
    write(host, "/etc/systemd/system/multi-user.target.wants/cdi-gen.service")
    (host / "etc/systemd/system/cdi-gen.service").symlink_to("/dev/null")
    assert examine(host, "refresh-units").codes == ("CDG-A214",)


def test_a_spec_directory_that_is_a_dead_link(own_host: OwnHost) -> None:
    """As when the disk that it leads to is not mounted; that the GPUs have no device follows."""
    fake = own_host("550-8gpu")
    assert examine(fake, "spec-directories").status == "ok"
    (fake.root / "etc/cdi").symlink_to("/data/cdi")
    finding = examine(fake, "spec-directories").finding("CDG-Y004")
    assert "/etc/cdi is a symbolic link to /data/cdi, which does not exist" in finding.message
    assert finding.fix == (
        "sudo rm /etc/cdi && sudo cdi-gen generate -o /etc/cdi/nvidia.json  # or mount the file "
        "system of /data/cdi"
    )
    assert faults(fake).keys() & {"spec-directories", "spec-freshness"} == {"spec-directories"}


def test_a_spec_directory_that_is_a_file(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    write(fake.root, "/etc/cdi")
    finding = examine(fake, "spec-directories").finding("CDG-F106")
    assert finding.fix.startswith("sudo rm /etc/cdi && sudo cdi-gen generate ")
    assert faults(fake).keys() & {"spec-directories", "spec-freshness", "spec-validity"} == {
        "spec-directories"
    }


def test_a_spec_file_that_is_a_dead_link(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    write(fake.root, "/etc/cdi/README")
    (fake.root / "etc/cdi/nvidia.json").symlink_to("/data/nvidia.json")
    finding = examine(fake, "spec-directories").finding("CDG-F107")
    assert "/etc/cdi/nvidia.json is a symbolic link to /data/nvidia.json" in finding.message
    assert finding.fix.startswith("sudo rm /etc/cdi/nvidia.json && ")


def test_a_spec_under_a_name_that_engines_do_not_read(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    write(fake.root, "/etc/cdi/README", "cdi-gen writes the spec here")
    assert examine(fake, "spec-directories").codes == ()
    write(fake.root, "/etc/cdi/nvidia.yml", 'cdiVersion: "0.5.0"\nkind: nvidia.com/gpu\n')
    finding = examine(fake, "spec-directories").finding("CDG-A223")
    assert finding.fix.startswith("sudo mv /etc/cdi/nvidia.yml /etc/cdi/nvidia.yml.yaml")


@pytest.mark.parametrize("cause", ["spec-conflicts", "spec-validity"])
def test_what_follows_from_another_fault_is_not_printed(own_host: OwnHost, cause: str) -> None:
    """That no spec has a device for the GPUs is no fault of its own."""
    fake = own_host("550-8gpu")
    file = with_its_spec(fake)
    if cause == "spec-conflicts":
        shutil.copy(file, file.with_name("other.json"))
    else:
        file.write_text("kind: [")
    assert faults(fake).keys() & {"spec-freshness", cause} == {cause}
    assert cause in examine(fake, "spec-freshness").line
