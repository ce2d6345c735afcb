# SPDX-License-Identifier: Apache-2.0
"""Whose containerd reads a file, and what is written where a distribution makes it of a template."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_gen.engines import containerd
from cdi_gen.engines.containerd.daemons import BASE
from cdi_gen.engines.plan import Plan, Request, Runtime
from cdi_gen.engines.text import toml_text
from cdi_gen.errors import CdiGenError

from .machine import CONTAINERD_FILE, Told, carried_out, notes, taken_back, warnings

SHIM = "/usr/bin/nvidia-container-runtime"
RUNTIME = Runtime("nvidia", SHIM)
V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"

MICROK8S = "/var/snap/microk8s/current/args/containerd-template.toml"
MICROK8S_PROGRAM = "/snap/microk8s/current/bin/containerd"
MICROK8S_TEXT = f"""\
version = 2
oom_score = 0

[grpc]
  uid = 0
  gid = 0

[plugins."{V2}"]
  sandbox_image = "registry.k8s.io/pause:3.10"
  [plugins."{V2}".containerd]
    snapshotter = "${{SNAPSHOTTER}}"
    default_runtime_name = "${{RUNTIME}}"
    [plugins."{V2}".containerd.runtimes.runc]
      runtime_type = "${{RUNTIME_TYPE}}"
    [plugins."{V2}".containerd.runtimes.kata]
      runtime_type = "io.containerd.kata.v2"
  [plugins."{V2}".cni]
    bin_dir = "${{SNAP_DATA}}/opt/cni/bin"
    conf_dir = "${{SNAP_DATA}}/args/cni-network"
  [plugins."{V2}".registry]
    config_path = "${{SNAP_DATA}}/args/certs.d"
