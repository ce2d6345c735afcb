# SPDX-License-Identifier: Apache-2.0
"""A stand-in for ``nvidia-cuda-mps-control``, as daemon and as the program that sends commands.

Tests copy it into a directory, with an interpreter. It behaves as the program of driver 580 does without a client. The file ``behaviour`` beside it
changes that, by these words:

* ``dies``: the daemon ends at once with a message;
* ``old``: it lacks -multiuser-server, as the program of driver 550;
* ``refuses``: it accepts no limits;
* ``clients``: it has a server with a client.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

HERE = Path(sys.argv[0]).parent
MOST = 1 << 16
PIPES = Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])


def behaviour() -> set[str]:
    """Return the words of the file."""
    file = HERE / "behaviour"
    return set(file.read_text("utf-8").split()) if file.exists() else set()


def serve() -> None:
    """Answer commands until ``quit``."""
    print(f"Starting control daemon using socket {PIPES}/control", flush=True)
    if "dies" in behaviour():
        sys.exit("an error of the driver")
    for name in ("control", "control_privileged"):
        (PIPES / name).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(str(PIPES / "control"))
    (PIPES / "control").chmod(0o666)
    listening.listen()
    (PIPES / "control_privileged").touch()
    limits = {"percentage": "100.0"}
    while True:
        client, _ = listening.accept()
        with client, contextlib.suppress(BrokenPipeError):
            for line in client.recv(MOST).decode().splitlines():
                if line == "quit":
                    (PIPES / "control").unlink()
                    sys.exit()
                client.send(answer(line.split(), limits).encode() or b"\0")


def answer(words: list[str], limits: dict[str, str]) -> str:
    """Return the answer to a command."""
    match words:
        case ["set_default_active_thread_percentage", _] if "refuses" in behaviour():
            return "Insufficient privileges for UID 0.\n"
        case ["set_default_active_thread_percentage", value]:
            limits["percentage"] = f"{float(value):.1f}"
            return limits["percentage"] + "\n"
        case ["get_default_active_thread_percentage"]:
            return limits["percentage"] + "\n"
        case ["set_default_device_pinned_mem_limit", device, value]:
            limits[device] = value
        case ["get_default_device_pinned_mem_limit", device]:
            return limits[device] + "\n"
        case ["get_server_list"]:
            return "77\n" if "clients" in behaviour() else ""
        case ["get_client_list", "77"]:
            return "78\n"
        case []:
            return ""
        case _:
            return f'Unknown command "{words[0]}"\n'
    return ""


def send() -> None:
    """Send the commands of standard input to a daemon."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        try:
            client.connect(str(PIPES / "control"))
        except OSError:
            sys.exit("Cannot find MPS control daemon process")
        client.send(sys.stdin.buffer.read())
        while data := client.recv(MOST):
            sys.stdout.buffer.write(data.strip(b"\0"))


if __name__ == "__main__":
    if "-f" not in sys.argv or ("old" in behaviour() and "-multiuser-server" in sys.argv):
        send()
    else:
        serve()
