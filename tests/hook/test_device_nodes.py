# SPDX-License-Identifier: Apache-2.0
"""The step disable-device-node-modification mounts a read-only file over the driver's parameters.

A procfs without the driver has no driver/nvidia/params. So the tests of the mount itself let the
hook use another file of procfs that is two directories deep.
"""

from __future__ import annotations

import shlex

import pytest

from cdi_hook.steps import disable_device_node_modification
from tests.attack import oracles
from tests.hook.conftest import Container, Ended, fingerprint
from tests.hook.runtimes import Runtime, hook_of, in_a_user_namespace, start

NAME = "disable-device-node-modification"
PARAMS = (
    "ResmanDebugLevel: 4294967295\nModifyDeviceFiles: 1\nDeviceFileUID: 0\nDeviceFileMode: 438\n"
)
HARMLESS = PARAMS.replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0")

STAND_IN = "/proc/sys/kernel/ostype"

# Every procfs has an empty folder `driver`.
DRIVER = f"""
mount -t tmpfs none /proc/driver
mkdir /proc/driver/nvidia
printf %s {shlex.quote(PARAMS)} > /proc/driver/nvidia/params
"""


@pytest.fixture
def nvidia(container: Container) -> Container:
    """A container with a procfs of its own, on a host with the driver's parameters."""
    container.altered(device_nodes__FOLDER='"sys/kernel"', device_nodes__FILE='"ostype"')
    return container


def mounted(container: Container, before: str = "", after: str = "", *words: str) -> Ended:
    """Run the hook between two scripts that see `$R`, the root; then see what is mounted in it."""
    root = shlex.quote(str(container.root))
    container.with_mounts(f"{DRIVER}\nR={root}\n{before}", f'{after}\nexit "$status"')
    return container.hook(*(words or (NAME,)))


OWN_PROC = "mount -t proc proc $R/proc"
SHOW = f"cat $R{STAND_IN}; grep -F {STAND_IN} /proc/self/mountinfo"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (b"ModifyDeviceFiles: 1\n", b"ModifyDeviceFiles: 0\n"),
        (b"ModifyDeviceFiles: 1", b"ModifyDeviceFiles: 0"),
        (PARAMS.encode(), HARMLESS.encode()),
        (b"A: 1\nModifyDeviceFiles: 1\nB\n", b"A: 1\nModifyDeviceFiles: 0\nB\n"),
        (
            b"ModifyDeviceFiles: 1\nModifyDeviceFiles: 11\n",
            b"ModifyDeviceFiles: 0\nModifyDeviceFiles: 11\n",
        ),
        (b"", None),
        (b"ModifyDeviceFiles: 0\n", None),
        (b" ModifyDeviceFiles: 1\n", None),
        (b"ModifyDeviceFiles: 1 \n", None),
        (b"ModifyDeviceFiles: 11\n", None),
        (b"ModifyDeviceFiles:1\n", None),
        (b"modifydevicefiles: 1\n", None),
        (b"XModifyDeviceFiles: 1\n", None),
    ],
)
def test_only_an_exact_line_is_disabled(params: bytes, expected: bytes | None) -> None:
    assert disable_device_node_modification.disabled(params) == expected


