"""What ``pytest`` does to a notebook here: strict comparison, in JupyterLab's way of running."""

import os
import re
import shutil
import subprocess
import sys

import nbformat
from nbformat.v4 import new_code_cell, new_notebook, new_output

from minift.course.lessons.notebooks import FOLDER

ENVIRONMENT = "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['HF_HUB_OFFLINE'])"
BACKEND = "import matplotlib\nprint('inline' in matplotlib.get_backend())"


def cell(source, printed=None, result=None):
    outputs = []
    if printed is not None:
        outputs.append(new_output("stream", name="stdout", text=printed))
    if result is not None:
        outputs.append(new_output("execute_result", data={"text/plain": result}, execution_count=1))
    return new_code_cell(source, outputs=outputs, execution_count=1)


CELLS = [
    (cell(ENVIRONMENT, "1 1\n"), True),
    (cell(BACKEND, "True\n"), True),
    (cell("6 * 7", result="42"), True),
    (cell("_ + 1", result="43"), True),  # the history is kept
    (cell("6 * 7;"), True),  # a semicolon hides the result
    (cell("print('17%|# | 1/6 [00:01<00:05,  1.02s/it]')", "99%|## | 5/6 [00:09<00:01]\n"), True),
    (cell("print('/tmp/ipykernel_17/34.py')", "/tmp/ipykernel_9/8.py\n"), True),
    (cell("print('loss 0.52')", "loss 0.51\n"), False),
    (cell("print('at 0x7f55b8d38040')", "at 0x7f55b8d38041\n"), False),
    (cell("print('3 s')", "4 s\n"), False),
    (cell("1 / 0"), False),
    (cell("print('more')"), False),
]


def test_stored_outputs_are_compared_strictly_from_any_folder(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for name in ("conftest.py", "sanitize.cfg"):
        shutil.copy(FOLDER / name, folder)
    nbformat.write(new_notebook(cells=[c for c, _ in CELLS]), folder / "sample.ipynb")
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-rA"]
    command += ["--color=no", "--nbval", "--nbval-current-env", "notebooks/sample.ipynb"]
    command += [f"--basetemp={tmp_path / 'inner'}"]  # away from other runs' folders
    steady = ("OMP_NUM_THREADS", "HF_HUB_OFFLINE", "MPLBACKEND")
    environment = {k: v for k, v in os.environ.items() if k not in steady}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    verdicts = re.findall(r"^(PASSED|FAILED) .*::Cell (\d+)", done.stdout, flags=re.M)
    passed = {int(number): word == "PASSED" for word, number in verdicts}
    assert passed == {i: right for i, (_, right) in enumerate(CELLS)}, done.stdout
