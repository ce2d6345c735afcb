# SPDX-License-Identifier: Apache-2.0
"""The attacks that need a real runtime: runc and crun, with the whole command line of a spec."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.attack.images import plant, replace, ways_to
from tests.attack.oracles import HarmError, fingerprint
from tests.attack.runtimes import Bundle, Runtime
from tests.attack.victim import Victim
from tests.hook.conftest import PYTHON
from tests.hook.runtimes import in_a_user_namespace

pytestmark = pytest.mark.engine

COMPAT = "usr/local/cuda/compat"
PARAMS = "/proc/driver/nvidia/params"


@pytest.fixture(params=["runc", "crun"])
def bundle(request: pytest.FixtureRequest, hostile: Victim) -> Bundle:
    return Bundle(hostile, Runtime(request.param))


@pytest.fixture
def evil(bundle: Bundle, compiled: Callable[..., Path]) -> Path:
    """A library that leaves a file on the host if anything of the host loads it; in many places."""
    made = compiled(
        f"evil-{bundle.victim.folder.name}",
        '#include <fcntl.h>\n__attribute__((constructor)) void run(void) { open("'
        + str(bundle.victim.canary / "PWN")
        + '", O_CREAT | O_WRONLY, 0644); }\nunsigned la_version(unsigned v) { return v; }',
        "-shared",
        "-fPIC",
    )
    root = bundle.victim.root
    shutil.copy(made, root / "evil.so")
    for name in ("libm.so.6", "libz.so.1", "libexpat.so.1"):
        shutil.copy(made, root / "lib" / name)
    return made


def test_a_friendly_image(bundle: Bundle) -> None:
    """Every step is done, by both runtimes: what the others show is no hook that does nothing."""
    said = bundle.started("cat /etc/ld.so.conf.d/00*; cat /etc/nvidia/*/10-container.conf")
    assert said.startswith("/usr/local/cuda/compat\n/opt/odd\n{")
    assert '"EGLVisibleDGPUDevices",0x1]' in said
    assert os.readlink(bundle.victim.root / "opt/odd/libcuda.so.1") == "libcuda.so.550.1"
    assert bundle.victim.cached() == {"libcuda.so.1": "/usr/local/cuda/compat/libcuda.so.1"} or (
        bundle.victim.cached()["libcuda.so.1"].startswith("/usr/local/cuda/compat/libcuda.so")
    )


VARIABLES = (
    "LD_PRELOAD=/proc/self/cwd/evil.so",
    "LD_AUDIT=/proc/self/cwd/evil.so",
    "LD_LIBRARY_PATH=/proc/self/cwd/lib",
    "PYTHONPATH=/proc/self/cwd",
    "GCONV_PATH=/proc/self/cwd",
)


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda text: text.partition("=")[0])
def test_the_environment_of_the_image(bundle: Bundle, evil: Path, variable: str) -> None:
    """A01 env-ldpreload, A02 env-ldaudit-libpath: CVE-2025-23266; the spec's `env` keeps it out."""
    poison = f"open({str(bundle.victim.canary / 'file')!r}, 'w').write('imported')\n"
    bundle.victim.write("/encodings/__init__.py", poison)
    bundle.spec["process"]["env"].append(variable)
    bundle.started()


@pytest.mark.parametrize("variable", VARIABLES[:3], ids=lambda text: text.partition("=")[0])
def test_a_hook_without_env_is_lost(bundle: Bundle, evil: Path, variable: str) -> None:
    """The control of A01: with the `env` gone the image is run as the host's root, by runc < 1.3.

    Other runtimes do not hand on the image's environment, and nothing is harmed.
    """
    bundle.spec["process"]["env"].append(variable)
    del bundle.hook["env"]
    if not bundle.runtime.gives_the_images_environment():
        bundle.run()  # whether or not the hook accepts the runtime's own environment
        return
    if variable.startswith("LD_LIBRARY_PATH"):
        # The loader takes these and stops at a function that they lack, before it runs them.
        assert "/proc/self/cwd/lib/libz.so.1: no version information" in bundle.run().said
        return
    with pytest.raises(HarmError, match="O-SENT"):
        bundle.run()