"""

K3S = "/var/lib/rancher/k3s/agent/etc/containerd"
K3S_PROGRAM = "/var/lib/rancher/k3s/data/current/bin/containerd"
RKE2 = "/var/lib/rancher/rke2/agent/etc/containerd"


def plan(machine: Told, path: str | None, **wishes: Any) -> Plan:
    return containerd.plan(Request(configuration=path, **wishes), machine)


def test_microk8s_the_template_itself_is_changed_and_nothing_is_copied() -> None:
    """The containerd in PATH is another one, and of another version."""
    machine = Told({"containerd": "2.1.4", MICROK8S_PROGRAM: "1.7.28"}, {MICROK8S: MICROK8S_TEXT})
    found = plan(machine, MICROK8S, runtime=RUNTIME)
    made = carried_out(found, machine.texts)
    assert [*made] == [MICROK8S], "no drop-in, no import"
    assert f"{MICROK8S} belongs to MicroK8s, with containerd 1.7.28" in notes(found)
    assert found.restart == "snap restart microk8s.daemon-containerd"
    left = iter(made[MICROK8S].splitlines())
    assert all(line in left for line in MICROK8S_TEXT.splitlines())
    section = toml_text.parse(made[MICROK8S])["plugins"][V2]
    assert section["enable_cdi"] is True
    assert section["containerd"]["runtimes"]["nvidia"] == {
        "runtime_type": "${RUNTIME_TYPE}",
        "options": {"BinaryName": SHIM},
    }
    machine.texts = made
    back = plan(machine, MICROK8S, revert=True)
    assert taken_back(back, made, {MICROK8S: MICROK8S_TEXT}) == {MICROK8S: MICROK8S_TEXT}


def test_microk8s_what_it_makes_of_the_template_is_not_written_to() -> None:
    made = MICROK8S.replace("-template", "")
    machine = Told({MICROK8S_PROGRAM: "1.7.28"}, {made: "version = 2\n"})
    hand = plan(machine, made, runtime=RUNTIME).manual
    assert hand
    assert (hand.reason, hand.location) == ("is generated at every start", MICROK8S)


@pytest.mark.parametrize(
    ("version", "name", "key"),
    [("1.7.23", "config.toml.tmpl", V2), ("2.0.4", "config-v3.toml.tmpl", V3)],
)
@pytest.mark.parametrize("directory", [K3S, RKE2])
def test_k3s_and_rke2_generate_their_configuration_at_every_start(
    version: str, name: str, key: str, directory: str
) -> None:
    """The message says what to write, and in which of the two templates."""
    program = f"{directory.removesuffix('/agent/etc/containerd')}/data/x/bin/containerd"
    path = f"{directory}/config.toml"
    machine = Told(
        {"containerd": "1.6.20", program: version}, {path: "version = 2\nimports = []\n"}
    )
    hand = plan(machine, path, runtime=RUNTIME).manual
    assert hand
    assert hand.reason == "is generated at every start"
    assert hand.location.startswith(f"{directory}/{name}, after the line {BASE}; or let ")
    said = toml_text.parse(hand.text)["plugins"][key]
    assert said["containerd"]["runtimes"]["nvidia"]["options"] == {"BinaryName": SHIM}
    assert ("enable_cdi" in said) == (version == "1.7.23")


@pytest.mark.parametrize("name", ["config.toml.tmpl", "config-v3.toml.tmpl"])
def test_a_template_with_actions_is_no_toml(name: str) -> None:
    path = f"{K3S}/{name}"
    text = '{{ template "base" . }}\n[plugins."x"]\n  a = {{ .NodeConfig.SELinux }}\n'
    machine = Told({K3S_PROGRAM: "2.0.4"}, {path: text})
    hand = plan(machine, path, runtime=RUNTIME).manual
    assert hand
    assert (hand.path, hand.reason, hand.location) == (path, "is a template", path)
    assert carried_out(plan(machine, path, revert=True), machine.texts) == {}


@pytest.mark.parametrize("directory", [K3S, RKE2])
@pytest.mark.parametrize("version", ["1.7.23", "2.0.4"])
@pytest.mark.parametrize(("name", "key"), [("config.toml.tmpl", V2), ("config-v3.toml.tmpl", V3)])
def test_a_template_that_is_not_there_yet_begins_with_the_base(
    name: str, key: str, version: str, directory: str
) -> None:
    """Made of our tables alone it would take the place of all that k3s tells its containerd.

    The version is the template's, whichever containerd reads it: 2 reads both.
    """
    path = f"{directory}/{name}"
    program = f"{directory.removesuffix('/agent/etc/containerd')}/data/x/bin/containerd"
    machine = Told({program: version})
    found = plan(machine, path, runtime=RUNTIME)
    assert not found.changes
    assert found.manual
    assert found.manual.location == f"{path}, a new file, after a first line {BASE}"
    assert [*toml_text.parse(found.manual.text)["plugins"]] == [key]
    machine.texts = {path: f"{BASE}\n"}
    there = plan(machine, path, runtime=RUNTIME).manual
    assert there
    assert (there.location, there.text) == (path, found.manual.text)


@pytest.mark.parametrize(
    ("said", "key"), [("version = 2", V2), ("version = 3 # of 2.0", V3), ("", "cri")]
)
def test_a_template_without_base_has_the_version_that_it_says(said: str, key: str) -> None:
    path = f"{K3S}/config.toml.tmpl"
    text = f'{said}\nroot = "{{{{ .NodeConfig.Containerd.Root }}}}"\n'
    program = "2.0.4" if key == V3 else "1.7.23"
    hand = plan(Told({K3S_PROGRAM: program}, {path: text}), path, runtime=RUNTIME).manual
    assert hand
    assert [*toml_text.parse(hand.text)["plugins"]] == [key]


def test_a_template_that_is_toml_is_changed_itself() -> None:
    path = f"{K3S}/config.toml.tmpl"
    text = f'version = 2\n[plugins."{V2}".cni]\nbin_dir = "/var/lib/rancher/k3s/data/current/bin"\n'
    machine = Told({K3S_PROGRAM: "1.7.23", "containerd": "2.1.4"}, {path: text})
    made = carried_out(plan(machine, path, runtime=RUNTIME), machine.texts)
    assert [*made] == [path]
    assert made[path].startswith(text)


def test_actions_in_a_comment_are_none() -> None:
    text = "version = 2\n# see {{ template }} and ${X}\n"
    machine = Told({"containerd": "1.7.24"}, {CONTAINERD_FILE: text})
    assert len(carried_out(plan(machine, None), machine.texts)) == 2


def test_a_variable_makes_a_template_wherever_it_is() -> None:
    text = f'version = 2\n[plugins."{V2}"]\nsandbox_image = "${{IMAGE}}"\n'
    machine = Told({"containerd": "1.7.24"}, {"/opt/x/base.toml": text})
    assert [*carried_out(plan(machine, "/opt/x/base.toml"), machine.texts)] == ["/opt/x/base.toml"]


def test_k0s_as_long_as_it_writes_the_file() -> None:
    path = "/etc/k0s/containerd.toml"
    managed = "# k0s_managed=true\nversion = 2\nimports = ['/run/k0s/containerd-cri.toml']\n"
    machine = Told({"/var/lib/k0s/bin/containerd": "1.7.27"}, {path: managed})
    hand = plan(machine, path, runtime=RUNTIME).manual
    assert hand
    assert hand.location == "/etc/k0s/containerd.d/nvidia.toml"
    own = {path: managed.replace("# k0s_managed=true\n", "")}
    machine = Told({"/var/lib/k0s/bin/containerd": "1.7.27"}, own)
    assert path in carried_out(plan(machine, path, runtime=RUNTIME), own)


def test_dockers_own_is_dockerds() -> None:
    path = "/run/docker/containerd/containerd.toml"
    hand = plan(
        Told({"containerd": "1.7.24"}, {path: "version = 2\n"}), path, runtime=RUNTIME
    ).manual
    assert hand
    assert "engine configure docker" in hand.location


@pytest.mark.parametrize("path", [MICROK8S, f"{K3S}/config.toml", "/etc/k0s/containerd.toml"])
def test_a_distributions_containerd_that_is_not_found_is_asked_for(path: str) -> None:
    machine = Told({"containerd": "1.7.24"}, {path: "version = 2\n"})
    with pytest.raises(CdiGenError, match="whose containerd is not found") as told:
        plan(machine, path, runtime=RUNTIME)
    assert "--executable-path" in (told.value.hint or "")
    machine.versions["/opt/k/containerd"] = "1.7.1"
    plan(machine, path, runtime=RUNTIME, executable="/opt/k/containerd")
    plan(machine, path, revert=True)


def test_of_two_containerds_it_is_the_one_that_runs_with_the_file() -> None:
    path = "/opt/x/config.toml"
    files = {path: "version = 2\n"}
    versions = {"containerd": "1.7.24", "/opt/x/containerd": "2.1.4"}
    ambiguous = Told(versions, files, running={"/opt/x/containerd": ("containerd",)})
    with pytest.raises(
        CdiGenError, match="could be read by /usr/bin/containerd or /opt/x/containerd"
    ):
        plan(ambiguous, path, runtime=RUNTIME)
    for words in (("containerd", "--config", path), ("x", f"--config={path}"), ("x", "-c", path)):
        machine = Told(versions, files, running={"/opt/x/containerd": words})
        made = carried_out(plan(machine, path, runtime=RUNTIME), files)
        carried = "enable_cdi" in made["/opt/x/conf.d/99-nvidia.toml"]
        assert not carried, "containerd 2.1 enables CDI by default"
    told = plan(ambiguous, path, runtime=RUNTIME, executable="/usr/bin/containerd")
    assert "enable_cdi" in carried_out(told, files)["/opt/x/conf.d/99-nvidia.toml"]
    # Nobody needs to know for what is taken back.
    plan(ambiguous, path, revert=True)


VERSION_1 = 'version = 1\n[plugins.cri]\nsandbox_image = "p"\n'


@pytest.mark.parametrize(
    ("containerd_version", "text", "version"),
    [
        ("2.3.1", VERSION_1, None),
        ("2.2.0", VERSION_1, 3),
        ("2.3.1", VERSION_1.replace("version = 1\n", ""), 3),
        ("2.3.1", VERSION_1.replace("1", "2", 1), 2),
        ("2.3.1", VERSION_1.replace("1", "4", 1), 4),
    ],
)
def test_no_drop_in_is_newer_than_the_file_that_imports_it(
    containerd_version: str, text: str, version: int | None
) -> None:
    """containerd 2.3 does not start then; it reads version 1's own table again."""
    files = {CONTAINERD_FILE: text}
    made = carried_out(
        plan(Told({"containerd": containerd_version}, files), None, runtime=RUNTIME), files
    )
    if version is None:
        assert [*made] == [CONTAINERD_FILE]
        assert (
            "nvidia"
            in toml_text.parse(made[CONTAINERD_FILE])["plugins"]["cri"]["containerd"]["runtimes"]
        )
    else:
        assert toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])["version"] == version


