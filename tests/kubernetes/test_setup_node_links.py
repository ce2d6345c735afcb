# SPDX-License-Identifier: Apache-2.0
"""`setup-node` on a host whose directories are links to those of another user."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from cdi_gen.errors import CdiGenError, UnsafeError
from cdi_gen.kubernetes.node import specs
from cdi_gen.kubernetes.node.settings import NodeSettings
from tests.kubernetes.test_setup_node_faults import Host, bundle, host, tree
from tests.unit.kubernetes.nodes import inventory

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64"),
]
__all__ = ["bundle", "host", "tree"]

USER = 1000
SPEC = '{"cdiVersion": "0.5.0", "kind": "management.nvidia.com/gpu", "devices": []}'


def directory_of_a_user(host: Host, link: str) -> Path:
    """Make a path of the host a link to a directory of a user, which has a spec."""
    folder = host.tree.path("/home/user/folder")
    folder.mkdir(parents=True)
    (folder / "of-the-user.json").write_text(SPEC)
    for path in (folder.parent, folder, folder / "of-the-user.json"):
        os.chown(path, USER, USER)
    host.tree.link(link, "/home/user/folder")
    return folder


@pytest.mark.parametrize("link", ["/usr/local/nvidia", "/etc/containerd/conf.d"])
def test_nothing_is_written_through_a_link_to_a_directory_of_a_user(host: Host, link: str) -> None:
    folder = directory_of_a_user(host, link)
    before = host.tree.files()
    with pytest.raises(CdiGenError) as refusal:
        host.node_setup().run()
    assert "/home/user" in refusal.value.message
    assert os.listdir(folder) == ["of-the-user.json"]
    assert host.tree.files() == before
    host.node_setup().undo()
    assert host.tree.files() == before


def test_no_spec_of_a_directory_of_a_user_is_renamed(tmp_path: Path) -> None:
    """The user may exchange the directory for a link to another one at any moment."""
    folder = tmp_path / "cdi"
    folder.mkdir()
    (folder / "of-the-user.json").write_text(SPEC)
    os.chown(folder, USER, USER)
    (tmp_path / "link").symlink_to(folder)
    settings = NodeSettings(cdi_directory=str(tmp_path / "link"), hooks=False)
    wanted = specs.node_specs(inventory("hgx-550-8gpu"), settings)
    with pytest.raises(UnsafeError, match=str(folder)):
        specs.write_specs(wanted, settings, None)
    assert os.listdir(folder) == ["of-the-user.json"]
    (folder / f"other.json{specs.REPLACED}").write_text(SPEC)
    specs.remove_specs(settings)
    assert sorted(os.listdir(folder)) == ["of-the-user.json", f"other.json{specs.REPLACED}"]
