"""The process that starts the isolated ones, and what runs in those.

Starting Python and PyTorch takes seconds, a fork of a process that has both takes milliseconds. So
one process (``python -m minift.course.grading.nursery NUMBER [kernels]``) imports them, has one
thread, and never runs a line of a submission; for each exercise it forks. The fork is isolated,
and then serves requests on its connection: load this source, call the function with these values.
It has no oracle, no comparison and no score; what it answers is data.
"""

import __future__

import ast
import contextlib
import gc
import importlib
import linecache
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from minift.course.grading.isolation import Limits, close_doors, die_with_parent, enter, lock
from minift.course.grading.wire import WireError, receive, send, unpack

PLACE, MODULE = "<submission>", "__submission__"
MAX_MESSAGE = 500  # characters of an error's message


def main(number: int, *modules: str) -> None:
    """Fork for each connection that comes through socket ``number``, until that closes."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))  # the caller has limited itself
    for name in ("numpy", *modules):
        importlib.import_module(name)
    torch.set_num_threads(1)
    torch.ones(2, 2).requires_grad_().sum().backward()  # first uses are slow: here, once
    torch.randn(2, 2) @ torch.ones(2, 2)
    torch.ones(1, dtype=torch.bfloat16).float()
    gc.freeze()
    root = tempfile.mkdtemp(prefix="minift-grading-")
    try:
        with socket.socket(fileno=number) as orders:
            _orders(orders, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _orders(orders: socket.socket, root: str) -> None:
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 4096, 1)
        _reap()
        if not message:
            return
        limits = Limits(**unpack(message))
        try:
            child = os.fork()
        except OSError as error:
            with socket.socket(fileno=descriptors[0]) as connection:
                send(connection, {"failed": str(error)})
            continue
        if not child:
            _start(limits, root, orders, descriptors[0])
        os.close(descriptors[0])


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(limits: Limits, root: str, orders: socket.socket, descriptor: int) -> None:
    """In the fork: isolate it, tell the other side the number of its process, and serve."""
    code = 1
    with contextlib.suppress(BaseException), socket.socket(fileno=descriptor) as connection:
        orders.close()
        read, write = os.pipe()
        try:
            child = enter(limits, root)
        except OSError as error:
            send(connection, {"failed": str(error)})
            os._exit(1)
        if child:
            die_with_parent()  # and it with this process: nothing outlives the grading
            send(connection, {"process": child})
            os.write(write, b"go")
            os.close(write)
            connection.close()
            os.waitpid(child, 0)
            os._exit(0)
        os.read(read, 2)  # until the number has been told: what is sent from here on is untrusted
        _silence(connection.fileno())
        close_doors()
        lock(limits)
        code = serve(connection)
    os._exit(code)


def _silence(keep: int) -> None:
    """Nothing open but the connection."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)


# ---- in the isolated process


def serve(connection: socket.socket) -> int:
    """Answer requests until the other side goes."""
    learner = _Learner()
    requests: dict[str, Callable[..., Any]] = {
        "load": learner.load,
        "call": learner.call,
        "backward": learner.backward,
        "launch": learner.launch,
        "compile": learner.compile,
    }
    while True:
        try:
            request = receive(connection)
        except EOFError:
            return 0
        try:
            answer = requests[request.pop("do")](**request)
        except BaseException as error:
            answer = describe(error)
        try:
            send(connection, answer)
        except WireError as error:
            send(connection, {"strange": str(error)})


def describe(error: BaseException) -> dict[str, str]:
    """An error as data: its type, its first line, and the learner's line that led to it."""
    message = (str(error).strip() or "(no message)").splitlines()[0][:MAX_MESSAGE]
    line = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == PLACE and frame.lineno and not line:
            line = linecache.getline(PLACE, frame.lineno).strip()[:MAX_MESSAGE]
    return {"error": type(error).__name__, "message": message, "line": line}


class _Learner:
    """The learner's function, and what its last call left behind for the gradient."""

    def __init__(self) -> None:
        self.function: Any = None
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def load(self, source: str, function: str, kernel: bool) -> dict[str, Any]:
        """Run the statements one by one: one that fails leaves the others."""
        linecache.cache[PLACE] = (len(source), None, source.splitlines(keepends=True), PLACE)
        module = sys.modules[MODULE] = ModuleType(MODULE)  # where dataclasses look up annotations
        namespace: dict[str, Any] = vars(module)
        if kernel:
            from minift.course.grading.vetting import builtins_of_kernels

            namespace["__builtins__"] = builtins_of_kernels()
        failed: dict[str, str] = {}
        flags = 0
        for statement in ast.parse(source).body:
            flags |= _future(statement)
            try:
                exec(compile(ast.Module([statement], []), PLACE, "exec", flags), namespace)
            except BaseException as error:
                failed = failed or describe(error)
        self.function = namespace.get(function)
        if self.function is not None and not callable(self.function):
            return {"loaded": "value"}
        return {"loaded": True} if self.function is not None else failed or {"loaded": False}

    def call(self, arguments: list[Any], gradient: bool) -> dict[str, Any]:
        """The result, and the arguments as they are after the call."""
        self.inputs = [a for a in arguments if isinstance(a, Tensor) and gradient]
        self.inputs = [t.requires_grad_() for t in self.inputs if t.is_floating_point()]
        value = self.function(*arguments)
        self.outputs = tensors_in(value)
        tracked = [t.requires_grad for t in self.outputs]
        return {"value": value, "after": list(arguments), "tracked": tracked}

    def backward(self, gradients: list[Tensor | None]) -> dict[str, Any]:
        """The gradients of the inputs of the last call."""
        pairs = zip(self.outputs, gradients, strict=True)
        chosen = [(t, g) for t, g in pairs if g is not None and t.requires_grad]
        outputs, weights = [t for t, _ in chosen], [g for _, g in chosen]
        found = torch.autograd.grad(outputs, self.inputs, weights, allow_unused=True)
        return {"gradients": list(found)}

    def launch(self, **request: Any) -> dict[str, Any]:
        """Launch the learner's kernel."""
        from minift.course.grading.launching import answer

        return answer(self.function, **request)

    def compile(self, arguments: list[Any], constants: dict[str, Any], arch: str) -> dict[str, Any]:
        """Whether the compiler of ``arch`` takes the learner's kernel."""
        from triton.errors import TritonError

        from kernels.lab import compile_for

        try:
            compiled = compile_for(self.function, *arguments, arch=arch, **constants)
        except TritonError as error:
            return {"refused": str(error)[-MAX_MESSAGE:]}
        return {"stack_bytes": compiled.stack_bytes}


def _future(statement: ast.stmt) -> int:
    """The compiler's flags for ``from __future__ import``: they hold for all that follows."""
    if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        return 0
    features = (getattr(__future__, alias.name, None) for alias in statement.names)
    return sum(getattr(feature, "compiler_flag", 0) for feature in features)


def tensors_in(value: Any) -> list[Tensor]:
    """The tensors of nested lists, tuples and dicts, in their order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_in(v)] if isinstance(value, (list, tuple)) else []


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(int(sys.argv[1]), *sys.argv[2:])
