# SPDX-License-Identifier: Apache-2.0
"""`setup-node` on the root directories of hosts: what is changed for each distribution, and undone."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cdi_gen.programs.install import write_programs
from tests.cli.program import Result, cdi_gen
from tests.kubernetes import host_trees
from tests.kubernetes.host_trees import HostTree, changes

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64"),
]

RANCHER = "/var/lib/rancher/{}/agent/etc/containerd"
TOOLKIT = "/usr/local/nvidia"
RECORD, BACKUP = ".cdi-gen.json", ".cdi-gen.bak"

Lay = Callable[[HostTree], None]


@pytest.fixture
def tree(tmp_path: Path) -> HostTree:
    (tmp_path / "host").mkdir()
    return HostTree(tmp_path / "host")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_programs(str(folder / "bin"), "/usr/bin/python3")
    return folder


@pytest.fixture
def set_up(tree: HostTree, bundle: Path) -> Callable[..., Result]:
    def run(*options: str) -> Result:
        words = ("kubernetes", "setup-node", f"--host-root={tree.root}", f"--bundle={bundle}")
        return cdi_gen(*words, "--restart-mode=none", "--no-daemon", *options)

    return run


CASES = {
    "kubeadm, containerd 1.7": (
        host_trees.kubeadm,
        TOOLKIT,
        ["/etc/containerd/conf.d/99-nvidia.toml", "/etc/containerd/config.toml"],
    ),
    "kubeadm, containerd 2": (
        host_trees.kubeadm_with_containerd_2,
        TOOLKIT,
        ["/etc/containerd/conf.d/99-nvidia.toml", "/etc/containerd/config.toml"],
    ),
    "k3s": (
        host_trees.k3s,
        TOOLKIT,
        [RANCHER.format("k3s") + "/config-v3.toml.d/99-nvidia.toml"],
    ),
    "RKE2": (
        host_trees.rke2,
        TOOLKIT,
        [RANCHER.format("rke2") + "/config-v3.toml.d/99-nvidia.toml"],
    ),
    "k0s": (host_trees.k0s, TOOLKIT, ["/etc/k0s/containerd.d/99-nvidia.toml"]),
    "MicroK8s": (
        host_trees.microk8s,
        TOOLKIT,
        ["/var/snap/microk8s/7234/args/containerd-template.toml"],
    ),
    "CRI-O": (host_trees.crio, TOOLKIT, ["/etc/crio/crio.conf.d/99-nvidia.toml"]),
    "Docker": (host_trees.docker, TOOLKIT, ["/etc/docker/daemon.json"]),
    "Flatcar": (
        host_trees.flatcar,
        "/opt/nvidia",
        ["/etc/containerd/conf.d/99-nvidia.toml", "/etc/containerd/config.toml"],
    ),
}


@pytest.mark.parametrize(("lay", "root", "files"), CASES.values(), ids=CASES)
def test_only_files_that_the_distribution_leaves_to_others_are_changed(
    tree: HostTree, set_up: Callable[..., Result], lay: Lay, root: str, files: list[str]
) -> None:
    lay(tree)
    before = tree.files()
    result = set_up()
    assert result.code == 0, result.err
    changed = [
        path
        for path in changes(before, tree.files())
        if not path.endswith((RECORD, BACKUP, ".cdi-gen.last.bak")) and tree.path(path).is_file()
    ]
    assert changed == files
    handlers = [tree.read(path).count("nvidia-container-runtime") for path in files]
    assert sum(handlers) == 3
    assert tree.path(f"{root}/toolkit").is_symlink()


@pytest.mark.parametrize(("lay", "root", "files"), CASES.values(), ids=CASES)
def test_undo_leaves_no_trace(
    tree: HostTree, set_up: Callable[..., Result], lay: Lay, root: str, files: list[str]
) -> None:
    lay(tree)
    before = tree.files()
    assert set_up().code == 0
    result = set_up("--undo")
    assert result.code == 0, result.err
    assert tree.files() == before
    assert root
    assert files


def test_a_second_run_changes_nothing(tree: HostTree, set_up: Callable[..., Result]) -> None:
    host_trees.kubeadm(tree)
    assert set_up().code == 0
    before = tree.files()
    assert "containerd has the handlers" in set_up().err
    assert tree.files() == before


def test_the_low_level_runtime_of_crio_is_named_to_the_shim(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.crio(tree)
    assert set_up().code == 0
    toolkit = tree.path(TOOLKIT + "/toolkit.cdi-gen")
    (text,) = [path.read_text() for path in toolkit.rglob("config.toml")]
    assert 'runtimes = ["/usr/libexec/crio/crun", "runc", "crun"]' in text
    (wrapper,) = [path.read_text() for path in toolkit.glob("*/nvidia-container-runtime")]
    assert "for runtime in /usr/libexec/crio/crun; do" in wrapper


def test_the_default_handler_is_set_only_on_request(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.kubeadm_with_containerd_2(tree)
    drop_in = "/etc/containerd/conf.d/99-nvidia.toml"
    assert set_up().code == 0
    assert "default_runtime_name" not in tree.read(drop_in)
    assert set_up("--set-as-default").code == 0
    assert 'default_runtime_name = "nvidia"' in tree.read(drop_in)


def test_k3s_without_a_directory_of_drop_ins_is_left_to_the_administrator(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.k3s(tree)
    path = RANCHER.format("k3s") + "/config.toml"
    tree.write(path, re.sub("imports.*\n", "", tree.read(path)))
    before = tree.files()
    result = set_up()
    assert result.code == 1
    assert "is generated at every start: cdi-gen does not change it [CDG-E011]" in result.err
    assert "nvidia-container-runtime.legacy" in result.err
    assert tree.files() == before


@pytest.mark.parametrize("system", ["talos", "bottlerocket"])
def test_a_read_only_system_is_refused_with_the_way_that_works(
    tree: HostTree, set_up: Callable[..., Result], system: str
) -> None:
    host_trees.kubeadm_with_containerd_2(tree)
    tree.write("/etc/os-release", f"ID={system}\n")
    before = tree.files()
    result = set_up()
    assert result.code == 1
    assert "cannot be set up from a container" in result.err
    assert "--hook-free" in result.err
    assert tree.files() == before


def test_a_host_without_python_needs_the_bundle(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.kubeadm(tree)
    before = tree.files()
    result = set_up("--bundle=/nonexistent")
    assert result.code == 1
    assert "the host has no Python 3.9 or newer" in result.err
    assert "/usr/share/cdi-gen/bundle" in result.err
    assert tree.files() == before


def test_crio_can_get_a_hook_in_the_place_of_handlers(tree: HostTree, bundle: Path) -> None:
    """CRIO_CONFIG_MODE=hook: the operator without CDI."""
    host_trees.crio(tree)
    words = ["kubernetes", "toolkit", f"--host-root={tree.root}", f"--bundle={bundle}"]
    words += ["--runtime=crio", "--config-mode=hook", "--restart-mode=none", "--no-daemon"]
    words.append(f"--pid-file={tree.root}/run/toolkit.pid")
    result = cdi_gen(*words)
    assert result.code == 0, result.err
    hooks = "/usr/share/containers/oci/hooks.d"
    names = [path.name for path in tree.path(hooks).iterdir()]
    assert names == ["oci-nvidia-hook.json"]  # CRI-O reads every file in the directory
    hook = json.loads(tree.read(f"{hooks}/oci-nvidia-hook.json"))["hook"]
    assert hook["path"] == f"{TOOLKIT}/toolkit/nvidia-container-runtime-hook"
    assert not tree.path("/etc/crio/crio.conf.d/99-nvidia.toml").exists()


def test_two_engines_that_run_have_to_be_chosen_from(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.kubeadm(tree)
    host_trees.crio(tree)
    result = set_up()
    assert result.code == 1
    assert "the host has several engines: containerd, CRI-O [CDG-N404]" in result.err
    assert set_up("--runtime=crio").code == 0
    assert tree.path("/etc/crio/crio.conf.d/99-nvidia.toml").exists()


def test_a_host_without_an_engine_is_refused(tree: HostTree, set_up: Callable[..., Result]) -> None:
    result = set_up()
    assert (result.code, "CDG-N404" in result.err) == (1, True)


def test_nvidias_leftovers_are_put_back(tree: HostTree, set_up: Callable[..., Result]) -> None:
    """NVIDIA's operand leaves its programs; an administrator may have left its handler too."""
    host_trees.kubeadm_with_containerd_2(tree)
    tree.write(f"{TOOLKIT}/toolkit/nvidia-container-runtime", "#!/bin/sh\n# NVIDIA's\n")
    tree.write(
        "/etc/containerd/conf.d/99-nvidia.toml",
        "version = 3\n# by nvidia-ctk\n"
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\n"
        "runtime_type = 'io.containerd.runc.v2'\n"
        "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia.options]\n"
        "BinaryName = '/usr/bin/nvidia-container-runtime'\n",
    )
    before = tree.files()
    assert set_up().code == 0
    drop_in = tree.read("/etc/containerd/conf.d/99-nvidia.toml")
    assert "# by nvidia-ctk" in drop_in
    assert f"{TOOLKIT}/toolkit/nvidia-container-runtime" in drop_in
    assert tree.path(f"{TOOLKIT}/toolkit").is_symlink()
    assert set_up("--undo").code == 0
    assert tree.files() == before