def test_the_first_version_that_a_file_says_counts_for_all() -> None:
    """A root that says none takes that of the first file that it imports."""
    other = "/etc/containerd/conf.d/10-other.toml"
    files = {
        CONTAINERD_FILE: 'imports = ["/etc/containerd/conf.d/*.toml"]\n',
        other: "version = 2\n",
    }
    made = carried_out(plan(Told({"containerd": "2.3.1"}, files), None, runtime=RUNTIME), files)
    assert toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])["version"] == 2


KUBESPRAY = f"""\
version = 3
[plugins."{V3}".containerd]
default_runtime_name = "runc"
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."{V3}".containerd.runtimes.runc.options]
binaryName = "/usr/local/bin/runc"
systemdCgroup = true
"""


@pytest.mark.parametrize("version", ["2.0.4", "2.1.4"])
def test_kubesprays_spelling_is_replaced(version: str) -> None:
    files = {CONTAINERD_FILE: KUBESPRAY}
    made = carried_out(plan(Told({"containerd": version}, files), None, runtime=RUNTIME), files)
    said = toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])["plugins"][V3]
    options = said["containerd"]["runtimes"]["nvidia"]["options"]
    assert options == {"BinaryName": SHIM, "systemdCgroup": True}


def test_an_entry_that_is_merged_into_keeps_its_spelling() -> None:
    """A drop-in cannot take a key of another file away: it must set the very same."""
    theirs = KUBESPRAY + KUBESPRAY.partition("default_runtime_name")[2].partition("\n")[2].replace(
        ".runc", ".nvidia"
    ).replace("runtime_type", "Runtime_Type").replace("systemdCgroup", "SYSTEMDCGROUP")
    files = {CONTAINERD_FILE: theirs}
    made = carried_out(plan(Told({"containerd": "2.1.4"}, files), None, runtime=RUNTIME), files)
    said = toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])["plugins"][V3]
    assert said["containerd"]["runtimes"]["nvidia"] == {
        "Runtime_Type": "io.containerd.runc.v2",
        "base_runtime_spec": "/etc/containerd/cri-base.json",
        "options": {"binaryName": SHIM, "SYSTEMDCGROUP": True},
    }


