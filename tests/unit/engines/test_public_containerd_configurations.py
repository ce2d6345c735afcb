# SPDX-License-Identifier: Apache-2.0
"""Configurations of containerd as people have them: each modelled on a public report or file, which it names.

Its own programs read them before and after in `tests/engine/configuration`.
"""

from __future__ import annotations

import pytest

from cdi_gen.engines import containerd
from cdi_gen.engines.plan import Request, Runtime
from cdi_gen.engines.text import toml_text

from .machine import CONTAINERD_FILE, Told, carried_out, taken_back, warnings
from .public_files import CONTAINERD, SHIM, V2

RUNTIME = Runtime("nvidia", SHIM)


def test_an_image_of_amazons_that_has_it_already() -> None:
    """awslabs/amazon-eks-ami: nodeadm writes the runtime, the default, of the same program."""
    text = CONTAINERD["nvidia alone"].replace("[plugins]", "[plugins]", 1)
    files = {CONTAINERD_FILE: text}
    machine = Told({"containerd": "2.1.4", "runc": "1.3"}, files)
    found = containerd.plan(Request(runtime=RUNTIME._replace(default=True)), machine)
    assert carried_out(found, files) == {}


def test_k3s_templates_of_a_jetson() -> None:
    """NVIDIA/nvidia-docker#1468: Go's actions among version 1's tables."""
    path = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml.tmpl"
    text = (
        '[plugins.opt]\n  path = "{{ .NodeConfig.Containerd.Opt }}"\n[plugins.cri]\n'
        "  enable_selinux = {{ .NodeConfig.SELinux }}\n{{- if .IsRunningInUserNS }}\n"
        "  disable_cgroup = true\n{{end}}\n"
    )
    versions = {"/var/lib/rancher/k3s/data/current/bin/containerd": "1.7.23"}
    found = containerd.plan(
        Request(configuration=path, runtime=RUNTIME), Told(versions, {path: text})
    )
    assert found.manual
    assert found.manual.location == path


def test_k0s_drop_in_of_nvidias_operator() -> None:
    """NVIDIA/nvidia-container-toolkit#1016: the file that is named is one that k0s puts together."""
    path = "/etc/k0s/containerd.d/nvidia.toml"
    machine = Told({"/var/lib/k0s/bin/containerd": "1.7.27", "containerd": "2.1.4"})
    made = carried_out(containerd.plan(Request(configuration=path, runtime=RUNTIME), machine), {})
    assert [*made] == [path]
    said = toml_text.parse(made[path])
    assert said["version"] == 2
    assert said["plugins"][V2]["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"] == SHIM
    back = containerd.plan(Request(configuration=path, revert=True), Told({}, made))
    assert taken_back(back, made, {})[path] == ""


def test_microk8s_beside_docker() -> None:
    """NVIDIA/gpu-operator#1367: it got the configuration of Docker's containerd."""
    path = "/var/snap/microk8s/current/args/containerd-template.toml"
    text = f'version = 2\n[plugins."{V2}".containerd]\nsnapshotter = "${{SNAPSHOTTER}}"\n'
    files = {path: text, CONTAINERD_FILE: 'disabled_plugins = ["cri"]\n'}
    machine = Told(
        {"/snap/microk8s/current/bin/containerd": "1.6.36", "containerd": "1.7.24"}, files
    )
    found = containerd.plan(Request(configuration=path, runtime=RUNTIME), machine)
    made = carried_out(found, files)
    assert [*made] == [path]
    assert "imports" not in made[path]
    assert "disabled_plugins" not in made[path]
    assert "enable_cdi" not in made[path], "containerd 1.6 knows no CDI, and it is the one"


def test_a_default_runtime_of_the_old_form() -> None:
    """k0sproject/k0s#1254: the table has a type, and counts before the name."""
    text = f"""\
version = 2
[plugins."{V2}".containerd.default_runtime]
runtime_type = "io.containerd.runc.v2"
[plugins."{V2}".containerd.default_runtime.options]
BinaryName = "runc"
"""
    files = {CONTAINERD_FILE: text}
    wishes = Request(runtime=RUNTIME._replace(default=True))
    old, new = (
        warnings(containerd.plan(wishes, Told({"containerd": version, "runc": "1"}, files)))
        for version in ("1.7.24", "2.1.4")
    )
    assert any("has the table default_runtime" in each for each in old)
    assert not any("has the table default_runtime" in each for each in new)


@pytest.mark.parametrize("version", ["1.7.24", "2.1.4"])
def test_a_drop_in_that_is_read_after_ours(version: str) -> None:
    """Spegel's and others' drop-ins; before containerd 2.1 the last one replaces all others."""
    later = "/etc/containerd/conf.d/zz-registry.toml"
    files = {
        CONTAINERD_FILE: 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
        later: f'version = 2\n[plugins."{V2}".containerd]\ndefault_runtime_name = "kata"\n',
    }
    wishes = Request(runtime=RUNTIME._replace(default=True))
    messages = warnings(containerd.plan(wishes, Told({"containerd": version, "runc": "1"}, files)))
    assert any("makes kata the default runtime" in each for each in messages)
    replaced = any("replaces its section of the CRI plugin" in each for each in messages)
    assert replaced == (version == "1.7.24")