def test_a_configuration_behind_an_absolute_link_is_the_hosts(
    tree: HostTree, set_up: Callable[..., Result], tmp_path: Path
) -> None:
    """A link of the host must not lead to a file of the container."""
    host_trees.kubeadm_with_containerd_2(tree)
    tree.path("/etc/containerd/config.toml").rename(tree.path("/opt/config.toml"))
    tree.link("/etc/containerd/config.toml", "/opt/config.toml")
    assert set_up().code == 0
    assert "imports" in tree.read("/opt/config.toml")
    assert tree.path("/etc/containerd/config.toml").is_symlink()
    assert not (tmp_path / "opt").exists()


def open_directory(tree: HostTree) -> None:
    tree.path(TOOLKIT).mkdir()
    tree.path(TOOLKIT).chmod(0o777)


def link_to_an_open_directory(tree: HostTree) -> None:
    tree.path("/opt/open").mkdir()
    tree.path("/opt/open").chmod(0o777)
    tree.link(TOOLKIT, "/opt/open")


def link_in_the_place_of_our_directory(tree: HostTree) -> None:
    tree.path("/opt/elsewhere").mkdir()
    tree.link(f"{TOOLKIT}/toolkit.cdi-gen", "/opt/elsewhere")


def directory_of_a_user(tree: HostTree) -> None:
    tree.path(TOOLKIT).mkdir()
    os.chown(tree.path(TOOLKIT), 1000, 1000)