@pytest.mark.parametrize("way", ["absolute", "relative"])
@pytest.mark.parametrize("place", ["etc/ld.so.conf.d", "usr/lib", COMPAT, "etc/nvidia", "lib"])
def test_a_folder_is_a_link_out(bundle: Bundle, place: str, way: str) -> None:
    """A12 confd-abs-link, A13 confd-rel-link, A14 every-parent-link: whatever the runtime does of it."""
    replace(bundle.victim.root / place, ways_to(bundle.victim.canary / "dir")[way])
    assert bundle.run().status in {0, 1, 126, 127}


COMPAT_LINKS = {
    "libcuda.so.999.2": "{out}{canary}",
    "libnvidia-ptxjitcompiler.so.999.2": "/",
    "libcuda.so.999": "../../../../../..{canary}/file",
    "libcudadebugger.so.999": "/proc/self/root",
    "libcuda.so.999.3": "/proc/1/root{canary}/file",
}


@pytest.mark.parametrize("whole", [False, True], ids=["files", "folder"])
def test_compat_libraries_that_are_links(bundle: Bundle, whole: bool) -> None:
    """A27 compat-link-mount: CVE-2024-0132, CVE-2025-23359; the container sees nothing of the host."""
    victim = bundle.victim
    (victim.canary / "CANARY").write_text("of the host\n")
    victim.prints = fingerprint(victim.canary)
    if whole:
        replace(victim.root / COMPAT, str(victim.canary))
    else:
        for name, text in COMPAT_LINKS.items():
            replaced = text.format(out="../" * 12, canary=str(victim.canary))
            replace(victim.root / COMPAT / name, replaced)
    said = bundle.started(
        "/bin/busybox find / -name 'CANARY*' 2>/dev/null;"
        f"/bin/busybox ls {victim.canary} /usr/local/cuda/compat/libcuda.so.999.2/ 2>/dev/null;"
        "/bin/busybox cat /proc/self/mountinfo"
    )
    assert "CANARY" not in said
    assert "of the host" not in said
    # What is mounted is what the spec names, and nothing below the sentinel or the host's root.
    assert str(victim.canary) not in said
    mounts = [line.split() for line in said.splitlines()]
    bound = {words[4]: words[3] for words in mounts if words[4] not in {"/", "/proc", "/sys"}}
    assert not [source for source in bound.values() if source.endswith("/canary")]


HOOKS = (
    ("create-symlinks", *Victim.LINK),
    ("enable-cuda-compat", "--host-driver-version", "550.54.15"),
    ("update-ldcache", "--folder", "/opt/odd", "--ldconfig-path", "/sbin/ldconfig"),
    ("disable-device-node-modification",),
    Victim.FULL,
)


def _leaks(bundle: Bundle, times: int) -> None:
    """So many hooks in each of so many containers, all mounts shared."""
    victim = bundle.victim
    (victim.folder / "volume").mkdir()
    bundle.mount("/opt/volume", victim.folder / "volume", "rw", "rshared")
    bundle.spec["linux"]["rootfsPropagation"] = "shared"
    one = bundle.hook
    bundle.spec["hooks"]["createContainer"] = [
        {**one, "args": ["cdi-gen-hook", *words]} for words in HOOKS
    ]
    for _ in range(times):
        bundle.started()
    assert list((victim.folder / "volume").iterdir()) == []


def test_no_mount_is_left_on_the_machine(bundle: Bundle) -> None:
    """A26 mount-leak: rootfsPropagation=shared, a shared volume, a shared host: O-MNT."""
    _leaks(bundle, 2)


@pytest.mark.nightly
def test_no_mount_is_left_of_very_many(bundle: Bundle) -> None:
    """A26 mount-leak, 20 containers of each runtime."""
    _leaks(bundle, 20)


