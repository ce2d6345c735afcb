# SPDX-License-Identifier: Apache-2.0
"""Driver roots that are no whole file tree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from cdi_gen.errors import CdiGenError
from cdi_gen.generate import generate
from tests.host.driver_tree import HOOK, SmallHost, require_whole
from tests.host.test_layouts import kubernetes_engine

pytestmark = pytest.mark.host


class TestDriverRoots:
    """``--driver-root`` of a directory that is no whole file tree."""

    @pytest.mark.parametrize("libraries", ["lib64", "lib", "lib/x86_64-linux-gnu", ""])
    @pytest.mark.parametrize("root", ["/home/kubernetes/bin/nvidia", "/usr/local/nvidia", "/mnt/d"])
    def test_one(self, small: Callable[..., SmallHost], root: str, libraries: str) -> None:
        host = small()
        host.whole(root, libraries)
        inventory = host.look(driver_root=root)
        require_whole(host, inventory)
        assert (inventory.driver_root, inventory.dev_root) == (root, "/")
        (node, *_) = inventory.control_nodes
        assert node.present

    def test_one_with_nodes_of_its_own(self, small: Callable[..., SmallHost]) -> None:
        """Of a driver container: its /dev counts, and an option that names another."""
        host = small()
        host.whole("run/nvidia/driver/usr")
        (host.root / "run/nvidia/driver/dev").mkdir()
        assert host.look(driver_root="/run/nvidia/driver").dev_root == "/run/nvidia/driver"
        assert host.look(driver_root="/run/nvidia/driver", dev_root="/").dev_root == "/"

    def test_icd_files_as_google_has_them(self, small: Callable[..., SmallHost]) -> None:
        host = small()
        kubernetes_engine(host)
        require_whole(host, host.look(driver_root="/home/kubernetes/bin/nvidia"))

    def test_libraries_in_the_root_itself(self, small: Callable[..., SmallHost]) -> None:
        """In the container they are in a directory of libraries, not in /."""
        host = small()
        host.whole("mnt/d", "")
        inventory = host.look(driver_root="/mnt/d")
        spec = generate(dataclasses.replace(inventory, hook=HOOK))
        places = {each.container_path for each in spec.container_edits.mounts}
        assert f"/usr/lib64/libcuda.so.{host.tree.version}" in places
        assert not [each for each in places if each.count("/") == 1]
        (hook,) = spec.container_edits.hooks
        assert {"/usr/lib64/libcuda.so.1", "/usr/lib64"} <= {
            word for each in hook.args for word in each.split("::")
        }

    def test_programs_in_the_root_itself(self, small: Callable[..., SmallHost]) -> None:
        host = small()
        host.libraries("mnt/d/lib64")
        host.programs("mnt/d")
        spec = generate(host.look(driver_root="/mnt/d"))
        places = {each.container_path: each.host_path for each in spec.container_edits.mounts}
        assert places["/usr/bin/nvidia-smi"] == "/mnt/d/nvidia-smi"

    def test_one_that_is_not_named(self, small: Callable[..., SmallHost]) -> None:
        """A driver root of the GPU operator: its links are absolute, so it has to be named."""
        host = small()
        host.whole("run/nvidia/driver/usr")
        with pytest.raises(CdiGenError) as caught:
            host.look()
        assert "--driver-root DIR (/run/nvidia/driver exists)" in str(caught.value.hint)
