"""The fallback where bubblewrap is not installed: Linux name spaces, made by five system calls.

Kept beside bubblewrap since many machines of universities have no bwrap, and users there may make
name spaces but install nothing. It hides a list of folders; bubblewrap shows only what is needed.
"""

import ctypes
import os
from pathlib import Path
from typing import Any

NEW_USER, NEW_MOUNTS, NEW_PIDS, NEW_NETWORK = 0x10000000, 0x00020000, 0x20000000, 0x40000000
PRIVATE, RECURSIVE = 1 << 18, 1 << 14
SET_DUMPABLE, DIE_WITH_PARENT = 4, 1


def system(name: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def isolate(hidden: list[Path]) -> None:
    """No network, no other process, and empty folders in the place of `hidden`; Linux only.

    Raises OSError or AttributeError where the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    system("prctl", SET_DUMPABLE, 1)  # else the two files below belong to root

    def new_namespaces(flags: int) -> None:
        system("unshare", NEW_USER | NEW_MOUNTS | flags)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")

    new_namespaces(NEW_NETWORK | NEW_PIDS)
    system("mount", b"none", b"/", None, PRIVATE | RECURSIVE, None)
    for folder in hidden:
        if folder.is_dir():
            system("mount", b"none", bytes(folder), b"tmpfs", 0, None)
    # What was mounted in the outer namespace cannot be unmounted in the inner one.
    new_namespaces(0)
    if (child := os.fork()) != 0:  # the child is process 1 of its own namespace
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
    system("prctl", DIE_WITH_PARENT, 9)


def why_open(hidden: list[Path]) -> str:
    """Why this system does not shut a process in, or "" where it does; tried in a process apart,
    since half of it is worse than none.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            isolate(hidden)
            reason = ""
        except (OSError, AttributeError) as error:
            reason = str(error) or "not allowed here"
        os.write(writer, reason.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as told:
        return told.read().decode()
