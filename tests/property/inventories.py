# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for inventories: such as a host can have, and any that JSON can hold."""

from __future__ import annotations

import string
from dataclasses import replace

from hypothesis import strategies as st

from cdi_gen.catalogue import FileEntry, catalogue
from cdi_gen.generate.options import HOOKS, STRATEGIES, Options
from cdi_gen.inventory import (
    DGPU,
    PLATFORMS,
    CharDevice,
    Driver,
    DriverFile,
    Gpu,
    HookProgram,
    Ignored,
    Inventory,
    Library,
    MigDevice,
    Missing,
    StaleNode,
    UnusableDevice,
)
from cdi_gen.paths import HostPath, base_name
from tests.property.strategies import TREACHEROUS, some

KNOWN = catalogue()
VERSION = "550.163.01"

# What a host can have.

uuid_texts = st.uuids().map(str)
minors = st.integers(0, 2**20 - 1)
directories = st.sampled_from(
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/opt/nvidia/lib64", "/usr/lib/i386-linux-gnu"]
)
stems = st.sampled_from(sorted(KNOWN.libraries)) | st.text(
    string.ascii_lowercase + "-_+", min_size=1, max_size=8
).map("libnvidia-{}".format)

TRANSPORT_PATHS = [
    f"/dev/{entry.name.replace('*', number)}"
    for transport in KNOWN.transports
    for entry in transport.nodes
    for number in ("0", "7", "07", "x")
]
TRANSPORT_FILES = [
    DriverFile(path=HostPath(path), seen_at=path, entry=path)
    for transport in KNOWN.transports
    for path in transport.files
]


def char_devices(path: str, minor: int | None = None) -> st.SearchStrategy[CharDevice]:
    return st.builds(
        CharDevice,
        path=st.just(path),
        major=st.integers(1, 4095),
        minor=minors if minor is None else st.just(minor),
        file_mode=st.sampled_from([0o666, 0o660, 0o444, 0o400, 0]),
        gid=st.sampled_from([0, 44, 992]),
        present=st.booleans(),
    )


@st.composite
def gpus(draw: st.DrawFn, index: int, minor: int) -> Gpu:
    drm = draw(st.booleans())
    return Gpu(
        index=index,
        minor=minor,
        uuid=draw(st.none() | uuid_texts.map("GPU-{}".format)),
        pci_address=f"{draw(st.sampled_from(['0000', '0001', '10000']))}:{index:02x}:00.0",
        model=draw(st.sampled_from(["NVIDIA H200", "", "Tesla T4"])),
        nodes=(draw(char_devices(f"/dev/nvidia{minor}", minor)),),
        drm_nodes=tuple(
            draw(char_devices(f"/dev/dri/{name}"))
            for name in (f"card{index}", f"renderD{128 + index}")
            if drm
        ),
        by_path=tuple(
            f"/dev/dri/by-path/pci-0000:{index:02x}:00.0-{kind}"
            for kind in ("card", "render")
            if drm and draw(st.booleans())
        ),
        mig_enabled=draw(st.booleans()),
    )


@st.composite
def mig_devices(draw: st.DrawFn, gpu_index: int, index: int) -> MigDevice:
    return MigDevice(
        gpu_index=gpu_index,
        index=index,
        uuid=draw(
            st.none()
            | uuid_texts.map("MIG-{}".format)
            | uuid_texts.map(f"MIG-GPU-{{}}/{index}/0".format)
        ),
        gpu_instance=draw(st.integers(0, 14)),
        compute_instance=draw(st.integers(0, 7)),
        profile=draw(st.sampled_from(["1g.10gb", "1c.3g.20gb", "1g.24gb+gfx", ""])),
        gpu_instance_cap=draw(char_devices(f"/dev/nvidia-caps/nvidia-cap{3 + 2 * index}")),
        compute_instance_cap=draw(char_devices(f"/dev/nvidia-caps/nvidia-cap{4 + 2 * index}")),
    )


