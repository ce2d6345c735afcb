# SPDX-License-Identifier: Apache-2.0
"""The units in a real systemd: the order at boot, and what happens to a running host."""

from __future__ import annotations

import pytest

from tests.systemd.conftest import PROGRAM, QUADLET, SUITES, BootHost, until

pytestmark = [pytest.mark.engine, pytest.mark.host]

SLOW_DRIVER = {
    "/usr/lib/systemd/system/slow-driver.service": "[Unit]\nDefaultDependencies=no\n"
    "[Service]\nExecStart=/bin/sh -c 'sleep 3; exec /usr/bin/load-driver'\n"
}
"""udev loads the module while the host boots; nothing is ordered after it."""
WANTED = "chroot . systemctl --quiet add-wants sysinit.target slow-driver.service\n"

SPECS = ["nvidia-cap.json", "nvidia.json"]


@pytest.mark.parametrize("suite", SUITES)
def test_everything_that_starts_containers_waits_for_the_specs(boot_host: BootHost) -> None:
    with boot_host(installed=True, files=SLOW_DRIVER, commands=WANTED) as host:
        assert host.seen() == dict.fromkeys(host.engines, SPECS), host.log("cdi-gen.service")
        assert host.run("systemctl", "is-system-running", check=False).stdout == "running\n"


def test_the_order_can_be_switched_off(boot_host: BootHost) -> None:
    """The control: without the drop-in, engines start before the driver is loaded."""
    path = "/etc/systemd/system/cdi-gen.service.d/10-engines.conf"
    files = SLOW_DRIVER | {path: ""}
    with boot_host(installed=True, files=files, commands=WANTED) as host:
        expected = {name: [] if name != QUADLET else SPECS for name in host.engines}
        assert host.seen() == expected, "a quadlet has its own drop-in"
        until(host.has_specs, "the specs are written when the driver is loaded")


def test_a_host_without_a_gpu_boots_without_delay_and_without_a_failure(
    boot_host: BootHost,
) -> None:
    remove = "umount sys/bus/pci/devices\n"
    with boot_host(installed=True, commands=remove) as host:
        assert host.run("systemctl", "is-system-running", check=False).stdout == "running\n"
        shown = host.show("cdi-gen.service", "Result", "ExecMainStatus")
        assert shown["Result"] == "success"
        assert "none is expected" in host.log("cdi-gen-driver.service")
        assert host.seen() == {name: [] for name in host.engines}


def test_a_driver_that_comes_after_the_boot(boot_host: BootHost) -> None:
    """And goes, and comes again: as for an update without a reboot."""
    with boot_host() as host:
        assert not host.has_specs()
        # From now on the module is installed.
        host.sh("sed -i s/nothing/nvidia/ /usr/lib/modules/*/modules.dep")
        host.run("load-driver")
        until(host.has_specs, "specs of the new driver")
        assert "the host has changed: the driver" in host.log("cdi-gen-watch.service")
        host.run("unload-driver")
        until(lambda: not host.has_specs(), "no specs without a driver")
        log = host.log("cdi-gen-driver.service")
        assert "was not loaded in" not in log, "a driver that was unloaded is not waited for"
        host.run("load-driver")
        until(host.has_specs, "specs of the driver that is loaded again")


def test_what_happens_to_a_running_host(boot_host: BootHost) -> None:
    with boot_host("550-lib64", loaded=True) as host:
        assert host.has_specs()
        last = host.refresh()
        # The specs outlive the unit and a reload of all units.
        assert host.show("cdi-gen.service", "ActiveState")["ActiveState"] == "inactive"
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "daemon-reexec")
        assert host.has_specs()
        assert host.refresh() == last

        # A node that is made late.
        host.sh("rm /dev/nvidia-uvm-tools")
        host.wait_for_refresh(last)
        last = host.refresh()

        # A process that was killed is started again, and misses nothing.
        before = host.show("cdi-gen-watch.service", "MainPID")["MainPID"]
        host.run("systemctl", "kill", "--signal=KILL", "cdi-gen-watch.service")
        host.sh("cp -a /opt/fake/dev/nvidia-uvm-tools /dev/")
        until(
            lambda: host.show("cdi-gen-watch.service", "MainPID")["MainPID"] not in {before, "0"},
            "the service is started again",
        )
        host.wait_for_refresh(last)
        last = host.refresh()

        # A spec directory that was emptied by mistake is filled by the next refresh.
        host.sh("rm /run/cdi/*.json")
        host.run("systemctl", "start", "cdi-gen.service")
        assert host.has_specs()


INSTALL = """
mkdir -p /tmp/package/DEBIAN
printf 'Package: libcuda1\\nVersion: 1\\nArchitecture: all\\nMaintainer: test\\nDescription: test\\n' \\
    >/tmp/package/DEBIAN/control
echo 'activate-noawait ldconfig' >/tmp/package/DEBIAN/triggers
dpkg-deb --build /tmp/package /tmp/package.deb
dpkg --install /tmp/package.deb
"""
"""A package with a library: its trigger makes dpkg run ldconfig."""


@pytest.mark.parametrize("unit", ["cdi-gen-watch.service", "cdi-gen.path"])
def test_an_upgrade_of_packages_is_followed_by_a_refresh(boot_host: BootHost, unit: str) -> None:
    """The last step of each is ldconfig, which replaces its cache."""
    with boot_host(loaded=True) as host:
        other = {"cdi-gen-watch.service", "cdi-gen.path"} - {unit}
        host.run("systemctl", "stop", *other)
        host.run("systemctl", "start", unit)
        last = host.refresh()
        host.sh(INSTALL)
        if unit == "cdi-gen-watch.service":
            host.sh("cp /etc/ld.so.cache /opt/fake/etc/new; cd /opt/fake/etc; mv new ld.so.cache")
        host.wait_for_refresh(last)


