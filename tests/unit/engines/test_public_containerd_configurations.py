# SPDX-License-Identifier: Apache-2.0
"""Configurations of containerd as people have them: each modelled on a public report or file, which it names.

They are read by its own programs before and after.
"""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from cdi_gen.engines import containerd, toml_text
from cdi_gen.engines.plan import Runtime, Wishes
from tests.cli.program import ENVIRONMENT, cdi_gen

from .machine import Told, carried_out, taken_back
from .programs import LOW_LEVEL, dump

SHIM = "/usr/bin/nvidia-container-runtime"
RUNTIME = Runtime("nvidia", SHIM)
V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"

TOOLKIT = "/usr/local/nvidia/toolkit/nvidia-container-runtime"

CONFIGURATIONS = {
    # NVIDIA/gpu-operator#1374: Kubespray 1.32, after NVIDIA's operator.
    "kubespray, both spellings": f"""\
version = 3
imports = ["CONF.D/*.toml"]
[plugins."{V3}".containerd]
default_runtime_name = "runc"
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."{V3}".containerd.runtimes.runc.options]
binaryName = "/usr/local/bin/runc"
systemdCgroup = true
[plugins."{V3}".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
base_runtime_spec = "/etc/containerd/cri-base.json"
[plugins."{V3}".containerd.runtimes.nvidia.options]
BinaryName = "{TOOLKIT}"
Root = ""
binaryName = "/usr/local/bin/runc"
systemdCgroup = true
""",
    # NVIDIA/cloud-native-stack#142: Kubespray 2.31, containerd 2.3.1 with a file of version 3.
    "kubespray, version last": f"""\
imports = ["CONF.D/*.toml"]
oom_score = 0
root = "/var/lib/containerd"
state = "/run/containerd"
version = 3
[plugins."{V3}".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."{V3}".containerd.runtimes.runc.options]
systemdCgroup = true
""",
    # The same report, as it would be on a host that was never migrated.
    "version 1 on any containerd": """\
version = 1
[plugins.cri]
sandbox_image = "registry.k8s.io/pause:3.9"
[plugins.cri.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
""",
    # awslabs/amazon-eks-ami#1974: what `config dump` printed, saved as the configuration.
    "a dump that imports itself": f"""\
disabled_plugins = []
imports = ["CONFIG"]
oom_score = 0
plugin_dir = ""
version = 2
[plugins]
  [plugins."{V2}"]
    cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
    enable_cdi = false
    [plugins."{V2}".containerd]
      default_runtime_name = "runc"
      [plugins."{V2}".containerd.default_runtime]
        runtime_root = ""
        runtime_type = ""
        [plugins."{V2}".containerd.default_runtime.options]
      [plugins."{V2}".containerd.runtimes]
        [plugins."{V2}".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
          [plugins."{V2}".containerd.runtimes.runc.options]
            BinaryName = ""
            SystemdCgroup = true
""",
    # k3s-io/k3s#5860 and the Omniverse manual: tables in no order, and a runtime of type runc.v1.
    "by hand, in no order": f"""\
version = 2
[plugins]
  [plugins."{V2}"]
    [plugins."{V2}".containerd]
      snapshotter = "overlayfs"
      [plugins."{V2}".containerd.runtimes.runc]
        runtime_type = "io.containerd.runc.v2"
      [plugins."{V2}".containerd.runtimes.gpu]
    runtime_type = "io.containerd.runc.v2"
      [plugins."{V2}".containerd.runtimes.gpu.options]
    BinaryName = "{TOOLKIT}"
    SystemdCgroup = true


  [plugins."{V2}".cni]
    bin_dir = "/opt/cni/bin"
""",
    # NVIDIA/nvidia-docker#1788: only NVIDIA's runtime, the default.
    "nvidia alone": f"""\
version = 2
[plugins]
  [plugins."{V2}"]
    [plugins."{V2}".containerd]
      default_runtime_name = "nvidia"

      [plugins."{V2}".containerd.runtimes]
        [plugins."{V2}".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_engine = ""
          runtime_root = ""
          runtime_type = "io.containerd.runc.v2"

          [plugins."{V2}".containerd.runtimes.nvidia.options]
            BinaryName = "{SHIM}"
            SystemdCgroup = true
""",
}

SUITES = ("bookworm", "trixie", "sid", "2.3")