@pytest.mark.gpu
def test_the_drivers_params_in_a_container(bundle: Bundle) -> None:
    """A33 params-ro: nvidia-docker issue 1405, with the file of the real driver."""
    if "ModifyDeviceFiles: 1" not in _params():
        pytest.skip("this driver is configured not to create device nodes")
    said = bundle.started(
        f"cat {PARAMS}; echo x > {PARAMS} && echo DONE; umount {PARAMS} && echo DONE;"
        f"mount -o remount,rw {PARAMS} && echo DONE; ls -A /run /tmp; grep params /proc/mounts"
    )
    assert "ModifyDeviceFiles: 0" in said
    assert "DONE" not in said
    assert "ro,nosuid,nodev,noexec" in said.replace("relatime,", "")


def _params() -> str:
    try:
        return Path(PARAMS).read_text()
    except FileNotFoundError:
        return ""


@pytest.mark.parametrize("users", [65536, 1])
def test_a_user_namespace(bundle: Bundle, users: int) -> None:
    """A59 userns-owner: what is made belongs to the container's root, every step's."""
    victim = bundle.victim
    victim.spec = bundle.spec
    # In a user namespace a runtime binds nodes; this machine has no nodes of NVIDIA.
    bundle.spec["linux"]["devices"] = []
    in_a_user_namespace(victim, users)
    before = fingerprint(victim.root)
    bundle.started()
    made = fingerprint(victim.root).keys() - before.keys()
    assert {"etc/ld.so.cache", "opt/odd/libcuda.so.1"} <= made
    owners = {name: (victim.root / name).lstat().st_uid for name in made}
    ours = {
        name
        for name in owners
        if not name.startswith(("dev", "proc", "sys", "opt/odd/libcuda.so.550"))
    }
    assert {owners[name] for name in ours} == {100000}, owners


@pytest.mark.parametrize("name", ["etc/ld.so.conf", "lib/libfake.so.1", "opt/odd/libz.so.1", f"{COMPAT}/libcuda.so.999.2"])  # fmt: skip
@pytest.mark.parametrize("kind", ["link to a pipe", "link to a device"])
def test_files_that_are_none(bundle: Bundle, name: str, kind: str) -> None:
    """A35 fifo-conf, A37 devnode-open: nothing hangs, and a configuration that is none stops it."""
    plant(bundle.victim.root / name, kind)
    attempt = bundle.run()
    assert (attempt.status == 0) == (name != "etc/ld.so.conf"), attempt
    if attempt.status and bundle.runtime.name == "runc":
        assert "'/etc/ld.so.conf': not a regular file" in attempt.said


def test_a_proc_that_is_a_link(bundle: Bundle) -> None:
    """A24 proc-fake: runc and crun refuse it before a hook is run; the sentinel shows it."""
    replace(bundle.victim.root / "proc", str(bundle.victim.canary / "dir"))
    bundle.run()


def test_a_host_that_is_a_volume(bundle: Bundle) -> None:
    """A14 every-parent-link: what an operator mounts at /etc, /opt and /lib is left as it is."""
    for place in ("etc", "opt/odd", "lib"):
        bundle.mount(f"/{place}", bundle.victim.canary / "dir", "rw")
    bundle.run()


@pytest.mark.parametrize("left", [True, False])
def test_a_read_only_container(bundle: Bundle, left: bool) -> None:
    """A67 read-only-roots: runc makes it so after the hooks, crun before; the option is kept by both."""
    bundle.spec["root"]["readonly"] = True
    bundle.hook["args"] += ["--leave-read-only-root"] * left
    attempt = bundle.run()
    assert attempt.status == 0, attempt
    assert (bundle.victim.root / "etc/ld.so.cache").exists() == (not left)
    assert (bundle.victim.root / "opt/odd/libcuda.so.1").is_symlink() == (not left)


def test_a_naive_hook_in_a_runtime(bundle: Bundle) -> None:
    """O-CTRL: the same bundle with another hook, and the sentinel is hit."""
    naive = Path(__file__).with_name("naive_hook.py")
    replace(bundle.victim.root / "etc/ld.so.conf.d", str(bundle.victim.canary / "dir"))
    bundle.hook.update({"path": PYTHON, "args": ["python3", str(naive), *Victim.FULL]})
    with pytest.raises(HarmError, match="O-SENT"):
        bundle.run()
