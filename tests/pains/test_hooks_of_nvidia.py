# SPDX-License-Identifier: Apache-2.0
"""Hooks of NVIDIA's toolkit: containers, engines and hosts for which they do not work."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from cdi_base.findings import Finding
from cdi_gen.doctor.engine_statuses import finding_of
from tests.cli.program import cdi_gen
from tests.doctor.examining import examine, write
from tests.doctor.test_spec_checks import HOOK, edit, with_its_spec, with_nvidias_spec, with_spec
from tests.fakehost.hosts import FakeHost
from tests.pains import pain
from tests.pains.following import follow

OwnHost = Callable[[str], FakeHost]

USER = 1000


def with_hooks_of_nvidia(own_host: OwnHost) -> tuple[FakeHost, Path]:
    """A host with the spec that nvidia-ctk 1.20 writes for it, and the spec's file."""
    fake = own_host("550-8gpu")
    return fake, with_nvidias_spec(fake.root)


def hooks_of(spec: Path) -> list[str]:
    """The programs and steps of a spec's hooks."""
    hooks = json.loads(spec.read_text())["containerEdits"].get("hooks", ())
    return [" ".join((os.path.basename(hook["path"]), hook["args"][1])) for hook in hooks]


@pain(
    35,
    "failed to create application profiles directory: mkdirat etc/nvidia/"
    "nvidia-application-profiles-rc.d: read-only file system",
    command="cdi-gen doctor hook-limits",
    codes=("CDG-A231",),
    simulated=True,
)
def test_a_hook_that_writes_to_a_read_only_directory(own_host: OwnHost) -> None:
    fake, spec = with_hooks_of_nvidia(own_host)
    assert "nvidia-cdi-hook update-application-profile" in hooks_of(spec)

    finding = examine(fake, "hook-limits").finding("CDG-A231")
    assert "fails where /etc/nvidia is a read-only mount" in finding.message

    follow(finding.fix, fake)
    # The hook leaves the step out there: tests/hook.
    assert hooks_of(spec) == ["cdi-gen-hook create-container"]
    assert examine(fake, "hook-limits").codes == ()


def limits_for_a_user(root: Path) -> tuple[Finding, ...]:
    """The findings about hooks for an ordinary user, to whom pytest closes its directories."""
    for directory in (root, *root.parents[:4]):
        directory.chmod(directory.stat().st_mode | stat.S_IXOTH)
    words = ("doctor", "hook-limits", "--json", "--host-root", str(root))
    result = cdi_gen(*words, user=USER, group=USER, extra_groups=[])
    assert result.out, result
    (check,) = json.loads(result.out)["checks"]
    return tuple(map(finding_of, check["findings"]))


@pain(
    36,
    "error running createContainer hook: … update-ldcache: error mounting /proc: operation not permitted",
    command="cdi-gen doctor hook-limits",
    codes=("CDG-A232",),
    simulated=True,
)
def test_a_hook_that_mounts_proc_in_a_nested_rootless_container(own_host: OwnHost) -> None:
    fake, spec = with_hooks_of_nvidia(own_host)
    assert "CDG-A232" not in [finding.code for finding in limits_for_a_user(fake.root)]
    # As in a container, whose engine hides parts of procfs.
    masked = "60 50 0:52 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw,size=65536k\n"
    write(fake.root, "/proc/self/mountinfo", masked)

    (finding,) = (each for each in limits_for_a_user(fake.root) if each.code == "CDG-A232")
    assert "mounts a procfs" in finding.message
    assert "/proc/kcore" in finding.message
    assert "CDG-A232" not in examine(fake, "hook-limits").codes, "root may mount it"

    follow(finding.fix, fake)
    assert hooks_of(spec) == ["cdi-gen-hook create-container"]
    assert limits_for_a_user(fake.root) == ()