class TestTheMount:
    def test_params_have_0_and_are_read_only(self, nvidia: Container) -> None:
        ended = mounted(nvidia, OWN_PROC, f"{SHOW}; ! echo x > $R{STAND_IN}")
        assert ended.status == 0
        assert ended.stdout.startswith(HARMLESS)
        _, _, _, _, mount_point, flags, *_ = ended.stdout[len(HARMLESS) :].split(" ")
        assert mount_point == f"{nvidia.root}{STAND_IN}"
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(flags.split(","))
        assert "Read-only file system" in ended.said

    def test_one_mount_and_no_file_is_added(self, nvidia: Container) -> None:
        """The container has one more mount; no name and no time stamp of the image changes."""
        before = fingerprint(nvidia.root)
        table = "cat /proc/self/mountinfo"
        ended = mounted(
            nvidia,
            f"{OWN_PROC}; {table}; echo ---",
            f"{table}; umount $R{STAND_IN}; umount $R/proc",
        )
        (line,) = oracles.changed_mounts(*ended.stdout.split("---\n"))
        assert line.split(" ")[4] == f"{nvidia.root}{STAND_IN}"
        assert (ended.status, ended.said) == (0, "")
        assert fingerprint(nvidia.root) == before

    def test_mount_does_not_propagate(self, nvidia: Container) -> None:
        """The procfs is shared with another mount, which stands for the host's."""
        before = f"{OWN_PROC}; mount --make-shared $R/proc; mkdir $R/opt/twin; mount --bind $R/proc $R/opt/twin"
        ended = mounted(
            nvidia,
            before,
            "grep -c ' /.*/opt/twin' /proc/self/mountinfo; cat $R/opt/twin/sys/kernel/ostype",
        )
        assert (ended.status, ended.said, ended.stdout) == (0, "", "1\nLinux\n")

    def test_second_run_is_left_out(self, nvidia: Container) -> None:
        again = f'status=0; env -u PWD -u OLDPWD "$@" < {nvidia.bundle}/state || status=$?; {SHOW}'
        (nvidia.bundle / "state").write_bytes(nvidia.state())
        ended = mounted(nvidia, OWN_PROC, again)
        assert ended.status == 0
        assert (
            ended.said
            == f"cdi-gen-hook: {NAME}: left out: the container's /proc/sys/kernel is covered already [CDG-K007]\n"
        )
        assert ended.stdout.count("mountinfo") == 0
        assert ended.stdout.count(STAND_IN) == 1

    def test_a_cover_that_cannot_be_made_read_only_is_unmounted(self, nvidia: Container) -> None:
        nvidia.altered(
            device_nodes__FOLDER='"sys/kernel"',
            device_nodes__FILE='"ostype"',
            syscalls__MS_REMOUNT="1 << 40",
        )
        ended = mounted(
            nvidia, OWN_PROC, f"cat $R{STAND_IN}; ! grep -F /proc/sys /proc/self/mountinfo"
        )
        assert ended.stdout.startswith("Linux\n")
        assert STAND_IN not in ended.stdout
        assert ended.status == 1
        assert ended.said.count("\n") == 1

    def test_hook_without_permission_to_mount(self, nvidia: Container) -> None:
        root = shlex.quote(str(nvidia.root))
        nvidia.within = [
            "unshare", "-m", "sh", "-ec",
            f'{DRIVER}\nR={root}\n{OWN_PROC}\ncd $R; exec setpriv --bounding-set=-sys_admin env -u PWD -u OLDPWD "$@"',
            "sh",
        ]  # fmt: skip
        ended = nvidia.hook(NAME)
        assert (ended.status, ended.said) == (
            0,
            f"cdi-gen-hook: {NAME}: left out: mounting is not allowed here: Operation not permitted [CDG-K007]\n",
        )

    def test_a_dry_run_mounts_nothing(self, nvidia: Container) -> None:
        nvidia.launcher[-1] = nvidia.launcher[-1].replace(
            "cdi_hook.__main__ import main", "cdi_hook.dry_run import main"
        )
        ended = mounted(nvidia, OWN_PROC, f"cat $R{STAND_IN}", "--dry-run", NAME)
        assert (ended.status, ended.said) == (0, "")
        assert ended.stdout == f"mount a file with ModifyDeviceFiles: 0 over {STAND_IN}\nLinux\n"


