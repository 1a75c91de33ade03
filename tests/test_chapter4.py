"Chapter 4's figures through the command line: text of the reader's own, a kill in the middle, texts that cannot be used, real captions."
import json
import os
import signal
import subprocess
from pathlib import Path
import pytest
from conftest import BIN, ROOT, wait_for

SMOKE = ("thesis-ebm", "run", "--profile", "smoke")


def sets(**settings) -> list[str]:
    "Settings as words of the command."
    return [w for k, v in settings.items() for w in ("--set", f"{k}={v}")]


@pytest.fixture
def own(tmp_path) -> Path:
    "A text file of a reader's."
    lines = [f"{a} {b} {c} {d} ." for a in ("the", "a", "one") for b in ("dog", "cat", "horse", "bird") for c in ("sees", "hears", "likes")
             for d in ("me", "you", "them", "nobody", "everyone")]
    path = tmp_path / "mine.txt"
    path.write_text("\n".join([*lines, "", "too " * 40]))
    return path


def test_own_text_and_the_same_numbers_after_a_kill(own, tmp_path, call):
    "A table on one's own text; killed in the middle and started again, it ends with the same numbers."
    words = [*SMOKE, "tab-4.1", *sets(data=own, source="auto", steps=250, queries=5)]
    assert (done := call(*words)).returncode == 0, done.stderr
    folder = tmp_path / "figures" / "smoke" / "tab-4.1"
    caption = json.loads((folder / "record.json").read_text())["caption"]
    assert "mine.txt" in caption and str(tmp_path) not in caption
    again = dict(THESIS_EBM_RUNS=str(tmp_path / "again"), THESIS_EBM_FIGURES=str(tmp_path / "other"), THESIS_EBM_CHECKPOINT_SECONDS="0")
    process = subprocess.Popen([str(BIN / words[0]), *words[1:]], cwd=ROOT, env={**os.environ, **again}, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    runs = tmp_path / "again" / "train_text"
    wait_for(lambda: list(runs.glob("*/checkpoint-*.sha256")))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert call(*words, extra=again).returncode == 0
    assert any("resumed_at" in json.loads(p.read_text())["notes"] for p in runs.glob("*/record.json"))
    assert (tmp_path / "other" / "smoke" / "tab-4.1" / "table.csv").read_bytes() == (folder / "table.csv").read_bytes()


@pytest.mark.parametrize("content, says", [
    ("\n\n", "no sentence"), ("".join(f"a{i} b\n" for i in range(99)), "batch of 128"), ("one two three\n" * 10 + "\xff\n", "UTF-8")], ids=["empty", "small", "bytes"])
def test_text_that_cannot_be_used(content, says, tmp_path, call):
    "One sentence says what is wrong with the text; no figure is left behind."
    (tmp_path / "bad.txt").write_bytes(content.encode("latin-1"))
    done = call(*SMOKE, "tab-4.1", *sets(data=tmp_path / "bad.txt", source="auto", m=128, edits=2))
    assert done.returncode and says in done.stdout + done.stderr, done.stdout + done.stderr
    assert not (tmp_path / "figures" / "smoke" / "tab-4.1").exists()


@pytest.mark.realdata
def test_real_captions(real_data, tmp_path, call):
    "Samples of models of real captions, named so in the caption."
    if not (Path(real_data) / "flickr30k-captions").is_dir(): pytest.skip("no flickr30k-captions in THESIS_EBM_DATA")
    done = call(*SMOKE, "fig-4.6", *sets(data="captions", source="full", limit=3000), extra=dict(THESIS_EBM_DATA=real_data))
    assert done.returncode == 0, done.stderr
    caption = json.loads((tmp_path / "figures" / "smoke" / "fig-4.6" / "record.json").read_text())["caption"]
    assert "stand-in" not in caption and "Flickr30k" in caption