HOSTILE = [
    open_directory,
    link_to_an_open_directory,
    link_in_the_place_of_our_directory,
    directory_of_a_user,
]


@pytest.mark.parametrize("prepare", HOSTILE)
def test_programs_are_not_installed_where_others_could_replace_them(
    tree: HostTree, set_up: Callable[..., Result], prepare: Lay
) -> None:
    host_trees.kubeadm(tree)
    prepare(tree)
    before = tree.files()
    result = set_up()
    assert (result.code, "CDG-N402" in result.err) == (7, True), result.err
    assert tree.files() == before


def test_a_bundle_with_a_device_is_refused(
    tree: HostTree, set_up: Callable[..., Result], tmp_path: Path
) -> None:
    host_trees.kubeadm(tree)
    bundle = tmp_path / "strange"
    (bundle / "bin").mkdir(parents=True)
    os.mkfifo(bundle / "bin/cdi-gen-hook")
    result = set_up(f"--bundle={bundle}")
    assert "the bundle has a special file, bin/cdi-gen-hook [CDG-N402]" in result.err


def test_hook_free_changes_nothing_but_specs_and_says_what_it_costs(
    tree: HostTree, set_up: Callable[..., Result]
) -> None:
    host_trees.kubeadm(tree)
    before = tree.files()
    result = set_up("--hook-free")
    assert result.code == 0, result.err
    assert "[CDG-N415]" in result.err
    assert "CUDA compat libraries are not used" in result.err
    assert tree.files() == before  # the tree has no GPU


def test_messages_are_json_on_request(tree: HostTree, bundle: Path) -> None:
    """The child in the host's root cannot import a module of the image."""
    host_trees.kubeadm(tree)
    words = ("kubernetes", "setup-node", f"--host-root={tree.root}", f"--bundle={bundle}")
    result = cdi_gen("--log-format=json", *words, "--restart-mode=none", "--no-daemon")
    assert {json.loads(line)["level"] for line in result.err.splitlines()} <= {"info", "warning"}