@pain(
    37,
    "apptainer: libcuda.so.1: cannot open shared object file (nvidia-smi works)",
    command="cdi-gen doctor hook-limits",
    codes=("CDG-A233",),
    simulated=True,
)
def test_an_engine_that_runs_no_hooks(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    spec = with_its_spec(fake)
    write(fake.root, "/usr/bin/apptainer").chmod(0o755)
    text = spec.read_text()
    assert f"libcuda.so.{fake.driver_version}::" in text.replace('", "', "::")
    assert '"/usr/lib/x86_64-linux-gnu/libcuda.so.1"' not in text, "only the hook makes the link"

    finding = examine(fake, "hook-limits").finding("CDG-A233")
    assert finding.subject == "/usr/bin/apptainer"

    follow(finding.fix, fake)
    assert "hooks" not in json.loads(spec.read_text())["containerEdits"]
    assert '"/usr/lib/x86_64-linux-gnu/libcuda.so.1"' in spec.read_text()
    assert examine(fake, "hook-limits").status == "not-applicable"


@pain(
    39,
    "nvidia-container-cli: ldcache error: open failed: /sbin/ldconfig: no such file or directory",
    command="cdi-gen doctor hook-limits",
    codes=("CDG-K101",),
    simulated=True,
)
def test_a_host_without_ldconfig(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    spec = with_its_spec(fake)
    (fake.root / "sbin/ldconfig").unlink()

    finding = examine(fake, "hook-limits").finding("CDG-K101")
    assert "/sbin/ldconfig does not exist" in finding.message

    follow(finding.fix, fake)
    assert hooks_of(spec) == []
    assert examine(fake, "hook-limits").status == "not-applicable"


STORE = "/nix/store/7n3q2b0c-glibc-2.39/lib"
SOURCE = 'int puts(const char *); int main(void) { return puts("GPU 0") < 0; }\n'


@pain(
    40,
    "exec /usr/bin/nvidia-smi: no such file or directory (the file exists)",
    command="cdi-gen doctor mounted-programs",
    codes=("CDG-A236",),
    simulated=True,
)
def test_a_program_with_a_loader_of_the_nix_store(tmp_path: Path) -> None:
    host, container = tmp_path / "host", tmp_path / "container"
    spec = with_spec(host)
    program = write(host, "/usr/bin/nvidia-smi")
    build = ["cc", "-x", "c", "-", "-o", str(program), f"-Wl,--dynamic-linker={STORE}/ld-linux.so"]
    subprocess.run(build, input=SOURCE, text=True, check=True)
    assert "/usr/bin/nvidia-smi" in spec.read_text()
    # What a container of a usual image has, with the program that the spec mounts.
    for path in (
        "/usr/bin/nvidia-smi",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ):
        source = host / path[1:] if path.startswith("/usr") else Path(path)
        shutil.copy(source, write(container, path))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        enter = ["chroot", str(container), *command]
        return subprocess.run(enter, check=False, capture_output=True, text=True)

    assert "No such file or directory" in run("/usr/bin/nvidia-smi").stderr
    finding = examine(host, "mounted-programs").finding("CDG-A236")
    assert f"{STORE}/ld-linux.so" in finding.message
    assert run(*finding.fix.partition("  #")[0].split()).stdout == "GPU 0\n"


@pain(
    41,
    "CVE-2025-23266: a container image runs code as root on the host through LD_PRELOAD",
    command="cdi-gen doctor hook-programs",
    codes=("CDG-S409", "CDG-G002"),
    simulated=True,
)
def test_hooks_that_images_and_users_can_attack(own_host: OwnHost) -> None:
    fake, spec = with_hooks_of_nvidia(own_host)
    edit(spec, lambda document: document["containerEdits"]["hooks"][0].pop("env"))  # type: ignore[index]
    (fake.root / HOOK[1:]).chmod(0o775)

    result = examine(fake, "hook-programs")
    assert "LD_PRELOAD" in result.finding("CDG-S409").message
    unsafe = result.finding("CDG-G002")
    assert "can be written to by others (mode 0775)" in unsafe.message

    follow(unsafe.fix, fake)
    follow(result.finding("CDG-S409").fix, fake)
    assert all(hook["env"] for hook in json.loads(spec.read_text())["containerEdits"]["hooks"])
    assert examine(fake, "hook-programs").codes == ()
