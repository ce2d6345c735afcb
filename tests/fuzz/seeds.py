# SPDX-License-Identifier: Apache-2.0
"""What a fuzzer begins with: for each target what it takes, and what it once did not."""

from __future__ import annotations

from cdi_hook.ldso import cache_file
from tests.hook.shared_objects import note, shared_object

_NOTE = b'{"CUDA Version": "12.9", "Driver": [535, 550], "Device": [2]}\0'
_CACHE = cache_file.build(
    [
        cache_file.Entry(b"libc.so.6", b"/lib/libc.so.6", 0x303),
        cache_file.Entry(b"libcuda.so.1", b"/usr/lib/libcuda.so.1", 0x303),
        cache_file.Entry(b"liba.so.10", b"/lib/x/liba.so.10", 0x303, b"x86-64-v3", 2),
    ],
    [b"x86-64-v3"],
)

_MOUNTED = b"/var/run/nvidia-container-devices"


def _with_note(align: int) -> bytes:
    notes = note(b"NVIDIA Corporation\0", _NOTE, align)
    return shared_object(b"libcuda.so.1", notes=notes, note_align=align)


SEEDS: dict[str, tuple[bytes, ...]] = {
    "read-state": (
        b'{"ociVersion": "1.0.2", "id": "x", "pid": 0, "bundle": "/b", "root": "r"}',
        b'\xef\xbb\xbf{"a": [1, 2.5e3, true, null, "\\u00e9\\ud83d\\ude00"]}',
        b'{"a": 1, "a": 2}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a":' * 50_000,
        _NOTE,
    ),
    "read-configuration": (
        b"include /etc/ld.so.conf.d/*.conf\n/usr/local/lib # ours\n\xff/opt/a\n\xff/no",
        b"include ld.so.conf\ninclude *\n\xffinclude /etc/ld.so.conf.d/*",
        b"include /opt/? .d\n\xff\xff\xff/lib=libc6\n\xff/hidden\n",
        # More names than there are files.
        b"include /no /where /at /all *\n",
        b"/a\0b\r\n \t/b\f\v\n",
    ),
    "match-pattern": (b"*.conf\na.conf", b"?*[a]\nb[a]", b"*a" * 90 + b"\n" + b"a" * 90, b"*\n.x"),
    "read-elf": (
        shared_object(b"libx.so.1"),
        shared_object(b"libx.so.1", "i386"),
        shared_object(b"libx.so.1", "arm"),
        shared_object(None, "aarch64"),
        shared_object(b"libx.so.1", isa_needed=7),
        _with_note(4),
        _with_note(8),
    ),
    "read-cache": (_CACHE, b"ld.so-1.7.0\0\x01\0\0\0" + bytes(16) + _CACHE, _CACHE[:-7]),
    "read-words": (
        b"--link\0a::/b\0--folder=/x\0--host-driver-version\x00550.54.15",
        b"--update-application-profile\0--path\0/dev/dri\0--mode\x00755",
        b"--folder\0/../x",
        b"--check-requirements\0--gpu=0:9.0:nvidia\0--host-cuda-version=13.0",
    ),
    "check-requirement": (
        b"NVIDIA_REQUIRE_CUDA=cuda>=12.8 brand=tesla,driver>=470,driver<471 arch!=9.0\0PATH=/bin",
        b"CUDA_VERSION=12.4.1\0NVIDIA_REQUIRE_X=memory>=80 brand<x,,  cuda==1\0NVIDIA_DISABLE_REQUIRE=no",
        b"NVIDIA_REQUIRE_\xff\x1b=\xe2\x80\xae cuda>=" + b"9" * 5000,
    ),
    "read-toml": (
        b"# x\n[a.b]\nc = [1, 'x', {d = true}] # y\n\n'e f'.g = \"\\u00e9\"\nh = -1_000\n",
        b'disable-require = false\n[nvidia-container-runtime]\nmode = "auto"\nruntimes = ["runc"]',
        b"[features]\nignore-imex-channel-requests = true\n[nvidia-container-cli]\nldconfig = '@/x'",
        b"[a]\nb.c = 1\n[a.b]\n",
        b"a = {b = 1, c.d = 2}\na = 1.5\n",
        b'[[a]]\nb = 2020-01-01\nc = """\n',
    ),
    "read-request": (
        b"NVIDIA_VISIBLE_DEVICES=0,GPU-8d4c9b2e-1f3a-4c5d-9e6f-0123456789ab\0NVIDIA_GDS=enabled",
        b"NVIDIA_VISIBLE_DEVICES=0:1,0000:3b:00.0,nvidia.com/gpu=0\0NVIDIA_IMEX_CHANNELS=0,7",
        b"SWARM=all\0NVIDIA_DRIVER_CAPABILITIES=video,utility\0CUDA_VERSION=9.0",
        b"%(at)b/cdi/nvidia.com/gpu/0\0%(at)b/imex/5\0%(at)b-x/1\0%(at)b/1" % {b"at": _MOUNTED},
        b"@cdi.k8s.io/x=vendor.com/device=y,nvidia.com/gpu=all\0NVIDIA_VISIBLE_DEVICES=void",
    ),
}
