# SPDX-License-Identifier: Apache-2.0
"""Where config.toml is, and which files are refused. `tests/unit/base` has each rule of trust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdi_base import nvidia
from cdi_base.errors import HookError
from cdi_runtime.config_toml import configuration
from cdi_runtime.config_toml.configuration import load
from cdi_runtime.config_toml.settings import ConfigurationError
from tests.runtime.test_configuration import DEFAULTS, as_dict


def write(path: Path, text: str = "disable-require = true") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_environment_names_the_file(tmp_path: Path) -> None:
    override = write(tmp_path / "a.toml", 'swarm-resource = "A"')
    below = write(tmp_path / "xdg" / nvidia.CONFIGURATION, 'swarm-resource = "B"')
    given = write(tmp_path / "c.toml", 'swarm-resource = "C"')
    both = {configuration.OVERRIDE: str(override), "XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    assert load(str(given), both).swarm_resource == ("C",)
    assert load(None, both).swarm_resource == ("A",)
    settings = load(None, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert (settings.swarm_resource, settings.source) == (("B",), str(below))


def test_environment_of_the_process_is_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(configuration.OVERRIDE, str(write(tmp_path / "a.toml")))
    assert load().disable_require
    assert load(None, {}).source in {None, f"/etc/{nvidia.CONFIGURATION}"}


@pytest.mark.parametrize("name", [configuration.OVERRIDE, "XDG_CONFIG_HOME"])
@pytest.mark.parametrize(
    "place",
    ["x", "./x", "../x", "/proc/self/cwd/x", "//proc/1/root/x", "/./proc/x", "/etc/../proc/self/cwd",
     "/dev/fd/0", "/dev/stdin", "/dev/shm/x"],
)  # fmt: skip
def test_path_that_could_be_the_images_is_rejected(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook without `env` has the image's environment, and the image's root as current directory."""
    monkeypatch.chdir(write(tmp_path / "x").parent)
    with pytest.raises(
        ConfigurationError, match=rf"^{name} is .*: config\.toml must have an absolute path"
    ):
        load(None, {name: place})


def test_missing_file_means_the_defaults(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert as_dict(load(None, {"XDG_CONFIG_HOME": absent})) == DEFAULTS
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(absent, {})
    with pytest.raises(ConfigurationError, match="does not exist"):
        load(None, {configuration.OVERRIDE: absent})


def test_link_is_followed(tmp_path: Path) -> None:
    """NixOS has links in /etc."""
    write(tmp_path / "store" / "config.toml")
    (tmp_path / "link.toml").symlink_to("store/config.toml")
    assert load(str(tmp_path / "link.toml")).disable_require


def refused(file: Path) -> str:
    with pytest.raises(ConfigurationError, match="only root may be able to change it") as caught:
        load(str(file))
    return str(caught.value)


def test_file_that_others_can_write_is_rejected(tmp_path: Path) -> None:
    """The group root is no exception: it may have members."""
    file = write(tmp_path / "c.toml")
    file.chmod(0o664)
    assert "can be written to by others (mode 0664)" in refused(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_reads_no_file_that_another_user_can_replace(tmp_path: Path) -> None:
    file = write(tmp_path / "etc" / "c.toml")
    assert load(str(file)).disable_require
    os.chown(file, 1000, 0)
    assert "belongs to user 1000" in refused(file)
    os.chown(file, 0, 0)
    file.parent.chmod(0o777)
    assert f"{file.parent} can be written to by others" in refused(file)
    file.parent.chmod(0o755)
    os.chown(file.parent, 1000, 0)
    assert f"{file.parent} belongs to user 1000" in refused(file)


def test_path_that_no_file_can_have_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"^'.*' is not read: ") as caught:
        load("/a\0b")
    assert str(caught.value).isprintable()
    assert issubclass(ConfigurationError, HookError)


def test_nothing_costly_is_imported() -> None:
    hooks = Path(configuration.__file__).parents[2]
    program = (
        f"import os, stat, sys; sys.path.insert(0, {str(hooks)!r}); before = set(sys.modules)\n"
        "from cdi_runtime import request\n"
        "from cdi_runtime.config_toml import configuration\n"
        "print(*sorted(name for name in set(sys.modules) - before if 'cdi_' not in name))"
    )
    modules = subprocess.run(
        [sys.executable, "-IS", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    ).stdout.split()
    assert set(modules) <= {"__future__", "_json", "_signal", "errno", "resource", "select", "time"}
