# SPDX-License-Identifier: Apache-2.0
"""The programs: what each runs in the container, and by what it is known to have worked.

Each looks for the driver in a way of its own: by dlopen, by the linker, by ``ldconfig -p``, by a
variable, through an ICD file. Their files are in ``inside``, which the container has as /inside.
"""

from __future__ import annotations

from typing import NamedTuple

ABSENT = 77
"""Exit status: this root file system does not have the program."""


class Program(NamedTuple):
    """One row of the table."""

    name: str
    script: str
    """For the container's /bin/sh; it ends with 0, or with ``ABSENT``, or has failed."""
    seconds: int = 120
    """How long it may take."""
    sign: str = ""
    """A regular expression that its output has to have."""
    capabilities: tuple[str, ...] = ()
    """Besides those that every container has."""
    alone: bool = False
    """It wants the GPU's counters for itself: nothing else runs meanwhile."""


def _python(file: str, *words: str) -> str:
    return " ".join((f"{_needs('python3')} python3 /inside/run_{file}.py", *words))


def _needs(*commands: str) -> str:
    """End with ``ABSENT`` where one of these is not in PATH."""
    words = " ".join(f"command -v {each} >/dev/null &&" for each in commands)
    return (
        f"{{ {words} true; }} || {{ echo 'not there: {' or '.join(commands)}'; exit {ABSENT}; }};"
    )


_CUDA_PROGRAM = f"{_needs('nvcc')} nvcc -o saxpy /inside/saxpy.cu && "

PROGRAMS = (
    Program("nvidia-smi", "nvidia-smi -L", 60, "GPU 0: "),
    Program("nvml", _python("nvml"), 60),
    Program(
        "libcuda-dir",
        'echo "$NVIDIA_CTK_LIBCUDA_DIR"; test -e "$NVIDIA_CTK_LIBCUDA_DIR/libcuda.so.1"',
        30,
    ),
    Program(
        "globs",
        # As Ollama looks: it loads what it finds.
        "ls /usr/lib*/libcuda.so* /usr/lib/*-linux-gnu/libcuda.so* 2>/dev/null; "
        "ls /usr/lib*/libcuda.so* /usr/lib/*-linux-gnu/libcuda.so* 2>/dev/null | grep -q .",
        30,
    ),
    Program(
        "sonames",
        _python(
            "sonames",
            *("libcuda.so", "libcuda.so.1", "libnvidia-ml.so", "libnvidia-ml.so.1"),
            *("libnvcuvid.so.1", "libnvidia-encode.so.1", "libnvidia-ptxjitcompiler.so.1"),
            *("libnvidia-opencl.so.1", "libnvoptix.so.1", "libnvidia-opticalflow.so.1"),
        ),
        60,
    ),
    *(
        Program(f"find_library {name}", _python("find_library", name), 60)
        for name in ("cuda", "nvidia-ml", "nvidia-ptxjitcompiler", "nvcuvid", "nvidia-encode")
    ),
    Program(
        "ptx",
        f"{_needs('gcc')} gcc -O1 -o square /gpu/square.c -ldl && ./square",
        60,
        "kernel ran, 31",
    ),
    Program(
        "gcc -lcuda",
        f"{_needs('gcc')} gcc -o linked /inside/linked.c -lcuda -lnvidia-ml && ./linked",
        60,
        "linked: ",
    ),
    Program(
        "cmake",
        f"{_needs('cmake', 'gcc', 'nvcc')} mkdir project; cp /inside/linked.c "
        "/inside/CMakeLists.txt project; cmake -S project -B built && cmake --build built && "
        "built/linked",
        120,
        "linked: ",
    ),
    Program("nvcc", f"{_CUDA_PROGRAM} ./saxpy", 120, "saxpy ran: 0"),
    Program(
        "ncu",
        f"{_needs('ncu')} {_CUDA_PROGRAM} "
        "ncu --clock-control none --metrics sm__cycles_elapsed.max ./saxpy",
        240,
        r"sm__cycles_elapsed.max +cycle +[0-9]",
        # The driver lets nobody else read counters, unless RmProfilingAdminOnly is 0.
        ("CAP_SYS_ADMIN",),
        alone=True,
    ),
    Program(
        "compute-sanitizer",
        f"{_needs('compute-sanitizer')} {_CUDA_PROGRAM} compute-sanitizer ./saxpy",
        240,
        "ERROR SUMMARY: 0 errors",
    ),
    Program(
        "cuda-gdb",
        f"{_needs('cuda-gdb')} {_needs('nvcc')} nvcc -g -G -o saxpy /inside/saxpy.cu && "
        "cuda-gdb -batch -ex 'break saxpy' -ex run -ex 'info cuda kernels' -ex continue ./saxpy",
        240,
        "saxpy ran: 0",
        ("CAP_SYS_PTRACE",),
        alone=True,
    ),
    Program("torch.compile", _python("torch_compile"), 300),
    Program("attention", _python("attention"), 240),
    Program("generate", _python("generate"), 300),
    Program("triton", _python("triton_kernel"), 240),
    Program("aot-inductor", _python("aot_inductor"), 300),
    Program("cpp_extension", _python("cpp_extension"), 300),
    Program("nccl", _python("nccl"), 240, "the sum is right"),
    Program("jax", _python("jax_matmul"), 240),
    Program("cupy", _python("cupy_nvrtc"), 180),
    Program("numba", _python("numba_cuda"), 180),
    Program("cuda-bindings", _python("cuda_bindings"), 120),
    Program("opencl", _python("opencl"), 60),
    Program("vulkan", _python("vulkan"), 60),
    Program(
        "egl",
        f"{_needs('gcc')} gcc -O1 -o egl /gpu/egl_devices.c -ldl && ./egl > said 2>&1; cat said; "
        f"if grep -q 'libEGL.so.1: cannot open' said; then exit {ABSENT}; fi; "
        "grep -q 'EGL 1.*NVIDIA' said",
        60,
    ),
)
