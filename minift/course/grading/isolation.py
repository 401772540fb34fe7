"""A process that can compute, and nothing else (Linux).

``enter`` and ``lock`` take the running process, which must have one thread, out of its
surroundings:

- namespaces: no network; a file system in memory that shows only the Python installation,
  read-only, and is empty otherwise; no view of other processes, which all end with the first;
- limits: memory, processor time, size of files, open files;
- privileges: none, for good; and a filter (seccomp) under which the kernel refuses to start
  processes and threads, to open sockets, to mount, to trace, and to keep memory elsewhere.

Nothing here needs root: the namespaces are those of an unprivileged user, where the system allows
them (``why_not`` says whether it does). Sources: namespaces(7), pivot_root(2), seccomp(2),
capabilities(7) of the Linux manual pages.
"""

import contextlib
import ctypes
import errno
import functools
import os
import platform
import resource
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

# sched.h, sys/mount.h, sys/prctl.h
_NEW_MOUNTS, _NEW_UTS, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USER, _NEW_PIDS, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE = 1, 2, 4, 32, 4096, 16384
_PRIVATE, _DETACH = 1 << 18, 2
_SET_DEATH_SIGNAL, _SET_SECCOMP, _DROP_CAPABILITY, _NO_NEW_PRIVILEGES = 1, 22, 24, 38
_NOBODY = 65534

# what a system call is called by, on the machines that are known
_ARCHES = {
    "x86_64": (0xC000003E, {
        "pivot_root": 155, "clone": 56, "clone3": 435, "fork": 57, "vfork": 58,
        "execve": 59, "execveat": 322, "socket": 41, "socketpair": 53, "connect": 42, "bind": 49,
        "ptrace": 101, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "chroot": 161,
        "process_vm_readv": 310, "process_vm_writev": 311,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "bpf": 321,
        "perf_event_open": 298, "io_uring_setup": 425, "userfaultfd": 323, "keyctl": 250,
        "add_key": 248, "request_key": 249, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "mount_setattr": 442, "open_by_handle_at": 304, "memfd_create": 319, "shmget": 29,
        "semget": 64, "msgget": 68, "mq_open": 240,
    }),
    "aarch64": (0xC00000B7, {
        "pivot_root": 41, "clone": 220, "clone3": 435, "execve": 221,
        "execveat": 281, "socket": 198, "socketpair": 199, "connect": 203, "bind": 200,
        "ptrace": 117, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "chroot": 51,
        "process_vm_readv": 270, "process_vm_writev": 271,
        "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "bpf": 280,
        "perf_event_open": 241, "io_uring_setup": 425, "userfaultfd": 282, "keyctl": 219,
        "add_key": 217, "request_key": 218, "open_tree": 428, "move_mount": 429, "fsopen": 430,
        "mount_setattr": 442, "open_by_handle_at": 265, "memfd_create": 279, "shmget": 194,
        "semget": 190, "msgget": 186, "mq_open": 180,
    }),
}  # fmt: skip
_STARTS_PROCESSES = ("clone", "fork", "vfork", "execve", "execveat", "clone3")
_MAX_FILES = 10_000  # an empty file takes memory too, which no limit on bytes counts


@dataclass(frozen=True)
class Limits:
    """What one exercise of one submission may use.

    Attributes:
        seconds: of time on the clock, in all.
        memory: bytes of address space beyond what Python and PyTorch take.
        file_size: bytes of one file; the whole writable space is four times that.
        programs: whether other programs may be started: for the compiler of kernels only.
    """

    seconds: float = 60.0
    memory: int = 2 << 30
    file_size: int = 16 << 20
    programs: bool = False


@functools.cache
def why_not() -> str | None:
    """Why code cannot be isolated on this system, or None when it can; tried once."""
    if sys.platform != "linux":
        return f"the system is {platform.system()}; isolation needs Linux"
    if platform.machine() not in _ARCHES:
        return f"the processor is {platform.machine()}; known are {', '.join(_ARCHES)}"
    here = str(Path(__file__).parents[3])
    code = f"import sys; sys.path.insert(0, {here!r}); from {__name__} import try_it; try_it"
    with tempfile.TemporaryDirectory(prefix="minift-grading-") as root:
        done = subprocess.run(
            [sys.executable, "-c", f"{code}({root!r})"], capture_output=True, text=True
        )
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]


def try_it(root: str) -> None:
    """Isolate this process and end, with exit code 0 if that went well."""
    child = enter(Limits(), root)
    if child:
        sys.exit(min(abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])), 1))
    close_doors()
    lock(Limits())


def enter(limits: Limits, root: str) -> int:
    """Isolate the running process and go on in a child of it: in that, 0 is returned.

    In the process itself the child's number is returned, as by ``os.fork``. ``root`` is an empty
    folder on which the child's file system is put.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    flags = _NEW_USER | _NEW_MOUNTS | _NEW_NETWORK | _NEW_PIDS | _NEW_IPC | _NEW_UTS
    _must(_LIBC.unshare(flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{_NOBODY} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{_NOBODY} {group} 1")
    _file_system(root, limits)
    child = os.fork()
    if not child:
        die_with_parent()
    return child


def die_with_parent() -> None:
    """Have this process killed when the one ends that started it.

    New privileges, as ``enter`` gives them, undo it: call it after that.
    """
    _must(_LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "prctl")


def lock(limits: Limits) -> None:
    """Give up every privilege and set the limits, for the rest of this process's life."""
    os.chdir("/home")
    os.environ.update(HOME="/home", TMPDIR="/tmp", XDG_CACHE_HOME="/home", USER="nobody")
    _limit(limits)
    for capability in range(64):
        _LIBC.prctl(_DROP_CAPABILITY, capability, 0, 0, 0)
    header, none = struct.pack("<Ii", 0x20080522, 0), bytes(24)
    _must(_LIBC.capset(header, none), "capset")
    _must(_LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    _filter(limits)


def _limit(limits: Limits) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if _has_proc() else 2 << 20
    space = pages * os.sysconf("SC_PAGE_SIZE") + limits.memory
    space *= 2 if limits.programs else 1  # a compiler maps its own size once more
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    seconds = int(limits.seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size, limits.file_size))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _has_proc() -> bool:
    return Path("/proc/self/statm").exists()


