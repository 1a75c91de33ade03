"Programs that begin with the heavy packages imported: to who starts them they are like any other."
import os
import subprocess
import psutil
import pytest
from conftest import begin, complete, wait_for

CODES = dict(
    surroundings="import os, sys; print(__name__, sys.argv, sys.path[0], os.getcwd(), os.environ['OWN'], sorted(os.environ), sys.stdin.read())",
    said="import sys; print('to both', file=sys.stderr); print('ends'); sys.exit(3)", words="import sys; sys.exit('in words')", error="1 / 0",
    signal="import os; os.kill(os.getpid(), 9)", last="import atexit; atexit.register(print, 'at the end')", child="import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1)'], check=True)")


@pytest.mark.parametrize("name", CODES)
def test_it_ends_as_it_does_in_a_new_interpreter(name, env, tmp_path):
    env = {k: v for k, v in env.items() if k != "JUPYTER_PATH"} | dict(OWN="é")
    ends = [complete(["-c", CODES[name], "a word", "-x"], env, cold, cwd=tmp_path, stdin=subprocess.DEVNULL) for cold in (True, False)]
    assert ends[0].returncode == ends[1].returncode and ends[0].stdout == ends[1].stdout.replace("'JUPYTER_PATH', ", "")
    assert ends[0].stderr.splitlines()[-1:] == ends[1].stderr.splitlines()[-1:]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="nothing is forked on this system")
def test_it_is_killed_with_its_stand_in(env):
    with begin(["-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"], env, stdout=subprocess.PIPE) as process:
        program = int(process.stdout.readline())
        assert program not in (process.pid, os.getpid()) and psutil.pid_exists(program)
        process.kill()
    wait_for(lambda: not psutil.pid_exists(program), 10)


def test_two_of_them_share_nothing(env):
    "What one imports, sets or leaves behind is not there in the next."
    assert complete(["-c", "import torch; torch.set_default_dtype(torch.float64); torch.manual_seed(1); import thesis_ebm.energy"], env).returncode == 0
    said = complete(["-c", "import sys, torch; print(torch.get_default_dtype(), torch.initial_seed() == 1, 'thesis_ebm.energy' in sys.modules)"], env).stdout
    assert said == "torch.float32 False False\n"