@st.composite
def libraries(draw: st.DrawFn, root: str, names: list[str]) -> Library:
    stem = draw(stems)
    suffix = draw(st.sampled_from([VERSION, "1", "1.1.2"]))
    soname = draw(st.sampled_from([f"{stem}.so.1", f"{stem}.so.{suffix}"]))
    names.append(soname)
    return Library(
        path=HostPath(
            f"{root}{draw(directories)}/{draw(st.sampled_from(['', 'vdpau/']))}{stem}.so.{suffix}"
        ),
        bits=draw(st.sampled_from([32, 64])),
        soname=soname,
        needed=draw(some(st.sampled_from([*names, "libc.so.6"]))),
        links=draw(some(st.sampled_from([f"{stem}.so", f"{stem}.so.1"]))),
        aliases=draw(some(st.just(f"/usr/lib/vdpau/{stem}.so.1"), 1)),
    )


def _distinct(found: list[Library]) -> tuple[Library, ...]:
    """One library of each name, as ``host`` finds them."""
    unique = {(each.bits, base_name(each.path).partition(".so")[0]): each for each in found}
    return tuple(unique.values())


def _file_name(entry: FileEntry) -> str:
    """The name of a file on a host of the architecture x86_64."""
    return entry.name.replace("{architecture}", "x86_64")


@st.composite
def sound(draw: st.DrawFn) -> Inventory:
    """An inventory that a host could have."""
    root = draw(st.sampled_from(["/", "/run/nvidia/driver"]))
    prefix = root.rstrip("/")
    minors = draw(st.permutations(range(draw(st.integers(0, 4)))))
    found = tuple(draw(gpus(index, minor)) for index, minor in enumerate(minors))
    names: list[str] = []
    return Inventory(
        platform=DGPU,
        architecture=draw(st.sampled_from(["x86_64", "aarch64", "ppc64le"])),
        driver_root=root,
        dev_root=draw(st.sampled_from(["/", "/run/nvidia/driver"])),
        driver=Driver(
            version=VERSION,
            kernel_module="open",
            library_version=draw(st.sampled_from([VERSION] * 9 + ["535.261.03"])),
        ),
        gpus=found,
        mig_devices=tuple(
            draw(mig_devices(gpu.index, index))
            for gpu in found
            if gpu.mig_enabled
            for index in range(draw(st.integers(0, 3)))
        ),
        mig_config=draw(st.none() | char_devices("/dev/nvidia-caps/nvidia-cap1")),
        mig_monitor=draw(st.none() | char_devices("/dev/nvidia-caps/nvidia-cap2")),
        control_nodes=tuple(
            draw(char_devices(f"/dev/{entry.name}"))
            for entry in KNOWN.control_nodes
            if draw(st.booleans())
        ),
        transport_nodes=tuple(
            draw(char_devices(f"/dev/{entry.name.replace('*', str(number))}"))
            for transport in KNOWN.transports
            for entry in transport.nodes
            for number in range(draw(st.integers(0, 2)) if "*" in entry.name else 1)
            if draw(st.booleans())
        ),
        transport_files=draw(some(st.sampled_from(TRANSPORT_FILES))),
        libraries=_distinct(
            [draw(libraries(prefix, names)) for _ in range(draw(st.integers(0, 6)))]
        ),
        files=draw(
            some(
                st.sampled_from(KNOWN.files).map(
                    lambda entry: DriverFile(
                        path=HostPath(
                            f"{prefix}/usr/share/found/{_file_name(entry).replace('/', '-')}"
                        ),
                        seen_at=f"/usr/share/{_file_name(entry)}",
                        entry=entry.name,
                    )
                )
            )
        ),
        hook=draw(
            st.none()
            | st.builds(
                HookProgram,
                path=st.sampled_from(
                    ["/usr/libexec/cdi-gen/cdi-gen-hook", "/usr/bin/nvidia-cdi-hook"]
                ),
                unsafe=st.sampled_from([None, None, None, "writable by others"]),
            )
        ),
    )


# What JSON can hold: the decoder takes printable text and whole numbers of any size.

texts = (
    st.sampled_from([text for text in TREACHEROUS if text.isprintable()])
    | st.sampled_from(
        [
            *("/", "//", "/..", "/a/../b", "a", "./a", "/a b", "/a::b", "/a,ro", "-v", "/-v"),
            *("0", "all", "none", "gpu0", "pci-0000-00-00-0", "0:0", "GPU-0", "/" + "x" * 5000),
            *(
                "{}",
                "{0}",
                "{architecture}",
                "{version!r}",
                "%s",
                "..",
                ".",
                "é",
                "/é",
                "\U0001f4a5",
            ),
        ]
    )
    | st.text(
        # What `str.isprintable` accepts. A filter would give up too many of the large inventories.
        st.characters(exclude_categories=["C", "Z"], include_characters=" "),
        max_size=8,
    )
)
numbers = (
    st.integers(0, 4)
    | st.integers(-(2**65), 2**65)
    | st.sampled_from([-1, 2**31, 2**32, 2**63, 2**64, 10**300])
)