# ---- the file system


def _visible() -> list[str]:
    """What Python, PyTorch and Triton's compilers need: the installation, and system libraries.

    Of ``/usr`` and of Python's own folder only what installations consist of: a class's work, or
    this project, may stand beside that.
    """
    roots = ("", "/usr", "/usr/local", sys.prefix, sys.base_prefix)
    parts = ("bin", "sbin", "lib", "lib32", "lib64", "libexec", "include", "pyvenv.cfg")
    paths = {f"{root}/{part}" for root in roots for part in parts}
    paths |= {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {p for p in sys.path if p.endswith(_PACKAGES)}  # a user's own among them
    paths |= {"/etc/ld.so.cache"}
    paths |= {f"/dev/{name}" for name in ("null", "zero", "urandom", "random")}
    real = sorted({os.path.realpath(p) for p in paths if os.path.exists(p)})
    return [p for p in real if not any(p != q and Path(p).is_relative_to(q) for q in real)]


_PACKAGES = ("site-packages", "dist-packages")


def _hidden(root: str) -> list[str]:
    """The project, where it is among what is visible under ``root``: it holds the answers."""
    project = os.path.realpath(Path(__file__).parents[3])
    folders = {project, *(os.path.realpath(p) for p in sys.path if p.endswith(_PACKAGES))}
    paths = {f"{p}/{name}" for p in folders for name in ("minift", "kernels")}
    paths |= {f"{project}/{name}" for name in ("notebooks", "tests", ".git")}
    return sorted(root + p for p in paths if os.path.isdir(root + p))


def _file_system(root: str, limits: Limits) -> None:
    """Make ``root`` the root: what is visible, read-only, in a small writable file system."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    space = f"size={4 * limits.file_size},nr_inodes={_MAX_FILES}"
    _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, space)
    for path in _visible():
        target = root + path
        if os.path.isdir(path):
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            Path(target).touch()
        _mount(path, target, None, _BIND | _RECURSIVE)
        device = path.startswith("/dev/")
        _mount(None, target, None, _BIND | _REMOUNT | _kept(target) | (0 if device else _READ_ONLY))
    for name in ("bin", "sbin", "lib", "lib64", "lib32"):
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), f"{root}/{name}")
    for path in _hidden(root):
        _mount("tmpfs", path, "tmpfs", _READ_ONLY)
    for name in ("home", "tmp", "old", "proc"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    _must(_call("pivot_root", root.encode(), f"{root}/old".encode()), "pivot_root")
    os.chdir("/")


def close_doors() -> None:
    """In the child: its own processes under /proc, where that is allowed; the old root away."""
    with contextlib.suppress(OSError):  # not in some containers; nothing here depends on it
        _mount("proc", "/proc", "proc", _NO_SETUID | _NO_DEVICES)
    _must(_LIBC.umount2(b"/old", _DETACH), "umount2")
    os.rmdir("/old")


def _kept(path: str) -> int:
    """The mount flags that a remount of somebody else's mount has to repeat."""
    found, names = os.statvfs(path).f_flag, ("ST_NOSUID", "ST_NODEV", "ST_NOEXEC", "ST_NOATIME")
    values = (2, 4, 8, 1024)
    flags = sum(v for n, v in zip(names, values, strict=True) if found & getattr(os, n))
    return flags | (found & getattr(os, "ST_NODIRATIME", 0)) | ((1 << 21) if found & 4096 else 0)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, data: str | None = None
) -> None:
    words = [None if w is None else w.encode() for w in (source, target, kind)]
    done = _LIBC.mount(*words, ctypes.c_ulong(flags), None if data is None else data.encode())
    _must(done, f"mount {target}")


# ---- the filter of system calls


def _filter(limits: Limits) -> None:
    """Refuse with EPERM what code that computes never needs; another architecture is fatal.

    A classic BPF program: 32 bits of opcode, two jumps and a value an instruction.
    """
    arch, numbers = _ARCHES[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06
    refuse, allow, kill = 0x00050000 | errno.EPERM, 0x7FFF0000, 0x80000000
    lines = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, kill), (load, 0, 0, 0)]
    if "fork" in numbers:  # x86_64 has a second set of numbers, from 2**30 on
        lines += [(0x35, 0, 1, 0x40000000), (give, 0, 0, kill)]
    for name, number in numbers.items():
        if not (limits.programs and name in _STARTS_PROCESSES):
            lines += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    lines.append((give, 0, 0, allow))
    program = b"".join(struct.pack("<HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(program)
    head = struct.pack("<HxxxxxxQ", len(lines), ctypes.addressof(memory))
    _must(_LIBC.prctl(_SET_SECCOMP, 2, ctypes.c_char_p(head), 0, 0), "seccomp")


def _call(name: str, *args: bytes) -> int:
    return int(_LIBC.syscall(_ARCHES[platform.machine()][1][name], *args))


def _must(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
