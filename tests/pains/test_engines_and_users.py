# SPDX-License-Identifier: Apache-2.0
"""Engines that do not see the specs, old specs that live on, and users without rights."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.cli.program import cdi_gen
from tests.doctor.examining import USER, examine, examine_as_user, opened, write
from tests.doctor.test_spec_checks import HOOK, with_its_spec, with_nvidias_spec
from tests.fakehost.hosts import FakeHost
from tests.pains import pain
from tests.pains.following import follow

OwnHost = Callable[[str], FakeHost]

RENDER = 104


def with_package(root: Path, program: str, package: str, version: str) -> None:
    """Install a program of a Debian package, which is not run."""
    write(root, program).chmod(0o755)
    entry = f"Package: {package}\nStatus: install ok installed\nVersion: {version}\n\n"
    write(root, "/var/lib/dpkg/status", entry)


@pain(
    11,
    "crun: cannot stat /usr/lib/x86_64-linux-gnu/libcuda.so.535.161.07 (for some device names only)",
    command="cdi-gen doctor older-specs",
    codes=("CDG-A202",),
    simulated=True,
)
def test_an_old_spec_whose_other_names_live_on(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    new = with_its_spec(fake)
    old = json.loads(new.read_text().replace(fake.driver_version, "535.161.07"))
    old["devices"].append(old["devices"][0] | {"name": "gpu0"})
    file = write(fake.root, "/etc/cdi/nvidia.yaml", json.dumps(old))
    listed = cdi_gen(
        "list", "--spec-dir", str(fake.root / "etc/cdi"), "--spec-dir", str(new.parent)
    )
    assert "nvidia.com/gpu=gpu0" in listed.out

    finding = examine(fake, "older-specs").finding("CDG-A202")
    assert "nvidia.com/gpu=gpu0 is still taken from the older file" in finding.message

    follow(finding.fix, fake)
    assert not file.exists()
    assert examine(fake, "older-specs").codes == ()
    assert examine(fake, "spec-freshness").codes == ()


@pain(
    12,
    "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all (nvidia-ctk cdi "
    "list shows the device)",
    command="cdi-gen doctor engine-directories",
    codes=("CDG-A201",),
    simulated=True,
)
def test_a_podman_that_reads_one_directory_only(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    with_its_spec(fake)
    with_package(fake.root, "/usr/bin/podman", "podman", "5.5.2+ds1-1")

    finding = examine(fake, "engine-directories").finding("CDG-A201")
    assert (
        "podman 5.5.2 reads specs only in /etc/cdi, and the specs are in /var/run/cdi"
        in finding.message
    )

    follow(finding.fix, fake)
    assert (fake.root / "etc/cdi/nvidia.json").exists()
    result = examine(fake, "engine-directories")
    assert (result.status, result.codes) == ("ok", ("CDG-E115",))


@pain(
    13,
    "could not select device driver / unresolvable CDI devices, with a rootless engine only",
    command="cdi-gen doctor engine-directories",
    codes=("CDG-A201",),
    simulated=True,
)
def test_a_rootless_engine_that_reads_the_users_directories_only(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    with_its_spec(fake)
    with_package(fake.root, "/usr/local/bin/nerdctl", "nerdctl", "2.1.3")
    user = {"HOME": "/home/user", "XDG_RUNTIME_DIR": f"/run/user/{USER}"}
    assert examine(fake, "engine-directories").codes == (), "root's reads it"

    finding = examine_as_user(fake.root, "engine-directories", **user).finding("CDG-A201")
    assert "rootless nerdctl 2.1.3 reads specs only in" in finding.message
    assert finding.fix == f"cdi-gen generate -o /run/user/{USER}/cdi/nvidia.json"

    follow(finding.fix, fake)
    assert examine_as_user(fake.root, "engine-directories", **user).codes == ()


@pain(
    38,
    "nvidia-smi: not found / libcuda.so.1: not found, in Alpine and distroless images only",
    command="cdi-gen doctor hook-limits",
    codes=("CDG-A234",),
    simulated=True,
)
def test_a_hook_that_knows_only_the_cache_of_glibc(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    spec = with_nvidias_spec(fake.root)
    with_package(fake.root, HOOK, "nvidia-container-toolkit-base", "1.17.4-1")

    finding = examine(fake, "hook-limits").finding("CDG-A234")
    assert "nvidia-cdi-hook 1.17.4 makes no loader cache in images" in finding.message

    follow(finding.fix, fake)
    # What this hook does in such images: tests/hook and tests/engine.
    assert "cdi-gen-hook" in spec.read_text()
    assert examine(fake, "hook-limits").codes == ()


@pain(
    42,
    "error executing hook `/usr/bin/nvidia-cdi-hook`: No such file or directory",
    command="cdi-gen doctor hook-programs",
    codes=("CDG-V103",),
    simulated=True,
)
def test_a_hook_program_that_does_not_exist(own_host: OwnHost) -> None:
    fake = own_host("550-8gpu")
    with_nvidias_spec(fake.root)
    (fake.root / HOOK[1:]).unlink()

    finding = examine(fake, "hook-programs").finding("CDG-V103")
    assert "no container with the devices starts" in finding.message

    follow(finding.fix, fake)
    assert os.access(fake.root / HOOK[1:], os.X_OK)
    assert examine(fake, "hook-programs").codes == ()


@pain(
    46,
    "Failed to open /dev/dri/renderD128: Permission denied",
    command="cdi-gen doctor node-groups",
    codes=("CDG-A252",),
    simulated=True,
)
def test_nodes_that_are_open_to_a_group_only(own_host: OwnHost) -> None:
    fake = own_host("550-1gpu")
    write(fake.root, "/etc/passwd", f"user:x:{USER}:{USER}::/home/user:/bin/sh\n")
    write(fake.root, "/etc/group", f"render:x:{RENDER}:\n")
    for node in (fake.root / "dev/dri").glob("*[0-9]"):
        os.chown(node, 0, RENDER)
        node.chmod(0o660)
    command = ["sh", "-c", f": <{opened(fake.root)}/dev/dri/renderD128"]
    reading = subprocess.run(
        command, user=USER, group=USER, extra_groups=[], capture_output=True, text=True, check=False
    )
    assert "Permission denied" in reading.stderr

    finding = examine_as_user(fake.root, "node-groups").finding("CDG-A252")
    assert "user is not in the group render" in finding.message
    assert "--group-add keep-groups" in finding.fix

    follow(finding.fix, fake, usermod=f"sed -i s/:{RENDER}:/:{RENDER}:$3/ $HOST/etc/group")
    result = examine_as_user(fake.root, "node-groups")
    assert (result.status, [finding.severity for finding in result.findings]) == ("ok", ["info"])