def hostile() -> st.SearchStrategy[Inventory]:
    """Any inventory at all that can be read from a file."""
    nodes = st.builds(
        CharDevice,
        path=texts,
        major=numbers,
        minor=numbers,
        file_mode=numbers,
        gid=numbers,
        present=st.booleans(),
    )
    return st.builds(
        Inventory,
        platform=st.just(DGPU) | st.sampled_from(sorted(PLATFORMS)) | texts,
        architecture=texts,
        driver_root=st.just("/") | texts,
        dev_root=st.just("/") | texts,
        driver=st.none()
        | st.builds(
            Driver,
            version=st.just(VERSION) | texts,
            kernel_module=texts,
            library_version=st.just(VERSION) | texts,
        ),
        gpus=some(
            st.builds(
                Gpu,
                index=numbers,
                minor=st.none() | numbers,
                uuid=st.none() | texts,
                pci_address=st.none() | texts,
                iommu_group=st.none() | numbers,
                model=texts,
                nodes=some(nodes),
                drm_nodes=some(nodes),
                by_path=some(texts),
                mig_enabled=st.booleans(),
            )
        ),
        mig_devices=some(
            st.builds(
                MigDevice,
                gpu_index=numbers,
                index=numbers,
                uuid=st.none() | texts,
                gpu_instance=numbers,
                compute_instance=numbers,
                profile=texts,
                gpu_instance_cap=nodes,
                compute_instance_cap=nodes,
            )
        ),
        mig_config=st.none() | nodes,
        mig_monitor=st.none() | nodes,
        control_nodes=some(nodes),
        transport_nodes=some(
            nodes | st.builds(replace, nodes, path=st.sampled_from(TRANSPORT_PATHS))
        ),
        transport_files=some(
            st.builds(DriverFile, path=texts, seen_at=texts, entry=st.sampled_from(["/run/udev"]))
        ),
        libraries=some(
            st.builds(
                Library,
                path=texts,
                bits=st.sampled_from([32, 64]) | numbers,
                soname=texts,
                needed=some(texts),
                links=some(texts),
                aliases=some(texts),
            )
        ),
        files=some(
            st.builds(
                DriverFile,
                path=texts,
                seen_at=texts,
                entry=texts | st.sampled_from([entry.name for entry in KNOWN.files]),
            )
        ),
        hook=st.none() | st.builds(HookProgram, path=texts, unsafe=st.none() | texts),
        engines_make_nodes=st.booleans(),
        booting=st.booleans(),
        missing=some(st.builds(Missing, name=texts, reason=texts, code=texts)),
        stale_nodes=some(st.builds(StaleNode, path=texts, reason=texts, code=texts)),
        unusable_devices=some(st.builds(UnusableDevice, device=texts, reason=texts, code=texts)),
        ignored=some(st.builds(Ignored, path=texts, reason=texts, code=texts)),
    )


capabilities = st.sampled_from(["all", *(each.name for each in KNOWN.capabilities)])
options = st.builds(
    Options,
    vendor=st.just("nvidia.com") | texts,
    class_=st.sampled_from(["gpu", "gpu.shared", "cap"]) | texts,
    names=some(st.sampled_from(STRATEGIES), 4),
    devices=st.just(("all",)) | some(st.sampled_from(["0", "1", "0:0", "all", "none"]) | texts),
    all_device=st.booleans(),
    capabilities=some(capabilities) | some(texts),
    hooks=st.booleans(),
    disabled_hooks=some(st.sampled_from([*HOOKS, "all"])),
    enabled_hooks=some(st.sampled_from(HOOKS)),
    ldconfig_path=st.none() | st.just("/sbin/ldconfig"),
    additional_gids=st.booleans(),
    rootless=st.booleans(),
    newest_version=st.sampled_from([None, None, "0.3.0", "0.5.0", "1.1.0"]),
)
