"""A learner's function as the checks see it: called here, run in an isolated process.

    with Nursery() as nursery, nursery.session(answer, limits) as fn:
        outcome = examine("attention.scores", fn)

Arguments go over as data, results come back as data. Gradients too: what a function returns is
part of autograd's graph here, whose backward pass asks the other side. A kernel's launch comes
back as the tensors after it and what the interpreter counted.
"""

import builtins
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from minift.course.environment import STEADY
from minift.course.grading.isolation import Limits
from minift.course.grading.nursery import tensors_in
from minift.course.grading.sources import Answer
from minift.course.grading.wire import WireError, pack, receive, send

KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")  # of the environment
START_LIMIT = 60.0  # seconds that Python and PyTorch may take to load
LONGEST = 600  # characters of a text from over there that are kept


class SessionEnded(BaseException):
    """The isolated process is gone; the message says why. No check may catch it as an error."""


class NoSession(RuntimeError):
    """No process could be started: that is nobody's answer's fault."""


class Nursery:
    """The process from which sessions are forked: one for functions, one for kernels.

    Use it as a context manager, from one thread.
    """

    def __init__(self) -> None:
        self._started: dict[bool, tuple[subprocess.Popen[bytes], socket.socket]] = {}

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *_: object) -> None:
        for process, orders in self._started.values():
            orders.close()
            process.wait()
        self._started.clear()

    @contextlib.contextmanager
    def session(self, answer: Answer, limits: Limits) -> Iterator["RemoteFunction"]:
        """An isolated process with the learner's code loaded; it is killed at the end.

        Raises:
            SessionEnded: the code ended its process or took too long.
            NoSession: this system cannot isolate (see ``isolation.why_not``).
        """
        with contextlib.ExitStack() as open_ones:

            def connect(limits: Limits) -> Connection:
                try:
                    connection = Connection(self._fork(answer.jit, limits), limits.seconds)
                except NoSession:  # short of memory, for a moment: once more
                    connection = Connection(self._fork(answer.jit, limits), limits.seconds)
                open_ones.callback(connection.end)
                return connection

            yield RemoteFunction(connect, answer, limits)

    def _fork(self, kernel: bool, limits: Limits) -> socket.socket:
        if kernel in self._started and self._started[kernel][0].poll() is not None:
            self._started.pop(kernel)[1].close()  # something ended it: the next begins anew
        if kernel not in self._started:
            self._started[kernel] = _start(kernel)
        ours, theirs = socket.socketpair()
        with theirs, contextlib.suppress(OSError):  # it has just died: then no answer comes
            message = pack(asdict(limits))
            socket.send_fds(self._started[kernel][1], [message], [theirs.fileno()])
        return ours


