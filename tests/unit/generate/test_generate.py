# SPDX-License-Identifier: Apache-2.0
"""What the options do to a spec, on the inventory of a golden host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdi_gen.catalogue import catalogue
from cdi_gen.cdi.model import ContainerEdits, Spec
from cdi_gen.errors import CdiGenError, ExitCode, NoDriverError, UnsafeError, UsageError
from cdi_gen.generate import driver_files, generate, generate_capabilities
from cdi_gen.generate.options import Options
from cdi_gen.inventory import HookProgram, Inventory, UnusableDevice
from cdi_gen.paths import HostPath, base_name

Golden = Callable[[str], Inventory]


def names(spec: Spec) -> list[str]:
    return [device.name for device in spec.devices]


def stems(edits: ContainerEdits) -> set[str]:
    return {base_name(mount.host_path).partition(".so")[0] for mount in edits.mounts}


def nodes(edits: ContainerEdits) -> set[str]:
    return {node.path for node in edits.device_nodes}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(names=("index",)), ["0", "1:0", "1:1", "1:2", "1:3", "all", "none"]),
        (
            Options(names=("type-index",), all_device=False),
            ["gpu0", "mig1:0", "mig1:1", "mig1:2", "mig1:3"],
        ),
        (Options(names=("pci",)), ["pci-0000-1b-00-0", "all", "none"]),
        (Options(names=("index",), devices=("1:2",), all_device=False), ["1:2"]),
        (Options(names=("index",), devices=("gpu0", "0", "0"), all_device=False), ["0"]),
        (Options(names=("index",), devices=("none", "0")), ["none"]),
        # A GPU that is divided stands for its parts, by each of its names.
        (
            Options(names=("index",), devices=("1",), all_device=False),
            ["1:0", "1:1", "1:2", "1:3"],
        ),
        (
            Options(names=("index",), devices=("pci-0000-1e-00-0", "0"), all_device=False),
            ["0", "1:0", "1:1", "1:2", "1:3"],
        ),
    ],
)
def test_names_and_devices(golden: Golden, options: Options, expected: list[str]) -> None:
    """A device may be asked for by any of its names, written or not, and more than once."""
    assert names(generate(golden("flat-550-mig-mixed"), options)) == expected


def test_all_is_made_of_the_devices_that_were_asked_for(golden: Golden) -> None:
    spec = generate(golden("debian-trixie-550-8gpu"), Options(devices=("2", "5")))
    edits = {device.name: device.container_edits for device in spec.devices}
    assert {"/dev/nvidia2", "/dev/nvidia5"} <= nodes(edits["all"])
    assert "/dev/nvidia0" not in nodes(edits["all"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (Options(devices=("8",)), UsageError, "this host has no device 8"),
        (Options(devices=("1:4",)), UsageError, "this host has no device 1:4"),
        (Options(devices=("2",)), UsageError, "the GPU 2 has MIG enabled and no MIG device"),
        (Options(capabilities=("computer",)), UsageError, "unknown driver capability"),
        (Options(vendor="nvidia/com"), UsageError, "vendor"),
        (Options(vendor="n"), UsageError, "single letter"),
        (Options(class_=""), UsageError, "class"),
        (Options(devices=()), UsageError, "no device is requested"),
        (Options(names=(), all_device=False), UsageError, "no device has a name"),
        (Options(newest_version="0.3.0"), CdiGenError, "supports CDI 0.3.0 at most"),
    ],
)
def test_what_can_not_be(
    golden: Golden, options: Options, error: type[CdiGenError], message: str
) -> None:
    with pytest.raises(error, match=message):
        generate(golden("flat-550-mig-mixed"), options)


def test_names_without_digits_first_need_no_new_version(golden: Golden) -> None:
    """No newer one than the type of a mount, which every engine with CDI reads."""
    options = Options(names=("type-index",), newest_version="0.4.0")
    assert generate(golden("server-550-4gpu-headless"), options).cdi_version == "0.4.0"


@pytest.mark.parametrize(
    ("wanted", "there", "not_there"),
    [
        (("compute",), {"libcuda", "libnvidia-ptxjitcompiler"}, {"libnvidia-ml", "libGLX_nvidia"}),
        (("utility",), {"libnvidia-ml"}, {"libcuda", "libnvidia-encode", "libGLX_nvidia"}),
        (("video",), {"libnvidia-encode", "libnvcuvid", "libcuda"}, {"libGLX_nvidia"}),
        (("graphics",), {"libGLX_nvidia", "libnvidia-glcore"}, {"libcuda", "libnvidia-encode"}),
        (("display",), {"libGLX_nvidia", "nvidia_drv"}, {"libcuda"}),
        (("all",), {"libcuda", "libnvidia-ml", "libGLX_nvidia", "libnvidia-ngx"}, set()),
    ],
)
def test_capabilities_choose_libraries(
    golden: Golden, wanted: tuple[str, ...], there: set[str], not_there: set[str]
) -> None:
    spec = generate(golden("flat-550-1gpu"), Options(capabilities=wanted))
    assert there <= stems(spec.container_edits)
    assert not not_there & stems(spec.container_edits)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("compute",), {"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"}),
        (("utility",), {"/dev/nvidiactl"}),
        (("graphics",), {"/dev/nvidiactl", "/dev/nvidia-modeset"}),
    ],
)
def test_capabilities_choose_control_nodes(
    golden: Golden, wanted: tuple[str, ...], expected: set[str]
) -> None:
    spec = generate(golden("flat-550-1gpu"), Options(capabilities=wanted))
    assert nodes(spec.container_edits) == expected


def test_a_library_that_nobody_listed_is_part_of_everything(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    new = replace(
        next(each for each in inventory.libraries if "libcuda.so" in each.path and each.bits == 64),
        path=HostPath("/usr/lib/x86_64-linux-gnu/libnvidia-new.so.550.163.01"),
        soname="libnvidia-new.so.1",
        links=(),
        aliases=(),
        needed=(),
    )
    changed = replace(inventory, libraries=(*inventory.libraries, new))
    assert "libnvidia-new" in stems(generate(changed).container_edits)
    lean = generate(changed, Options(capabilities=("compute",)))
    assert "libnvidia-new" not in stems(lean.container_edits)


def test_capability_devices_add_up_to_the_whole_driver(golden: Golden) -> None:
    """Every capability together is what a default spec mounts, and the 32-bit libraries."""
    inventory = golden("debian-trixie-550-8gpu")
    devices = generate_capabilities(inventory, Options(class_="cap")).devices
    together = {mount for device in devices for mount in device.container_edits.mounts}
    whole = set(generate(inventory).container_edits.mounts)
    assert whole <= together
    assert all("i386" in mount.host_path for mount in together - whole)
    assert {device.name for device in devices} <= {each.name for each in catalogue().capabilities}


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


@pytest.mark.parametrize("name", ["flat-550-1gpu", "nixos-550-1gpu", "gpu-operator-550-2gpu"])
def test_without_a_hook_every_soname_is_there(golden: Golden, name: str) -> None:
    """In a directory of every common loader, for it finds nothing by any other name."""
    inventory = golden(name)
    places = {
        mount.container_path: mount.host_path
        for mount in generate(inventory, Options(hooks=False)).container_edits.mounts
    }
    for library in inventory.libraries:
        if library.bits == 64:
            for directory in ("/usr/lib64", "/usr/lib"):
                assert places[f"{directory}/{library.soname}"] == library.path


def test_groups_only_where_they_are_asked_for(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    assert not any(each.container_edits.additional_gids for each in generate(inventory).devices)
    spec = generate(inventory, Options(additional_gids=True))
    assert spec.cdi_version == "0.7.0"
    assert {each.container_edits.additional_gids for each in spec.devices} == {(44, 992), ()}


def test_mig_devices_get_drm_nodes_for_graphics_only(golden: Golden) -> None:
    inventory = golden("flat-550-mig-mixed")
    plain = {each.name: nodes(each.container_edits) for each in generate(inventory).devices}
    assert not [path for path in plain["1:0"] if "dri" in path]
    changed = replace(inventory.mig_devices[0], profile="1g.24gb+gfx")
    inventory = replace(inventory, mig_devices=(changed, *inventory.mig_devices[1:]))
    graphics = {each.name: nodes(each.container_edits) for each in generate(inventory).devices}
    assert [path for path in graphics["1:0"] if "renderD" in path]


@pytest.mark.parametrize(
    ("gpus", "message"),
    [((), "it controls no GPU"), (None, "every GPU of this host has MIG enabled")],
)
def test_no_device(golden: Golden, gpus: tuple[()] | None, message: str) -> None:
    inventory = golden("flat-550-mig-mixed")
    found = inventory.gpus[1:] if gpus is None else gpus
    with pytest.raises(NoDriverError, match=message):
        generate(replace(inventory, gpus=found, mig_devices=(), unusable_devices=()))


def test_no_device_that_can_be_used(golden: Golden) -> None:
    """The reason is that of the first that is broken: one that is only empty is not."""
    inventory = golden("flat-550-mig-mixed")
    broken = UnusableDevice(device="GPU 0 at 0000:1b:00.0", reason="GPU is lost", code="CDG-H105")
    changed = replace(
        inventory,
        gpus=inventory.gpus[2:],
        mig_devices=(),
        unusable_devices=(*inventory.unusable_devices, broken),
    )
    with pytest.raises(CdiGenError, match=r"no GPU of this host can be used: GPU 0 .*: GPU is lo"):
        generate(changed)


def test_nothing_of_the_driver(golden: Golden) -> None:
    empty = replace(golden("flat-550-1gpu"), libraries=(), files=())
    with pytest.raises(CdiGenError) as caught:
        generate_capabilities(empty, Options(class_="cap"))
    assert caught.value.exit_code is ExitCode.ERROR


def test_without_a_hook_the_libraries_go_where_they_are_wanted(golden: Golden) -> None:
    inventory = golden("flat-550-1gpu")
    both = generate(inventory, Options(hooks=False))
    one = generate(inventory, Options(hooks=False, library_directories=("/opt/lib",)))
    places = {mount.container_path for mount in one.container_edits.mounts}
    assert "/opt/lib/libcuda.so.1" in places
    assert not {each for each in places if each.startswith(("/usr/lib/lib", "/usr/lib64/lib"))}
    assert len(one.container_edits.mounts) < len(both.container_edits.mounts) * 2 / 3
    assert "NVIDIA_CTK_LIBCUDA_DIR=/opt/lib" in one.container_edits.env


@pytest.mark.parametrize("directories", [(), ("lib",), ("/usr/../lib",), ("/usr/lib/",)])
def test_directories_of_the_container_are_plain_paths(
    golden: Golden, directories: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError):
        generate(golden("flat-550-1gpu"), Options(hooks=False, library_directories=directories))