class TestLeftOut:
    """No mount, exit 0, and at most a line."""

    @pytest.mark.parametrize(
        ("params", "before"),
        [("ModifyDeviceFiles: 0\n", ":"), ("", ":"), ("", "rm /proc/driver/nvidia/params"), ("", "umount /proc/driver")],
    )  # fmt: skip
    def test_there_is_nothing_to_do(self, nvidia: Container, params: str, before: str) -> None:
        change = (
            f"printf %s {shlex.quote(params)} > /proc/driver/nvidia/params; {before}; {OWN_PROC}"
        )
        ended = mounted(nvidia, change, f"cat $R{STAND_IN}")
        assert (ended.status, ended.said, ended.stdout) == (0, "", "Linux\n")

    @pytest.mark.parametrize(
        ("proc", "said"),
        [
            ("mkdir -p $R/proc/driver/nvidia; cp /proc/driver/nvidia/params $R/proc/driver/nvidia", "/proc is not a procfs"),
            ("mount -t tmpfs none $R/proc; mkdir -p $R/proc/driver/nvidia; cp /proc/driver/nvidia/params $R/proc/driver/nvidia", "/proc is not a procfs"),
            ("rmdir $R/proc; ln -s /opt/proc $R/proc; mkdir $R/opt/proc; mount -t proc proc $R/opt/proc", "/proc is not a procfs"),
            ("rmdir $R/proc; ln -s /proc $R/proc", "/proc is not a procfs"),
            ("rmdir $R/proc", "the container has no /proc/driver/nvidia/params"),
            ("mount -t proc proc $R/proc", "the container has no /proc/driver/nvidia/params"),
            ("mount -t proc proc $R/proc; mount --rbind /proc/driver $R/proc/driver", "/proc/driver/nvidia is covered already"),
            ("mount --rbind /proc $R/proc", "/proc/driver/nvidia is covered already"),
        ],
        ids=["folder", "tmpfs", "link to a procfs", "link to the host's name", "missing", "without the driver", "covered", "the host's"],
    )  # fmt: skip
    def test_without_the_drivers_procfs_the_step_is_left_out(
        self, both: Container, proc: str, said: str
    ) -> None:
        """The image's own files are never covered, nor read."""
        table = "cat /proc/self/mountinfo"
        ended = mounted(both, f"{proc}; {table}; echo ---", table)
        oracles.same_mounts(*ended.stdout.split("---\n"))
        assert ended.status == 0
        assert ended.said.count("\n") == 1
        assert said in ended.said

    def test_in_the_first_mount_namespace_nothing_is_mounted(self, nvidia: Container) -> None:
        """A hook of another stage, and a person at a shell, run in the namespace of process 1."""
        root = shlex.quote(str(nvidia.root))
        nvidia.within = [
            "unshare", "-m", "--pid", "--fork", "--mount-proc", "sh", "-ec",
            f'{DRIVER}\nR={root}\n{OWN_PROC}\ncd $R; env -u PWD -u OLDPWD "$@"; cat $R{STAND_IN}', "sh",
        ]  # fmt: skip
        ended = nvidia.hook(NAME)
        assert (ended.status, ended.stdout) == (0, "Linux\n")
        assert "left out: this process is not in the mount namespace of a container" in ended.said

    def test_host_without_a_driver(self, container: Container) -> None:
        before = fingerprint(container.root)
        ended = container.hook(NAME)
        assert (ended.status, ended.said) == (0, "")
        assert fingerprint(container.root) == before


@pytest.mark.engine
class TestInContainers:
    """With real runtimes; the mounts of the host do not change."""

    WATCHED = (
        "sh", "-c",
        DRIVER + 'cat /proc/self/mountinfo > "$0/before"; "$@"; status=$?\n'
        'cat /proc/self/mountinfo > "$0/after"; exit "$status"',
    )  # fmt: skip

    LOOK = f"""\
cat {STAND_IN}
echo x > {STAND_IN}
umount {STAND_IN}
mount -o remount,bind,rw {STAND_IN} {STAND_IN}
cat {STAND_IN}
"""

    def prepare(self, nvidia: Container, bundle: Container) -> None:
        spec = bundle.spec
        # runc would mount /proc/sys over itself.
        spec["linux"].pop("readonlyPaths")
        spec["hooks"] = {"createContainer": [hook_of(nvidia, NAME)]}
        spec["process"]["args"] = ["/bin/busybox", "sh", "-c", self.LOOK]

    @pytest.mark.parametrize("readonly", [False, True])
    def test_params_are_covered(
        self, runtime: Runtime, nvidia: Container, bundle: Container, readonly: bool
    ) -> None:
        self.prepare(nvidia, bundle)
        bundle.spec["root"]["readonly"] = readonly
        before = fingerprint(bundle.root / "proc")
        ended = start(runtime, bundle, *self.WATCHED, str(bundle.bundle))
        assert ended.stdout == HARMLESS * 2
        assert ended.stderr.count("\n") == 3, ended.stderr
        assert "Read-only file system" in ended.stderr
        oracles.same_mounts(*((bundle.bundle / name).read_text() for name in ("before", "after")))
        assert fingerprint(bundle.root / "proc") == before
        assert not (bundle.root / "run/nvidia-ctk-hook").exists()

    def test_a_user_namespace(self, runtime: Runtime, nvidia: Container, bundle: Container) -> None:
        """The step works in a user namespace, if the kernel permits a procfs there."""
        nvidia.altered(
            device_nodes__FOLDER='"sys/kernel"',
            device_nodes__FILE='"ostype"',
            device_nodes__driver_params=f"lambda: {PARAMS.encode()!r}",
        )
        self.prepare(nvidia, bundle)
        in_a_user_namespace(bundle, 65536)
        ended = start(runtime, bundle)
        assert ended.stdout == HARMLESS * 2, ended.stderr
