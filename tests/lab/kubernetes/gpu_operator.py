# SPDX-License-Identifier: Apache-2.0
"""The container of `nvidia-toolkit` in a node, as the GPU Operator's DaemonSet starts it.

    node.start("toolkit", *gpu_operator.command("/usr/bin/python3"),
               env={**packages.ENVIRONMENT, **gpu_operator.ENVIRONMENT})

Mounts and variables are those of `assets/state-container-toolkit` and
`controllers/object_controls.go` of the operator 26.7: the host's root is read-only at /host, and
the directories that change are beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

ENVIRONMENT = {
    "ROOT": "/usr/local/nvidia",
    "NVIDIA_CONTAINER_RUNTIME_MODES_CDI_DEFAULT_KIND": "management.nvidia.com/gpu",
    "NVIDIA_VISIBLE_DEVICES": "void",
    "TOOLKIT_PID_FILE": "/run/nvidia/toolkit/toolkit.pid",
    "NRI_NAMESPACE": "gpu-operator",
    "CDI_ENABLED": "true",
    "NVIDIA_RUNTIME_SET_AS_DEFAULT": "false",
    "NVIDIA_CONTAINER_RUNTIME_MODE": "cdi",
    "CRIO_CONFIG_MODE": "config",
    "RUNTIME": "containerd",
    "CONTAINERD_RUNTIME_CLASS": "nvidia",
    "RUNTIME_CONFIG": "/runtime/config-dir/config.toml",
    "CONTAINERD_CONFIG": "/runtime/config-dir/config.toml",
    "RUNTIME_DROP_IN_CONFIG": "/runtime/config-dir.d/99-nvidia.toml",
    "RUNTIME_DROP_IN_CONFIG_HOST_PATH": "/etc/containerd/conf.d/99-nvidia.toml",
    "RUNTIME_SOCKET": "/runtime/sock-dir/containerd.sock",
    "CONTAINERD_SOCKET": "/runtime/sock-dir/containerd.sock",
    # The validator's file says this of a driver of the host.
    "NVIDIA_DRIVER_ROOT": "/",
    "NVIDIA_DEV_ROOT": "/",
}

# kubelet creates the directories that do not exist (DirectoryOrCreate).
_CONTAINER = r"""
set -e
root=/run/operand
mkdir -p $root /etc/containerd/conf.d $ROOT /run/nvidia/toolkit /run/cdi
mount -t tmpfs tmpfs $root
for name in usr bin sbin lib lib64 opt proc sys dev; do
    if [ -L /$name ]; then cp -P /$name $root/$name; else mkdir $root/$name; mount --rbind /$name $root/$name; fi
done
for name in host runtime/config-dir runtime/config-dir.d runtime/sock-dir var/run/cdi run/nvidia tmp; do
    mkdir -p $root/$name
done
mount --rbind / $root/host
mount -o remount,bind,ro $root/host
mount --bind /etc/containerd $root/runtime/config-dir
mount --bind /etc/containerd/conf.d $root/runtime/config-dir.d
mount --bind /run/containerd $root/runtime/sock-dir
mount --bind $ROOT $root$ROOT
mount --bind /run/nvidia $root/run/nvidia
mount --bind /run/cdi $root/var/run/cdi
exec chroot $root "$@"
"""
_PROGRAM = "from cdi_gen.__main__ import nvidia_toolkit; nvidia_toolkit()"


def command(python: str, *options: str, hidden: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command that starts the container's program; it needs ``ENVIRONMENT``.

    Args:
        python: the interpreter of the container, a file of the node below /usr or /opt.
        options: of `nvidia-toolkit`.
        hidden: files on which something is mounted in the node and not in the container.
    """
    words = (python, "-c", _PROGRAM, *options)
    return (*unhidden(hidden), "/bin/sh", "-c", _CONTAINER, "sh", *words)


def unhidden(files: Sequence[str]) -> tuple[str, ...]:
    """Return the beginning of a command that sees files which are hidden in the node."""
    script = "".join(f"umount {path}; " for path in files) + 'exec "$@"'
    return ("unshare", "--mount", "/bin/sh", "-ec", script, "sh")