def test_any_key_in_any_case() -> None:
    text = f"""\
Version = 3
Imports = ["/etc/containerd/conf.d/*.toml"]
[plugins."{V3}"]
Enable_CDI = false
[plugins."{V3}".Containerd]
Default_Runtime_Name = "runc"
[plugins."{V3}".Containerd.Runtimes.runc]
Runtime_type = "io.containerd.runc.v2"
"""
    files = {CONTAINERD_FILE: text}
    runtime = RUNTIME._replace(default=True)
    made = carried_out(plan(Told({"containerd": "2.1.4"}, files), None, runtime=runtime), files)
    assert [*made] == ["/etc/containerd/conf.d/99-nvidia.toml"], "it is imported already"
    said = toml_text.parse(made["/etc/containerd/conf.d/99-nvidia.toml"])
    assert said == {
        "version": 3,
        "plugins": {
            V3: {
                "Enable_CDI": True,
                "Containerd": {
                    "Default_Runtime_Name": "nvidia",
                    "Runtimes": {
                        "nvidia": {
                            "Runtime_type": "io.containerd.runc.v2",
                            "options": {"BinaryName": SHIM},
                        }
                    },
                },
            }
        },
    }


def test_directories_that_are_none() -> None:
    text = f'version = 3\n[plugins."{V3}"]\ncdi_spec_dirs = {{}}\n'
    for directories, told in (
        ("[]", True), ('["/opt/cdi"]', True), ('["/etc/cdi/"]', False), ('["/run/cdi"]', False),
        ('["/etc//cdi"]', False),
    ):  # fmt: skip
        files = {CONTAINERD_FILE: text.format(directories)}
        found = plan(Told({"containerd": "2.1.4"}, files), None)
        assert any("does not read specs in /etc/cdi" in each for each in warnings(found)) == told
