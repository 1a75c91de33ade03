"""Processes that begin with the heavy packages imported: forked from a server that has imported them and nothing else.

`python forked.py serve SOCKET` is the server. `python forked.py SOCKET PROGRAM WORD...` is, to whoever starts it, the program: it hands its
files, environment and folder to the server, ends when the program ends, as it ended, and takes the program along when it is killed.
"""
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import types

PACKAGES = """torch lightning_fabric safetensors.torch pandas scipy.stats scipy.optimize matplotlib.pyplot matplotlib_inline.backend_inline seaborn
              nbdev.test papermill.cli ipykernel.ipkernel ipykernel.zmqshell""".split()


def serve(path: str) -> dict:
    "Start a process for each job that is asked for; returns in that process alone, with the job."
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN) # nobody waits for those who watch
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]: # its end: who started the server has ended
            asked, _ = listener.accept()
            if not os.fork():
                return watch(asked)
            asked.close()
    sys.exit()


def watch(asked: socket.socket) -> dict:
    "Start a job and tell who asked how it ended, or kill it when nobody asks any more; returns in the job alone."
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(asked, 1, 3)
    job = json.loads(asked.makefile().readline())
    if not (pid := os.fork()):
        asked.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return job
    for file in files:
        os.close(file)
    if asked in select.select([asked, os.pidfd_open(pid)], [], [])[0]:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        asked.sendall(str(code).encode())
    os._exit(0)


def run(words: list[str], env: dict, cwd: str):
    "What the interpreter does with `-c CODE`, `-m MODULE` or a script, and the words after it."
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    if backend := env.get("MPLBACKEND"): # read when matplotlib is imported, and that was before
        sys.modules["matplotlib"].rcParams["backend"] = backend
    sys.argv = words if words[0][0] != "-" else words[1:]
    sys.path[0] = cwd if words[0] == "-m" else "" if words[0] == "-c" else os.path.dirname(words[0])
    if words[0] == "-m":
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv[0], sys.modules["__main__"] = "-c", types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    else:
        runpy.run_path(words[0], run_name="__main__")


def ask(path: str, words: list[str]) -> int:
    "Have the server start a program; its exit code."
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [b"0"], [0, 1, 2])
        server.sendall(json.dumps(dict(words=words, env=dict(os.environ), cwd=os.getcwd())).encode() + b"\n")
        while not select.select([server], [], [], 1)[0]:
            if os.getppid() != parent:
                return 1
        code = int(server.recv(16) or 1)
    if code < 0:
        os.kill(os.getpid(), -code)
    return code


def leave():
    "Skip taking the imported packages apart, which takes half a second."
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    code = 1
    if sys.argv[1] == "serve":
        atexit.register(leave) # first, so that it is called last
        try:
            run(**serve(sys.argv[2]))
            code = 0
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else int(e.code is not None)
            raise
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
