# SPDX-License-Identifier: Apache-2.0
"""Names of control groups, as engines create them."""

from __future__ import annotations

import pytest

from cdi_gen.containers.group_names import Hint, hints

ID = "9c2f6c16c3c79b8af6e35d6ff329cb144d72aa20e54c2ef0cc765dee7d81029a"
OTHER = "ab" * 32
PODS = "/kubepods.slice/kubepods-besteffort.slice"
POD = f"{PODS}/kubepods-besteffort-pod0f0f0f0f_1111_2222_3333_444444444444.slice"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/docker/{ID}", Hint("docker", ID)),
        (f"/system.slice/docker-{ID}.scope", Hint("docker", ID)),
        (f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", Hint("podman", ID)),
        (f"/machine.slice/libpod-{ID}.scope/container", Hint("podman", ID)),
        (f"/libpod_parent/libpod-{ID}", Hint("podman", ID)),
        (f"/machine.slice/libpod-payload-{ID}", Hint("podman", ID)),
        (f"{POD}/crio-{ID}.scope", Hint("cri-o", ID)),
        (f"{POD}/cri-containerd-{ID}.scope", Hint("containerd", ID)),
        (f"/kubepods/besteffort/pod0f0f0f0f-1111-2222-3333-444444444444/{ID}", Hint("", ID)),
        (f"/system.slice/nerdctl-{ID}.scope", Hint("nerdctl", ID)),
        ("/lxc.payload.web/system.slice/x.service", Hint("lxc", "web")),
        ("/machine.slice/machine-deb.scope/payload", Hint("systemd-nspawn", "deb")),
        ("/user.slice/runc-web.scope", Hint("", "web")),
    ],
)  # fmt: skip
def test_container_is_recognised(path: str, expected: Hint) -> None:
    assert expected in hints({"devices": path})
    assert expected in hints({"": path})


def test_innermost_container_is_first() -> None:
    path = f"/docker/{OTHER}/docker/{ID}"
    assert [hint.id for hint in hints({"": path})][:2] == [ID, OTHER]


def test_last_name_is_a_hint() -> None:
    """crun and runc alone name the group after the container."""
    assert hints({"devices": "/web"}) == [Hint("", "web")]
    assert hints({"devices": "/", "": "/"}) == []
