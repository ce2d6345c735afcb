# SPDX-License-Identifier: Apache-2.0
"""What is decided for an engine of an unknown version: a program that prints none, or no program.

CDI is assumed to be supported, and what only some versions need is written too: a setting that is
not needed does no harm, one that is missing does.
"""

from __future__ import annotations

import json

import pytest

from cdi_gen import engines
from cdi_gen.engines import containerd, docker, nerdctl, podman
from cdi_gen.engines.containerd import runtimes, versions
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.text import toml_text

from .machine import CONTAINERD_FILE, Told, carried_out, warnings

SHIM = Runtime("nvidia", "/usr/bin/nvidia-container-runtime")
DROP_IN = "/etc/containerd/conf.d/99-nvidia.toml"


class WithoutVersions(Told):
    """Its programs print no version."""

    def output(self, *command: str) -> str | None:
        return "devel"


@pytest.mark.parametrize("name", engines.NAMES)
def test_cdi_is_assumed_to_be_supported(name: str) -> None:
    plan = engines.engine(name).plan(Request(), Told())
    assert not any("does not support CDI" in message for message in warnings(plan))
    program = {"docker": "dockerd"}.get(name, name)
    for status in engines.engine(name).statuses(WithoutVersions({program: ""})):
        assert status.version is None
        assert status.cdi == ("unknown" if name in {"docker", "containerd"} else "on")
        assert status.spec_directories == ("/etc/cdi", "/var/run/cdi")


def test_docker_gets_the_feature_and_a_users_daemon_its_directories() -> None:
    plan = docker.plan(Request(rootless=True), Told(uid=1000))
    (text,) = carried_out(plan, {}).values()
    assert json.loads(text)["features"] == {"cdi": True}
    assert "/run/user/1000/cdi" in json.loads(text)["cdi-spec-dirs"]


def test_docker_is_assumed_to_take_gpus_by_cdi() -> None:
    (status,) = docker.statuses(Told({"dockerd": ""}))
    assert "does not find nvidia-cdi-hook" in status.findings[-1].message


def test_containerd_gets_version_2_with_cdi_and_runc_in_a_drop_in_that_carries_all() -> None:
    files = {CONTAINERD_FILE: 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nx = 1\n'}
    plan = containerd.plan(Request(runtime=SHIM), Told(files=files))
    drop_in = toml_text.parse(carried_out(plan, files)[DROP_IN])
    assert drop_in["version"] == 2
    section = drop_in["plugins"]["io.containerd.grpc.v1.cri"]
    assert section["enable_cdi"] is True
    assert section["x"] == 1, "the drop-in replaces the section in an old version"
    assert {*section["containerd"]["runtimes"]} == {"runc", "nvidia"}


def test_a_new_file_of_containerd_has_version_2() -> None:
    assert versions.file_version(None, None) == 2
    drop_in = carried_out(containerd.plan(Request(runtime=SHIM), Told()), {})[DROP_IN]
    assert toml_text.parse(drop_in)["version"] == 2


def test_containerd_is_assumed_to_take_the_last_of_two_spellings() -> None:
    options = {"BinaryName": "/first", "binaryName": "/last"}
    assert runtimes.binary_name({"options": options}, None) == "/last"
    assert runtimes.binary_name({"options": options}, "2.0.0") == "/last"
    assert runtimes.binary_name({"options": options}, "1.7.28") == "/first"


def test_containerd_is_not_warned_of_the_table_that_only_an_old_one_reads() -> None:
    text = (
        'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd.default_runtime]\n'
        'runtime_type = "x"\n'
    )
    request = Request(runtime=SHIM._replace(default=True))
    told = {
        version: warnings(
            containerd.plan(
                request, Told({"containerd": version} if version else {}, {CONTAINERD_FILE: text})
            )
        )
        for version in ("", "1.7.28", "2.0.0")
    }
    has_warning = {key: any("default_runtime," in each for each in told[key]) for key in told}
    assert has_warning == {"": False, "1.7.28": True, "2.0.0": False}


def test_a_file_of_version_1_is_edited_itself() -> None:
    """Only from 2.0 on is the section of version 1 not read."""
    text = "version = 1\n[plugins.cri]\nx = 1\n"
    plan = containerd.plan(Request(), Told(files={CONTAINERD_FILE: text}))
    assert [change.path for change in plan.changes] == [CONTAINERD_FILE]


def test_a_users_podman_is_assumed_to_read_the_directories_that_it_is_told() -> None:
    plan = podman.plan(Request(rootless=True), Told(uid=1000))
    assert warnings(plan) == ()
    (text,) = carried_out(plan, {}).values()
    directories = toml_text.parse(text)["engine"]["cdi_spec_dirs"]
    assert directories == ["/etc/cdi", "/var/run/cdi", "/run/user/1000/cdi"]


def test_a_users_nerdctl_gets_its_directories() -> None:
    (text,) = carried_out(nerdctl.plan(Request(rootless=True), Told(uid=1000)), {}).values()
    assert "/run/user/1000/cdi" in toml_text.parse(text)["cdi_spec_dirs"]
