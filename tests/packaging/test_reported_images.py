# SPDX-License-Identifier: Apache-2.0
"""Installation into the root file systems of images, as public pages build them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.program import cdi_gen


def _files(directory: Path) -> set[str]:
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


@pytest.mark.parametrize("text", ["/var/usrlocal", "../var/usrlocal"])
def test_a_directory_of_the_image_is_a_link(tmp_path: Path, text: str) -> None:
    """ublue-os/image-template: ``rm -rf /opt && ln -s /var/opt /opt``; ostree's /usr/local is a link.

    The link must not lead to the machine that builds the image.
    """
    image = tmp_path / "image"
    (image / "usr").mkdir(parents=True)
    (image / "usr/local").symlink_to(text)
    outside = Path("/var/usrlocal")
    assert not os.path.lexists(outside)
    result = cdi_gen("install", "--root", str(image), "--nvidia-cdi-hook")
    assert result.code == 0, result.err
    local = image / "var/usrlocal"
    assert (local / "libexec/cdi-gen/nvidia-cdi-hook").is_file()
    assert (local / "lib/systemd/system/cdi-gen.service").is_file()
    assert (local / "bin/nvidia-cdi-hook").is_symlink()
    assert not os.path.lexists(outside)
    result = cdi_gen("uninstall", "--root", str(image))
    assert result.code == 0, result.err
    assert _files(image) == {"usr/local"}


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    image = tmp_path / "image"
    (image / "usr").mkdir(parents=True)
    (image / "usr/local").symlink_to("/usr/local")
    result = cdi_gen("install", "--root", str(image))
    assert result.code == 1
    assert "Too many levels of symbolic links" in result.err
    assert "Traceback" not in result.err


def test_a_host_whose_usr_is_read_only(tmp_path: Path, own_mounts: None) -> None:
    """flatcar/Flatcar#1859: /usr/local is in /usr, and programs come as system extensions."""
    host = tmp_path / "host"
    (host / "usr/local").mkdir(parents=True)
    subprocess.run(["mount", "--bind", host / "usr", host / "usr"], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", host / "usr"], check=True)
    result = cdi_gen("install", "--root", str(host))
    assert result.code == 1
    assert "Read-only file system" in result.err
    assert "build a system extension" in result.err
    assert list(host.iterdir()) == [host / "usr"], "no record of what was not installed"
    extension = tmp_path / "extension"
    extension.mkdir()
    words = ("--root", str(extension), "--prefix", "/usr", "--no-record")
    assert cdi_gen("install", *words).code == 0
    assert list(extension.iterdir()) == [extension / "usr"], "an extension has nothing else"


def test_an_image_without_systemd_without_a_driver_and_without_proc(tmp_path: Path) -> None:
    """NVIDIA/nvidia-container-toolkit#1827: packages are installed while a machine image is built."""
    image = tmp_path / "image"
    image.mkdir()
    result = cdi_gen("install", "--root", str(image), "--prefix", "/usr", "--no-record")
    assert result.code == 0, result.err
    assert (image / "usr/lib/systemd/system-preset/90-cdi-gen.preset").is_file()
    assert not (image / "etc/systemd").exists(), "presets enable units, not the installation"