def cri(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said["plugins"][V3 if V3 in said["plugins"] else V2]
    return found


@pytest.mark.engine
@pytest.mark.parametrize("kind", CONFIGURATIONS)
@pytest.mark.parametrize("suite", SUITES)
def test_containerd(program, suite, kind, tmp_path) -> None:
    """Whatever is in it, the runtime is the shim then, and all else is as before."""
    text = CONFIGURATIONS[kind]
    if "version = 3" in text and suite in {"bookworm", "trixie"}:
        pytest.skip("version 3 is containerd 2's")
    binary = program(suite, "containerd")
    path = tmp_path / "config.toml"
    text = text.replace("CONF.D", f"{tmp_path}/conf.d").replace("CONFIG", str(path))
    text = text.replace("/usr/local/bin/runc", LOW_LEVEL)
    path.write_text(text)
    before = dump(binary, path)
    env = {"PATH": f"{binary.parent}:{ENVIRONMENT['PATH']}"}
    options = ("--config", str(path), "--executable-path", str(binary))
    dry = cdi_gen("engine", "configure", "containerd", *options, "--runtime", "--dry-run", env=env)
    assert dry.code in {0, 5}, dry
    done = cdi_gen("engine", "configure", "containerd", *options, "--runtime", env=env)
    assert done.code == 0, done
    assert "Traceback" not in done.err
    now = dump(binary, path)
    runtimes = cri(now)["containerd"]["runtimes"]
    said = runtimes.pop("nvidia")["options"]
    programs = {value for key, value in said.items() if key.lower() == "binaryname"}
    assert programs == {SHIM}
    assert {value for key, value in said.items() if key.lower() == "systemdcgroup"} <= {True}
    was = {**cri(before)["containerd"]["runtimes"]}
    was.pop("nvidia", None)
    assert {name: runtimes[name] for name in was} == was
    assert cri(now)["containerd"].get("default_runtime_name") == cri(before)["containerd"].get(
        "default_runtime_name"
    )
    again = cdi_gen("engine", "configure", "containerd", *options, "--runtime", env=env)
    assert "nothing to change" in again.err
    assert cdi_gen("engine", "unconfigure", "containerd", *options[:2], env=env).code == 0
    assert path.read_text() == text
    assert dump(binary, path) == before


@pytest.mark.engine
@pytest.mark.parametrize("suite", SUITES)
def test_the_default_configuration_of_each(program, suite, tmp_path) -> None:
    """`containerd config default > config.toml`, as every guide to kubeadm has it."""
    binary = program(suite, "containerd")
    path = tmp_path / "config.toml"
    done = subprocess.run([binary, "config", "default"], capture_output=True, text=True, check=True)
    path.write_text(done.stdout)
    options = ("--config", str(path), "--executable-path", str(binary))
    made = cdi_gen("engine", "configure", "containerd", *options, "--set-as-default")
    assert made.code == 0, made
    assert "default_runtime, which" not in made.err, "that table has no type"
    now = cri(dump(binary, path))
    assert now["containerd"]["default_runtime_name"] == "nvidia"
    assert now["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"] == SHIM
    if suite != "bookworm":
        assert now["enable_cdi"] is True
    assert cdi_gen("engine", "unconfigure", "containerd", *options[:2]).code == 0
    assert path.read_text() == done.stdout


def test_an_image_of_amazons_that_has_it_already() -> None:
    """awslabs/amazon-eks-ami: nodeadm writes the runtime, the default, of the same program."""
    text = CONFIGURATIONS["nvidia alone"].replace("[plugins]", "[plugins]", 1)
    files = {containerd.FILE: text}
    machine = Told({"containerd": "2.1.4", "runc": "1.3"}, files)
    found = containerd.plan(Wishes(runtime=RUNTIME._replace(default=True)), machine)
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
        Wishes(configuration=path, runtime=RUNTIME), Told(versions, {path: text})
    )
    assert found.by_hand
    assert found.by_hand.where == path


def test_k0s_drop_in_of_nvidias_operator() -> None:
    """NVIDIA/nvidia-container-toolkit#1016: the file that is named is one that k0s puts together."""
    path = "/etc/k0s/containerd.d/nvidia.toml"
    machine = Told({"/var/lib/k0s/bin/containerd": "1.7.27", "containerd": "2.1.4"})
    made = carried_out(containerd.plan(Wishes(configuration=path, runtime=RUNTIME), machine), {})
    assert [*made] == [path]
    said = toml_text.parse(made[path])
    assert said["version"] == 2
    assert said["plugins"][V2]["containerd"]["runtimes"]["nvidia"]["options"]["BinaryName"] == SHIM
    back = containerd.plan(Wishes(configuration=path, back=True), Told({}, made))
    assert taken_back(back, made, {})[path] == ""


def test_microk8s_beside_docker() -> None:
    """NVIDIA/gpu-operator#1367: it got the configuration of Docker's containerd."""
    path = "/var/snap/microk8s/current/args/containerd-template.toml"
    text = f'version = 2\n[plugins."{V2}".containerd]\nsnapshotter = "${{SNAPSHOTTER}}"\n'
    files = {path: text, containerd.FILE: 'disabled_plugins = ["cri"]\n'}
    machine = Told(
        {"/snap/microk8s/current/bin/containerd": "1.6.36", "containerd": "1.7.24"}, files
    )
    found = containerd.plan(Wishes(configuration=path, runtime=RUNTIME), machine)
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
    files = {containerd.FILE: text}
    wishes = Wishes(runtime=RUNTIME._replace(default=True))
    old, new = (
        containerd.plan(wishes, Told({"containerd": version, "runc": "1"}, files)).warnings
        for version in ("1.7.24", "2.1.4")
    )
    assert any("has the table default_runtime" in each for each in old)
    assert not any("has the table default_runtime" in each for each in new)


@pytest.mark.parametrize("version", ["1.7.24", "2.1.4"])
def test_a_drop_in_that_is_read_after_ours(version) -> None:
    """Spegel's and others' drop-ins; before containerd 2.1 the last one replaces all others."""
    later = "/etc/containerd/conf.d/zz-registry.toml"
    files = {
        containerd.FILE: 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
        later: f'version = 2\n[plugins."{V2}".containerd]\ndefault_runtime_name = "kata"\n',
    }
    wishes = Wishes(runtime=RUNTIME._replace(default=True))
    warnings = containerd.plan(wishes, Told({"containerd": version, "runc": "1"}, files)).warnings
    assert any("makes kata the default" in each for each in warnings)
    replaced = any("replaces what is said of CRI before" in each for each in warnings)
    assert replaced == (version == "1.7.24")