def test_mig_devices_that_are_reconfigured(boot_host: BootHost) -> None:
    """procfs has no inotify, and the kernel sends no event."""
    with boot_host("550-mig-mixed", loaded=True) as host:
        last = host.refresh()
        host.sh("rm -r /proc/driver/nvidia/capabilities/gpu*/mig/gi*")
        host.wait_for_refresh(last)
        assert "the host has changed: the MIG devices" in host.log("cdi-gen-watch.service")
        # As after nvidia-smi mig -cgi with the same profiles: the same names, at once.
        until(lambda: "without a device" in host.status(), host.status())
        last = host.refresh()
        host.sh("cp -a /opt/fake/proc/driver/nvidia/capabilities /proc/driver/nvidia/")
        host.wait_for_refresh(last)


def test_a_device_that_is_left_out_is_a_failure_and_engines_start(boot_host: BootHost) -> None:
    without = "rm dev/nvidia1\n"
    with boot_host(loaded=True, commands=without) as host:
        shown = host.show("cdi-gen.service", "Result", "ExecMainStatus", "ActiveState")
        assert shown == {"Result": "exit-code", "ExecMainStatus": "4", "ActiveState": "failed"}
        assert host.seen() == dict.fromkeys(host.engines, SPECS)
        assert "cdi-gen.service" in host.run("systemctl", "--failed", "--plain").stdout


def test_device_nodes_are_created_where_the_unit_is_enabled(boot_host: BootHost) -> None:
    commands = (
        "chroot . systemctl --quiet enable cdi-gen-device-nodes.service\nrm dev/nvidia*uvm*\n"
    )
    with boot_host(loaded=True, commands=commands) as host:
        log = host.log("cdi-gen-device-nodes.service")
        assert "/dev/nvidia-uvm (510:0): created" in log
        assert "/dev/char/510:0 -> /dev/nvidia-uvm: created" in log
        assert host.sh("stat -c '%F %a %t:%T' /dev/nvidia-uvm") == (
            "character special file 666 1fe:0\n"
        )


TREE = {"/etc/cdi-gen/config.d/tree.toml": '[refresh]\nform = "tree"\ndevice-nodes = true\n'}


def test_a_unit_with_a_sandbox_refuses_to_make_the_driver_tree(boot_host: BootHost) -> None:
    """Its mounts would be seen by no other process."""
    with boot_host(loaded=True, files=TREE) as host:
        shown = host.show("cdi-gen.service", "Result", "ExecMainStatus")
        assert shown == {"Result": "exit-code", "ExecMainStatus": "1"}
        assert not host.has_specs()


def test_the_privileged_drop_in_lets_the_unit_make_tree_and_nodes(boot_host: BootHost) -> None:
    link = (
        "ln -s /usr/share/cdi-gen/cdi-gen-privileged.conf etc/systemd/system/cdi-gen.service.d/\n"
    )
    commands = f"rm dev/nvidia-uvm; mkdir -p etc/systemd/system/cdi-gen.service.d; {link}"
    with boot_host(loaded=True, files=TREE, commands=commands) as host:
        log = host.log("cdi-gen.service")
        assert host.show("cdi-gen.service", "Result")["Result"] == "success", log
        assert host.seen() == dict.fromkeys(host.engines, SPECS)
        # Other processes see the mounts.
        current = "/run/cdi-gen/driver/current/lib64/libcuda.so.550.163.01"
        driver = "/opt/fake/usr/lib64/libcuda.so.550.163.01"
        assert host.sh('cmp "$1" "$2" && echo same', current, driver) == "same\n"
        assert "/dev/nvidia-uvm" in log
        assert host.sh("stat -c %t:%T /dev/nvidia-uvm") == "1fe:0\n"


KILLED = PROGRAM.replace(
    "exec",
    "if [ $1 = refresh ] && [ ! -e /run/cdi-gen/killed-2 ]; then\n"
    "    [ ! -e /run/cdi-gen/killed-1 ] || touch /run/cdi-gen/killed-2\n"
    "    touch /run/cdi-gen/killed-1; kill -KILL $$\n"
    "fi\nexec",
)


def test_a_refresh_that_was_killed_is_done_again(boot_host: BootHost) -> None:
    """At boot, and once more when the watching service tries."""
    with boot_host(loaded=True, files={"/usr/bin/cdi-gen": KILLED}) as host:
        until(host.has_specs, "the refresh after the two that were killed")
        until(lambda: host.status() == "the specs are up to date", host.status())
        assert "the last refresh failed with exit code 9" in host.log("cdi-gen-watch.service")


def test_processes_that_are_killed_at_any_moment(boot_host: BootHost) -> None:
    """Whatever was killed, the specs are right a while after the last change."""
    with boot_host(loaded=True) as host:
        for number in range(12):
            change = "rm" if number % 2 == 0 else "cp -a /opt/fake/dev/nvidia-uvm-tools"
            target = "/dev/nvidia-uvm-tools" if number % 2 == 0 else "/dev/"
            host.sh(f"{change} {target}")
            host.sh("sleep $1", f"{number * 0.15:.2f}")
            units = ("cdi-gen.service", "cdi-gen-watch.service")
            host.run("systemctl", "kill", "--signal=KILL", *units, check=False)
        host.sh("rm /dev/nvidia-uvm-tools")

        def is_right() -> bool:
            return (
                host.refresh() != ""
                and host.status() == "the specs are up to date"
                and host.run("cdi-gen", "check", check=False).returncode == 0
            )

        until(is_right, "specs that agree with the host")
        assert host.sh("ls -A /run/cdi").split() == SPECS
