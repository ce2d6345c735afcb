# SPDX-License-Identifier: Apache-2.0
"""The spec is root's code: what every hook entry in it must be, whatever it was generated of."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdi_base.process import ALLOWED_ENVIRONMENT
from cdi_gen.cdi import wire
from cdi_gen.cdi.model import Hook, Spec
from cdi_gen.generate import generate, generate_capabilities
from cdi_gen.generate.hook_command import NVIDIA_PROGRAMS
from cdi_gen.generate.options import CHECK_REQUIREMENTS, HOOKS, Options
from cdi_gen.inventory import HookProgram, Inventory, json_form
from cdi_gen.paths import HostPath
from tests.attack.images import replace
from tests.cli.program import CHECKOUT, ENVIRONMENT, GOLDEN, INVENTORY, PROGRAM, cdi_gen, failure

HOSTS = sorted(path.parent.name for path in GOLDEN.glob("*/inventory.json"))
PROGRAMS = ("/usr/libexec/cdi-gen/cdi-gen-hook", "/usr/bin/nvidia-cdi-hook", "/usr/bin/nvidia-ctk")

MODES = {
    "default": Options(),
    "every hook": Options(enabled_hooks=HOOKS),
    "without the rest": Options(disabled_hooks=("all",), enabled_hooks=("update-ldcache",)),
    "another ldconfig": Options(ldconfig_path="/sbin/ldconfig"),
    "lean": Options(capabilities=("utility",)),
    "no all": Options(all_device=False, names=("uuid",)),
}

MOUNTABLE = ("/usr", "/lib", "/lib64", "/opt", "/run", "/var/run", "/etc", "/bin", "/sbin", "/nix", "/tmp/nvidia-mps")  # fmt: skip
NEVER = {"/", "/etc", "/usr", "/lib", "/run", "/var/run", "/dev", "/proc", "/sys", "/root", "/home"}


def inventory(host: str, program: str = PROGRAMS[0]) -> Inventory:
    text = (GOLDEN / host / "inventory.json").read_text()
    return dataclasses.replace(json_form.load(text), hook=HookProgram(path=HostPath(program)))


def every_hook(spec: Spec) -> Iterator[Hook]:
    yield from spec.container_edits.hooks
    for device in spec.devices:
        yield from device.container_edits.hooks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("host", HOSTS)
def test_no_hook_is_without_environment(host: str, program: str, mode: str) -> None:
    """A04 spec-env-nonempty: CVE-2025-23266; constants, an absolute path, and an end in time."""
    found = inventory(host, program)
    options = MODES[mode]
    if program != PROGRAMS[0]:  # nvidia-ctk's have no such step
        enabled = tuple(each for each in options.enabled_hooks if each != CHECK_REQUIREMENTS)
        options = options._replace(enabled_hooks=enabled)
    specs = [generate(found, options)]
    if mode == "default":
        specs.append(generate_capabilities(found, Options(class_="cap")))
    hooks = [hook for spec in specs for hook in every_hook(wire.load(wire.dump(spec)))]
    assert hooks
    for hook in hooks:
        assert hook.path == program
        assert hook.args
        assert hook.args[0] == os.path.basename(program)
        given = dict(each.split("=", 1) for each in hook.env)
        assert given == {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        assert given.keys() <= ALLOWED_ENVIRONMENT
        assert hook.timeout is not None
        assert 1 <= hook.timeout <= 60
        assert hook.hook_name == "createContainer"


def test_every_golden_spec_has_such_hooks() -> None:
    """A04 spec-env-nonempty, of the files that are shown to the world."""
    files = [path for path in GOLDEN.glob("*/*.json") if path.name != "inventory.json"]
    hooks = [hook for path in files for hook in every_hook(wire.load(path.read_text()))]
    assert len(hooks) >= len(HOSTS)
    assert all(hook.env and hook.timeout for hook in hooks)


def test_the_generators_environment_gets_into_no_spec(tmp_path: Path) -> None:
    """A04 spec-env-nonempty: nothing is copied from the environment of `generate`."""
    marked = dict.fromkeys(("LC_ALL", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "CDI_ROOT"), "/MARKED")
    plain = cdi_gen("generate", "--inventory", INVENTORY)
    assert cdi_gen("generate", "--inventory", INVENTORY, env=marked).out == plain.out


@pytest.mark.parametrize("host", HOSTS)
def test_no_spec_offers_more_than_a_driver(host: str) -> None:
    """A28 driver-root-links: containerd's CVE-2026-53492; no mount of a root, none that is shared."""
    spec = generate(inventory(host))
    for edits in [spec.container_edits, *(device.container_edits for device in spec.devices)]:
        for mount in edits.mounts:
            assert mount.host_path not in NEVER
            assert f"{mount.host_path}/".startswith(tuple(f"{each}/" for each in MOUNTABLE))
            assert {"nosuid", "nodev"} <= set(mount.options)
            assert not {"shared", "rshared", "slave", "rslave", "suid", "dev"} & set(mount.options)
        for node in edits.device_nodes:
            assert "m" not in (node.permissions or "rw")


@pytest.mark.parametrize("name", NVIDIA_PROGRAMS)
def test_nvidias_hook_programs_get_the_same_environment(name: str) -> None:
    """A04 spec-env-nonempty: nvidia-cdi-hook before 1.17.8 is vulnerable without our `env`."""
    hooks = list(every_hook(generate(inventory(HOSTS[0], f"/usr/bin/{name}"))))
    assert len(hooks) > 1
    assert len({hook.env for hook in hooks}) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose directories these are not")
@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o755])
def test_an_output_in_somebodys_directory(tmp_path: Path, mode: int) -> None:
    """A23 output-symlink, A52 cdi-dirs-perms: what the link leads to stays, refused or not."""
    sentinel = tmp_path / "sentinel"
    sentinel.write_text("untouched\n")
    directory = tmp_path / "D"
    directory.mkdir()
    replace(directory / "n.json", sentinel)
    os.chown(directory, 1000, 1000)
    directory.chmod(mode)
    words = ("generate", "--inventory", INVENTORY, "-o", str(directory / "n.json"))
    found = cdi_gen(*words)
    assert sentinel.read_text() == "untouched\n"
    if mode == 0o777:
        assert str(directory) in failure(found, 7)
    else:
        # Engines do not read it: it is written as requested, in place of the link.
        assert found.code == 0
    assert (directory / "n.json").is_symlink() == (found.code == 7)


@pytest.mark.nightly
def test_twenty_generators_and_a_reader(tmp_path: Path) -> None:
    """A51 parallel-generate: a process that reads meanwhile reads a whole spec, 10,000 times."""
    path = tmp_path / "nvidia.json"
    command = [*PROGRAM, "generate", "--inventory", INVENTORY, "-o", str(path)]
    subprocess.run(command, env=ENVIRONMENT, cwd=CHECKOUT, check=True, capture_output=True)
    whole = path.read_text()
    read = 0
    while read < 10_000:
        writers = [
            subprocess.Popen(command, env=ENVIRONMENT, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
            for _ in range(20)
        ]
        while any(each.poll() is None for each in writers):
            assert path.read_text() == whole
            read += 1
        assert [each.wait() for each in writers] == [0] * 20
    assert os.listdir(tmp_path) == ["nvidia.json"]
