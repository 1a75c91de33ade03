"What all tests share: the root of the checkout, a clean environment, folders of their own."
import atexit
import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = os.environ.get("THESIS_EBM_DATA", "")
BIN = Path(sys.executable).parent
os.environ["OMP_NUM_THREADS"] = "1" # tests run side by side, one for each core: a second thread of each only waits


def clean_env(folder: Path, **more) -> dict:
    "The environment of a subprocess: no setting of the machine's; runs and figures below `folder`."
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("THESIS_EBM_", "RAY_"))}
    return kept | dict(THESIS_EBM_RUNS=str(folder / "runs"), THESIS_EBM_FIGURES=str(folder / "figures"), THESIS_EBM_DEVICE="cpu", THESIS_EBM_WORKERS="1") | more


@functools.cache
def server() -> tuple[list[str], dict]:
    "What goes before a program and into its environment for it and its kernels to begin with the heavy packages imported: see forked.py."
    if not hasattr(os, "pidfd_open"):
        return [sys.executable], {}
    folder = Path(tempfile.mkdtemp(prefix="forks")) # short: a Unix socket lies in it
    script, address = str(ROOT / "tests" / "forked.py"), str(folder / "socket")
    process = subprocess.Popen([sys.executable, script, "serve", address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True)
    atexit.register(lambda: (process.kill(), process.wait(), shutil.rmtree(folder)))
    assert process.stdout.readline() == "ready\n"
    words, kernel = [sys.executable, "-IS", script, address], folder / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text(json.dumps(dict(argv=[*words, "-m", "ipykernel_launcher", "-f", "{connection_file}"], display_name="Python", language="python",
                                      env=dict(MPLBACKEND="module://matplotlib_inline.backend_inline")))) # as ipykernel has it
    return words, dict(JUPYTER_PATH=str(folder))


def begin(words, env: dict, cold=False, **more) -> subprocess.Popen:
    "Start a program of the virtual environment, or code or a module by -c or -m; cold: in a new interpreter, as a reader does."
    before, also = ([sys.executable], {}) if cold else server()
    program = words[0] if words[0] in ("-c", "-m") else BIN / words[0]
    return subprocess.Popen([*before, str(program), *map(str, words[1:])], env=env | also, text=True, **dict(cwd=ROOT) | more)


def complete(words, env: dict, cold=False, timeout=300, **more) -> subprocess.CompletedProcess:
    "The same, waited for: what it said, and its exit code."
    with begin(words, env, cold, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as process:
        try:
            said = process.communicate(timeout=timeout)
        finally:
            process.kill()
    return subprocess.CompletedProcess(words, process.returncode, *said)


def wait_for(condition, seconds=90):
    "Poll until the condition is true; fails when it does not become so."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("what was waited for did not happen")


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def env(tmp_path, monkeypatch) -> dict:
    "The environment for a subprocess: no setting of the machine's, runs and figures in a folder of this test."
    for name in [n for n in os.environ if n.startswith("THESIS_EBM_")]:
        monkeypatch.delenv(name)
    for name, value in clean_env(tmp_path).items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def call(env):
    "Run a program of the virtual environment: call('thesis-ebm', 'list') -> CompletedProcess with text output."
    def run(*words, extra=None, **more):
        return complete(words, env | (extra or {}), **more)
    return run


@pytest.fixture
def real_data(env) -> str:
    "The folder with real data sets; the test is skipped where there is none."
    if not (Path(REAL_DATA) / "mnist").is_dir() or not REAL_DATA:
        pytest.skip("set THESIS_EBM_DATA to a folder with mnist/*-ubyte.gz to run the tests on real data")
    return REAL_DATA


@pytest.fixture
def data(env, tmp_path, monkeypatch) -> Path:
    "The reader's folder of data sets, empty."
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("THESIS_EBM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


FLAGS = ("--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
         "--disable-component-update --disable-sync").split()


@pytest.fixture
def offline(monkeypatch):
    "No network, one torch thread."
    import torch
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    def refuse(*_):
        raise AssertionError("the network was asked")
    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    "Headless Chromium with a profile of its own, recording its console and every request; skipped, with the reason, without it."
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed; install the extra `dev`")
    from selenium.webdriver.chrome.service import Service
    chromium, chromedriver = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None), shutil.which("chromedriver")
    if not (chromium and chromedriver):
        pytest.skip("no Chromium with chromedriver on the PATH; Debian: chromium, chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()