def _start(kernel: bool) -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    package = __package__
    modules = [f"{package}.launching", f"{package}.vetting", "kernels.lab.compiler"]
    command = [sys.executable, "-m", f"{package}.nursery", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            [*command, *(modules if kernel else [])],
            env=_environment(),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours


def _environment() -> dict[str, str]:
    """Nothing of the teacher's own: what a nursery knows, its children can read and send back."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    path = os.pathsep.join(filter(None, sys.path))
    return {**kept, **STEADY, "PYTHONPATH": path, "HOME": "/home"}


class Connection:
    """Questions and answers, within the time that is left."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection, self.process, self.seconds = connection, -1, seconds
        self.deadline = time.monotonic() + START_LIMIT
        try:
            first = self._receive()
        except SessionEnded:
            first = {"failed": "its process ended at once"}
        if "failed" in first:
            connection.close()
            raise NoSession(f"cannot isolate code on this system: {first['failed']}")
        with contextlib.suppress(ProcessLookupError):  # it may be over already
            self.process = os.pidfd_open(first["process"])  # its number may become another's
        self.deadline = time.monotonic() + seconds
        self.loaded = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request.

        Raises:
            SessionEnded: there is none.
        """
        left = self.deadline - time.monotonic()
        self.connection.settimeout(max(left, 0.001))
        try:
            send(self.connection, request)
        except OSError:
            raise self._ended() from None
        answer = self._receive()
        if not isinstance(answer, dict):
            raise SessionEnded("its process sent something else than an answer")
        return answer

    def _receive(self) -> Any:
        try:
            return receive(self.connection, self.deadline)
        except TimeoutError:
            raise SessionEnded(f"no answer in {self.seconds:g} s; an endless loop?") from None
        except WireError as error:
            raise SessionEnded(f"its process sent {error}") from None
        except (EOFError, OSError):
            raise self._ended() from None

    def _ended(self) -> SessionEnded:
        return SessionEnded("running it ended its process")

    def end(self) -> None:
        """Kill the process: all that it started goes with it."""
        if self.process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process, signal.SIGKILL)
            os.close(self.process)
        self.connection.close()


class RemoteFunction:
    """The learner's function, for ``minift.course.examine``.

    Attributes:
        source_text, __signature__: as the learner wrote them, for the checks that read before
            they run.
    """

    def __init__(
        self, connect: Callable[[Limits], Connection], answer: Answer, limits: Limits
    ) -> None:
        self.connect, self.answer, self.limits = connect, answer, limits
        self.connection = connect(limits)
        self.compiler: Connection | None = None
        self.__name__ = answer.function
        if answer.signature is not None:
            self.__signature__ = answer.signature
            self.source_text = answer.source_text

    @property
    def is_kernel(self) -> bool:
        """Whether it is to be launched, not called."""
        return self.answer.jit

    @property
    def arg_names(self) -> list[str]:
        """Of a kernel."""
        return list(self.__signature__.parameters) if self.answer.signature else []

    def __call__(self, *arguments: Any) -> Any:
        tracked = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
        if not tracked:
            return self._call(arguments, gradient=False)["value"]
        box: dict[str, Any] = {}
        outputs = _Call.apply(self, arguments, box, *tracked)
        return _replaced(box["value"], list(outputs))

    def _call(self, arguments: tuple[Any, ...], gradient: bool) -> dict[str, Any]:
        answer = self.ask(do="call", arguments=list(arguments), gradient=gradient)
        if "value" in answer:
            for mine, after in zip(arguments, answer.get("after", ()), strict=False):
                _update(mine, after)
        return (
            answer
            if "value" in answer
            else {"value": Strange(str(answer.get("strange"))[:LONGEST])}
        )

    def launched(self, programs: int, *rest: Any) -> Any:
        """As ``minift.course.launch.launched``: the report of a launch, the tensors changed."""
        from minift.course.grading import launching

        pool, request = launching.request(programs, *rest)
        found = self.ask(do="launch", **request)
        for mine, after in zip(pool, found["pool"], strict=True):
            _update(mine, after)
        return launching.report_of(found)

    def compiled_for(self, *arguments: Any, arch: str, **constants: Any) -> SimpleNamespace:
        """Compile it: what a check asks of the code, ``stack_bytes``.

        A compiler starts programs, so it has a process of its own, in which no kernel runs.

        Raises:
            TritonError: it refuses.
        """
        from triton.errors import TritonError

        if self.compiler is None:
            self.compiler = self.connect(replace(self.limits, programs=True))
        request = {"arguments": list(arguments), "constants": constants, "arch": arch}
        found = self._ask(self.compiler, {"do": "compile", **request})
        if "refused" in found:
            raise TritonError(str(found["refused"]))
        return SimpleNamespace(stack_bytes=int(found["stack_bytes"]))

    def ask(self, **request: Any) -> dict[str, Any]:
        """One answer, the learner's code having been loaded.

        Raises:
            Exception: of the type that the learner's code raised, where that is built in.
        """
        return self._ask(self.connection, request)

    def _ask(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        if not connection.loaded:
            connection.loaded = True
            own = {"source": self.answer.source, "function": self.answer.function}
            found = connection.ask({"do": "load", **own, "kernel": self.is_kernel})
            if found == {"loaded": "value"}:  # a lesson's variable that is called like an exercise
                raise NotImplementedError
            if found != {"loaded": True}:
                raise _as_error(found)
        answer = connection.ask(request)
        if "error" in answer:
            raise _as_error(answer)
        return answer


class _Call(torch.autograd.Function):
    """One call whose gradient is asked for on the other side."""

    @staticmethod
    def forward(ctx: Any, fn: RemoteFunction, arguments: Any, box: Any, *_: Tensor) -> Any:
        plain = tuple(a.detach() if isinstance(a, Tensor) else a for a in arguments)
        answer = fn._call(plain, gradient=True)
        ctx.fn, box["value"] = fn, answer["value"]
        outputs = tensors_in(box["value"])
        flags = answer.get("tracked", [])
        ctx.mark_non_differentiable(
            *(t for t, tracked in zip(outputs, flags, strict=False) if not tracked)
        )
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        found = ctx.fn.ask(do="backward", gradients=list(gradients)).get("gradients")
        return None, None, None, *(found or ())


class Strange:
    """In place of a value that cannot be sent."""

    in_words = "value that cannot be sent"

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return self.what


def _replaced(value: Any, tensors: list[Tensor]) -> Any:
    """The same nested value with other tensors, taken in order."""
    if isinstance(value, Tensor):
        return tensors.pop(0)
    if isinstance(value, dict):
        return {k: _replaced(v, tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replaced(v, tensors) for v in value)
    return value


def _update(mine: Any, after: Any) -> None:
    """Make an argument what the call made of it."""
    if isinstance(mine, Tensor) and isinstance(after, Tensor):
        if mine.shape == after.shape and mine.dtype == after.dtype:
            with torch.no_grad():
                mine.copy_(after)
    elif isinstance(mine, list) and isinstance(after, list):
        mine[:] = after
    elif isinstance(mine, dict) and isinstance(after, dict):
        mine.clear()
        mine.update(after)


def _as_error(answer: dict[str, Any]) -> Exception:
    """The learner's exception: a built-in one as itself, another by its name."""
    if "error" not in answer:
        return NameError("the function is gone when the file has run")
    name, message, line = (
        str(answer.get(key, ""))[:LONGEST] for key in ("error", "message", "line")
    )
    known = getattr(builtins, name, None)
    ordinary = isinstance(known, type) and issubclass(known, Exception)
    error: Any
    try:
        kind: Any = known if ordinary else type(name, (Exception,), {})
        error = kind(message)
    except (TypeError, ValueError):  # UnicodeDecodeError wants five arguments
        error = RuntimeError(f"{name}: {message}")
    error.learners_line = line
    return error
