# SPDX-License-Identifier: Apache-2.0
"""The hooks of a spec, and their arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdi_gen.cdi.model import Spec
from cdi_gen.errors import UnsafeError, UsageError
from cdi_gen.generate import driver_files, generate, generate_capabilities
from cdi_gen.generate.options import Options
from cdi_gen.inventory import HookProgram, Inventory
from cdi_gen.paths import HostPath, base_name

Golden = Callable[[str], Inventory]

LINKS = "--link"
COMPAT = "--host-driver-version"
FOLDERS = "--folder"
NODES = "--disable-device-node-modification"
PROFILE = "--update-application-profile"
CHMOD = "--path"
STEPS = {
    "create-symlinks": LINKS,
    "enable-cuda-compat": COMPAT,
    "update-ldcache": FOLDERS,
    "disable-device-node-modification": NODES,
    "update-application-profile": PROFILE,
    "chmod": CHMOD,
}
"""By which word each step of the one process is known."""
ENVIRONMENT = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8")
OURS = "/usr/local/libexec/cdi-gen/cdi-gen-hook"


def folders(inventory: Inventory) -> list[str]:
    """How update-ldcache is told of the driver's folders."""
    return [word for folder in driver_files.folders(inventory) for word in ("--folder", folder)]


class TestHooks:
    """The hooks of a spec."""

    @staticmethod
    def commands(spec: Spec) -> list[str]:
        return [hook.args[1] for hook in spec.container_edits.hooks]

    @staticmethod
    def steps(args: tuple[str, ...]) -> list[str]:
        """The steps that a command line asks for, in its order."""
        words = [word.partition("=")[0] for word in args]
        return sorted((s for s in STEPS if STEPS[s] in words), key=lambda s: words.index(STEPS[s]))

    def test_one_process(self, golden: Golden) -> None:
        spec = generate(golden("debian-trixie-550-8gpu"))
        assert self.commands(spec) == ["create-container"]
        assert not any(device.container_edits.hooks for device in spec.devices)

    @pytest.mark.parametrize(
        ("disabled", "enabled", "left_out"),
        [
            ((), (), {"chmod"}),
            ((), ("chmod",), set()),
            *(((step,), (), {step, "chmod"}) for step in STEPS),
            (("create-symlinks", "update-ldcache"), (), {"create-symlinks", "update-ldcache", "chmod"}),
            (("all",), ("update-ldcache",), STEPS.keys() - {"update-ldcache"}),
            (("all",), ("chmod",), STEPS.keys() - {"chmod"}),
            (("chmod",), ("chmod",), set()),
        ],
    )  # fmt: skip
    def test_steps(
        self,
        golden: Golden,
        disabled: tuple[str, ...],
        enabled: tuple[str, ...],
        left_out: set[str],
    ) -> None:
        """The chosen steps are in the order of STEPS; also with NVIDIA's hook."""
        options = Options(disabled_hooks=disabled, enabled_hooks=enabled)
        expected = [step for step in STEPS if step not in left_out]
        inventory = golden("flat-550-1gpu")
        (hook,) = generate(inventory, options).container_edits.hooks
        assert hook.args[1] == "create-container"
        assert self.steps(hook.args) == expected
        with_nvidias_hook = replace(
            inventory, hook=HookProgram(path=HostPath("/usr/bin/nvidia-cdi-hook"))
        )
        assert self.commands(generate(with_nvidias_hook, options)) == expected

    @pytest.mark.parametrize("path", [OURS, "/usr/bin/nvidia-cdi-hook", "/usr/bin/nvidia-ctk"])
    def test_without_any_step_there_is_no_hook(self, golden: Golden, path: str) -> None:
        inventory = replace(golden("flat-550-1gpu"), hook=HookProgram(path=HostPath(path)))
        spec = generate(inventory, Options(disabled_hooks=("all",)))
        assert not spec.container_edits.hooks
        assert not any(device.container_edits.hooks for device in spec.devices)

    def test_read_only_roots_are_left(self, golden: Golden) -> None:
        inventory = golden("flat-550-1gpu")
        options = Options(leave_read_only_roots=True)
        (hook,) = generate(inventory, options).container_edits.hooks
        (usual,) = generate(inventory, Options()).container_edits.hooks
        assert hook.args == (*usual.args, "--leave-read-only-root")
        with_nvidias_hook = replace(
            inventory, hook=HookProgram(path=HostPath("/usr/bin/nvidia-cdi-hook"))
        )
        with pytest.raises(UsageError, match="has no option --leave-read-only-root"):
            generate(with_nvidias_hook, options)

    def test_the_words_of_all_steps(self, golden: Golden) -> None:
        """One GPU's; the links and folders are the driver's."""
        inventory = golden("flat-550-1gpu")
        options = Options(disabled_hooks=("create-symlinks",), enabled_hooks=("chmod",), ldconfig_path="/sbin/ldconfig")  # fmt: skip
        (hook,) = generate(inventory, options).container_edits.hooks
        assert hook.args == (
            "cdi-gen-hook", "create-container",
            "--host-driver-version=550.163.01", "--host-gpu-brand=nvidia",
            *folders(inventory), "--ldconfig-path", "/sbin/ldconfig",
            "--disable-device-node-modification", "--update-application-profile",
            "--mode", "755", "--path", "/dev/dri",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("models", "words"),
        [
            (("Tesla T4",), ["--host-gpu-brand=tesla"]),
            (("NVIDIA GeForce RTX 4090", "NVIDIA H200"), ["--host-gpu-brand=geforce", "--host-gpu-brand=nvidia"]),
            (("NVIDIA H200", "NVIDIA H100 PCIe"), ["--host-gpu-brand=nvidia"]),
            (("NVIDIA Graphics Device",), []),
        ],
    )  # fmt: skip
    def test_the_brands_of_the_gpus(
        self, golden: Golden, models: tuple[str, ...], words: list[str]
    ) -> None:
        """Only our own hook has the option --host-gpu-brand."""
        inventory = golden("debian-trixie-550-8gpu")
        gpus = tuple(
            replace(gpu, model=models[place % len(models)])
            for place, gpu in enumerate(inventory.gpus)
        )
        (hook,) = generate(replace(inventory, gpus=gpus)).container_edits.hooks
        assert [word for word in hook.args if "brand" in word] == words
        with_nvidias_hook = replace(
            inventory, gpus=gpus, hook=HookProgram(path=HostPath("/usr/bin/nvidia-cdi-hook"))
        )
        for hook in generate(with_nvidias_hook).container_edits.hooks:
            assert not [word for word in hook.args if "brand" in word]

    def test_directories_of_nodes(self, golden: Golden) -> None:
        """The directories include that of MIG's access nodes; each is named once."""
        options = Options(enabled_hooks=("chmod",))
        (hook,) = generate(golden("flat-550-mig-mixed"), options).container_edits.hooks
        paths = [hook.args[at + 1] for at, word in enumerate(hook.args) if word == "--path"]
        assert paths == ["/dev/dri", "/dev/nvidia-caps"]
        assert hook.args[hook.args.index("--mode") + 1] == "755"

    @pytest.mark.parametrize("path", [OURS, "/usr/bin/nvidia-cdi-hook", "/opt/bin/nvidia-ctk"])
    @pytest.mark.parametrize("name", ["flat-550-mig-mixed", "hgx-550-8gpu", "nixos-550-1gpu"])
    def test_every_hook_has_an_environment_and_an_end(
        self, golden: Golden, path: str, name: str
    ) -> None:
        """A hook without `env` inherits the container's environment in some runtimes."""
        inventory = replace(golden(name), hook=HookProgram(path=HostPath(path)))
        options = Options(enabled_hooks=("chmod",))
        specs = [generate(inventory, options), generate_capabilities(inventory, options)]
        edits = [
            part
            for spec in specs
            for part in (spec.container_edits, *(d.container_edits for d in spec.devices))
        ]
        hooks = [hook for part in edits for hook in part.hooks]
        assert hooks
        for hook in hooks:
            assert hook.env == ENVIRONMENT
            assert hook.timeout == 30
            assert hook.hook_name == "createContainer"
            assert hook.path == path
            assert hook.args[0] == base_name(path)

    @pytest.mark.parametrize(
        ("path", "words"),
        [("/usr/bin/nvidia-cdi-hook", 1), ("/opt/bin/nvidia-ctk", 2)],
    )
    def test_nvidias_hooks_get_arguments_that_they_know(
        self, golden: Golden, path: str, words: int
    ) -> None:
        inventory = replace(golden("flat-550-1gpu"), hook=HookProgram(path=HostPath(path)))
        hooks = generate(inventory, Options(enabled_hooks=("chmod",))).container_edits.hooks
        assert [hook.args[words] for hook in hooks] == list(STEPS)
        _, compat, cache, nodes, profile, chmod = (hook.args[words + 1 :] for hook in hooks)
        assert compat == ("--host-driver-version=550.163.01",)
        assert cache == tuple(folders(inventory))
        assert nodes == profile == ()
        assert chmod == ("--mode", "755", "--path", "/dev/dri")

    def test_an_unsafe_program_is_refused(self, golden: Golden) -> None:
        hook = HookProgram(path=HostPath("/opt/hook"), unsafe="/opt belongs to user 1000")
        inventory = replace(golden("flat-550-1gpu"), hook=hook)
        with pytest.raises(UnsafeError, match="user 1000"):
            generate(inventory)
        assert not generate(inventory, Options(hooks=False)).container_edits.hooks
