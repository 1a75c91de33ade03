"Sets of photographs: every layout, every kind of bad file, and the same batches held, streamed, divided and resumed."
import io
import os
import signal
import subprocess
import sys
import tarfile
import warnings
from pathlib import Path
import lmdb
import numpy as np
import pytest
import torch
from PIL import Image
from conftest import ROOT, wait_for
from thesis_ebm.data import catalog
from thesis_ebm.data.pictures import Feed, Square, pictures
from thesis_ebm.lab.artifact import full_caption, same_data


def photo(i: int, w: int = 40, h: int = 32, mode: str = "RGB") -> Image.Image:
    "A small picture that differs from every other."
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (h, w, 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def put(folder: Path, names, mode: str = "RGB") -> Path:
    "Pictures under these names."
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        photo(i, mode=mode).save(folder / name)
    return folder


def pack(folder: Path, target: Path, mode: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, mode) as tar:
        for p in sorted(folder.rglob("*"), reverse=True):
            tar.add(p, p.relative_to(folder.parent), recursive=False)
    return target


def test_a_folder_and_its_archives_are_the_same_set(data, tmp_path):
    folder = put(tmp_path / "mine", [f"{c}/{i}.png" for c in "ba" for i in range(3)])
    (folder / "notes.txt").write_text("not an image")
    (folder / "a" / "._0.png").write_text("what macOS writes")
    sets = [pictures(str(folder), Square(16))]
    for mode, name in (("w", "x.tar"), ("w:gz", "x.tar.gz"), ("w:gz", "x.tgz"), ("w:bz2", "x.tar.bz2")):
        sets.append(pictures(str(pack(folder, tmp_path / mode[-2:] / name, mode)), Square(16)))
    for p in sets:
        assert torch.equal(p.images, sets[0].images) and p.labels.tolist() == [0, 0, 0, 1, 1, 1] and p.classes == ("a", "b") and len(p) == 6
        assert str(tmp_path) not in p.provenance["description"] and p.provenance["source"] == "own" and not p.provenance["stand_in"]
    assert torch.equal(sets[0][1], Square(16)(photo(4))), "sorted by path"
    assert torch.equal(pictures(str(folder), Square(16), limit=2).images, sets[0].images[[0, 3]]), "a limit takes of every class"


def test_members_of_an_archive_lead_nowhere(data, tmp_path):
    evil = tmp_path / "deep" / "er" / "evil.tar.gz"
    evil.parent.mkdir(parents=True)
    with tarfile.open(evil, "w:gz") as tar:
        for name in ("../../out.png", str(tmp_path / "out.png"), "fine.png"):
            info, content = tarfile.TarInfo(name), encoded(photo(len(name)))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    assert len(pictures(str(evil), Square(16))) == 3 and sorted(tmp_path.rglob("*")) == before


def test_celeba_as_a_folder_with_its_partition_and_as_an_archive(data, tmp_path):
    names = [f"{i:06}.png" for i in range(1, 8)]
    folder = put(data / "celeba" / "img_align_celeba", names)
    whole = pictures("celeba", Square(16))
    assert len(whole) == 7 and whole.labels is None and whole.provenance["name"] == "celeba"
    with pytest.raises(ValueError, match="Unknown split 'test'.*train"):
        pictures("celeba", Square(16), "test")
    (data / "celeba" / "list_eval_partition.txt").write_text("".join(f"{n} {i // 3}\n" for i, n in enumerate(names)))
    parts = [pictures("celeba", Square(16), s) for s in ("train", "valid", "test")]
    assert [len(p) for p in parts] == [3, 3, 1] and torch.equal(torch.cat([p.images for p in parts]), whole.images)
    assert len({p.fingerprint for p in parts}) == 3 and whole.provenance["sha256"] != parts[0].provenance["sha256"]
    (data / "celeba" / "list_eval_partition.txt").write_text("000001.png 0\n")
    with pytest.raises(catalog.DataDamaged, match="does not say to which split 000002.png"):
        pictures("celeba", Square(16))
    (data / "celeba" / "list_eval_partition.txt").unlink()
    pack(folder, data / "celeba" / "few.tgz", "w:gz")
    folder.rename(tmp_path / "away")
    assert torch.equal(pictures("celeba", Square(16)).images, whole.images)


def make_lsun(data: Path, n: int = 12) -> Path:
    folder = data / "lsun" / "bedroom_train_lmdb"
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=1 << 24) as env, env.begin(write=True) as t:
        for i in range(n):
            t.put(f"{i * 7919 % 97:040x}".encode(), encoded(photo(i), "WEBP"))
    return folder


def test_lsun_is_read_from_its_lmdb_in_every_process(data):
    make_lsun(data)
    (data / "lsun" / "bedroom_train_lmdb" / "_cache_").write_bytes(b"cos\nabort\n(tR.")
    held, lazy = pictures("lsun-bedroom", Square(24)), pictures("lsun-bedroom", Square(24), memory_gb=0)
    assert len(held) == 12 and len(pictures("lsun-bedroom", Square(24), limit=5)) == 5 and held.fingerprint == lazy.fingerprint
    assert torch.equal(lazy[3], held[3]), "opened here, before the workers are forked"
    with Feed(held, 4, 0, crop=16) as a, Feed(lazy, 4, 0, crop=16, workers=2, memory_gb=0) as b:
        assert all(torch.equal(a(t), b(t)) for t in range(5))


def test_lsun_without_its_package_is_one_sentence(data, monkeypatch, call):
    make_lsun(data)
    monkeypatch.setitem(sys.modules, "lmdb", None)
    catalog.close_lmdb()
    with pytest.raises(ImportError, match=r"pip install 'thesis-ebm\[lsun\]'"):
        pictures("lsun-bedroom", Square(16))


def test_imagenet_and_its_dogs(data):
    train = data / "imagenet" / "train"
    put(train, [f"{n}/{n}_{i}.JPEG" for n in ("n02113978", "n01440764", "n02085620") for i in range(2)])
    photo(9, mode="CMYK").save(train / "n02085620" / "x.JPEG")
    photo(9, mode="L").save(train / "n02085620" / "y.JPEG")
    all_, dogs = pictures("imagenet", Square(16)), pictures("imagenet-dogs", Square(16))
    assert len(all_) == 8 and all_.classes == ("n01440764", "n02085620", "n02113978") and all_.labels.tolist() == [0, 0, 1, 1, 1, 1, 2, 2]
    assert len(dogs) == 6 and dogs.classes == ("n02085620", "n02113978") and all_.provenance["sha256"] != dogs.provenance["sha256"]
    with pytest.raises(ValueError, match=r"y.JPEG is grey.*grey=convert.*grey=skip"):
        pictures("imagenet", Square(16), grey="refuse")


BAD = dict(unreadable=("cut.png", lambda: encoded(photo(7))[:-200]), grey=("grey.png", lambda: encoded(photo(7, mode="L"))), small=("tiny.png", lambda: encoded(photo(7, 20, 12))))


@pytest.mark.parametrize("reason", BAD)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_picture_is_refused_by_name_or_counted(data, tmp_path, reason, packed):
    name, content = BAD[reason]
    folder = put(tmp_path / "mine", [f"{i}.png" for i in range(5)])
    (folder / name).write_bytes(content())
    path = str(pack(folder, tmp_path / "mine.tar", "w")) if packed else str(folder)
    error, words = dict(unreadable=(catalog.DataDamaged, "unreadable=skip"), grey=(ValueError, "grey=convert"), small=(ValueError, r"20x12 pixels.*side would be 12.*small=enlarge"))[reason]
    for memory_gb in (2, 0):
        with pytest.raises(error, match=f"{name}.*{words}"):
            pictures(path, Square(16), memory_gb=memory_gb)[5]
    with pytest.warns(UserWarning, match=f"1 of 6 pictures left out .1 {reason}.*{name}"):
        kept = pictures(path, Square(16), **{reason: "skip"})
    assert len(kept) == 5 and kept.provenance["skipped"] == {reason: 1} and kept.provenance["n"] == 5
    assert kept.provenance["description"].startswith("5 pictures") and f"(1 {reason} left out)" in kept.provenance["description"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(kept.images, pictures(str(put(tmp_path / "good", [f"{i}.png" for i in range(5)])), Square(16)).images)
        if reason != "unreadable":
            assert len(pictures(path, Square(16), **{reason: dict(grey="convert", small="enlarge")[reason]})) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_met_in_a_stream(data, tmp_path, workers):
    folder = put(tmp_path / "mine", [f"{i}.png" for i in range(6)])
    for i in (2, 3):
        (folder / f"{i}.png").write_bytes(b"not an image, in spite of its name")
    lazy = pictures(str(folder), Square(16), unreadable="skip", memory_gb=0)
    with Feed(lazy, 6, 0, memory_gb=0, workers=workers) as feed, pytest.warns(UserWarning, match="left out.*2.png|left out.*3.png"):
        batch = feed(0)
        feed(1)
    assert sorted(map(bytes, batch.flatten(1).numpy())) == sorted(bytes(lazy[i].flatten().numpy()) for i in (0, 1, 4, 4, 4, 5)), "the next good one takes the place"
    assert lazy.provenance["skipped"] == {"unreadable": 2} and len(lazy) == 6 and torch.equal(lazy.images[2], lazy.images[4])
    with Feed(pictures(str(folder), Square(16), memory_gb=0), 6, 0, memory_gb=0, workers=workers) as feed, pytest.raises(catalog.DataDamaged) as e:
        feed(0)
    assert str(folder) in str(e.value) and "unreadable=skip" in str(e.value) and "Traceback" not in str(e.value) and "\n" not in str(e.value)


def test_what_is_not_a_set_of_pictures(data, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.zip").write_bytes(b"PK\3\4")
    (tmp_path / "cut.tar.gz").write_bytes(pack(put(tmp_path / "mine", ["a.png"]), tmp_path / "x.tar.gz", "w:gz").read_bytes()[:200])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"x")
    for path, words in (("empty", "holds no image"), ("x.zip", "cannot be read as an archive"), ("cut.tar.gz", "cannot be read as an archive"), ("nowhere", "There is no data set, file or folder")):
        with pytest.raises(OSError, match=words) as e:
            pictures(str(tmp_path / path), Square(16))
        assert path in str(e.value)
    with pytest.raises(catalog.DataMissing, match="each of the 1 pictures was left out.*a.jpg"):
        pictures(str(tmp_path / "bad"), Square(16), unreadable="skip")
    with pytest.raises(ValueError, match="Did you mean 'skip'"):
        pictures(str(tmp_path / "bad"), Square(16), unreadable="skp")
    with pytest.raises(catalog.DataMissing, match="mmlab.ie.cuhk.edu.hk"):
        pictures("celeba", Square(16))
    with pytest.raises(ValueError, match="limit = -1"):
        pictures("patches", Square(16), limit=-1)
    with pytest.raises(ValueError, match="data.pictures.pictures"):
        catalog.load("celeba")


def test_held_streamed_divided_resumed(data, tmp_path):
    folder = str(put(tmp_path / "mine", [f"{i:02}.png" for i in range(20)]))
    held, lazy = pictures(folder, Square(24)), pictures(folder, Square(24), memory_gb=0)
    one = Feed(held, 6, seed=1, crop=16)
    want = [one(t) for t in range(9)]
    with Feed(lazy, 6, 1, crop=16, memory_gb=0, workers=2) as streamed:
        assert all(torch.equal(streamed(t), want[t]) for t in range(9)), "over three epochs"
        assert all(torch.equal(streamed(t), want[t]) for t in (4, 5, 6, 2)), "and again from the middle"
    for lazily in (False, True):
        feeds = [Feed(lazy if lazily else held, 6, 1, rank=r, world=3, crop=16, memory_gb=0 if lazily else 2) for r in range(3)]
        assert all(torch.equal(torch.cat([f(t) for f in feeds]), want[t]) for t in range(9))
    for wrong, words in ((dict(batch=7, world=2), "multiple of 2"), (dict(batch=6, crop=25), "crop = 25"), (dict(batch=6, rank=1), "rank = 1"), (dict(batch=60), "smaller batch")):
        with pytest.raises(ValueError, match=words):
            Feed(held, seed=0, **wrong)


STREAM = """
import multiprocessing, os, sys
from thesis_ebm.data.pictures import Feed, Square, pictures
feed = Feed(pictures("patches", Square(16), limit=64, memory_gb=0), 8, 0, workers=2, memory_gb=0)
feed(0)
print(*(p.pid for p in multiprocessing.active_children()), flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["raise RuntimeError", "import time; time.sleep(600)"])
def test_no_worker_is_left_behind(env, then):
    process = subprocess.Popen([sys.executable, "-c", STREAM.format(then=then)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env=env, text=True)
    workers = [int(p) for p in process.stdout.readline().split()]
    assert len(workers) == 2
    if "sleep" in then:
        process.send_signal(signal.SIGKILL)
    process.wait(60)
    wait_for(lambda: not any(alive(p) for p in workers), 30)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_record_knows_its_pictures_again(data, tmp_path):
    folder = put(tmp_path / "mine", ["a.png", "b.png"])
    put(data / "celeba" / "img_align_celeba", ["1.png"])
    used = [pictures(str(folder), Square(16)).provenance, pictures("celeba", Square(16)).provenance, pictures("patches-chelsea", Square(16), limit=3).provenance]
    assert all(map(same_data, used))
    text = full_caption(type("A", (), dict(caption="Faces.")), used)
    assert text == ("Faces. Data: 2 pictures of the reader's own (mine); 1 pictures of CelebA, aligned faces (the reader's folder); 3 random crops of 1 photograph (chelsea), "
                    f"shipped in the package scikit-image {catalog.importlib.metadata.version('scikit-image')} (a stand-in for the full data set).")
    put(folder, ["c.png"])
    put(data / "celeba" / "img_align_celeba", ["2.png"])
    assert [same_data(u) for u in used] == [False, False, True]


def test_the_command_line_with_and_without(call, data):
    here = dict(THESIS_EBM_DATA=str(data))
    told = call("thesis-ebm", "data", "check", extra=here)
    assert told.returncode == 0 and "celeba        absent" in told.stdout and "patches       embedded" in told.stdout
    assert call("thesis-ebm", "data", "check", "celeba", extra=here).returncode == 1
    got = call("thesis-ebm", "data", "get", "imagenet-dogs", extra=here)
    assert got.returncode == 1 and "imagenet/train/n01440764" in got.stderr and "Traceback" not in got.stderr
    put(data / "celeba" / "img_align_celeba", ["1.png"])
    make_lsun(data)
    told = call("thesis-ebm", "doctor", extra=here)
    assert told.returncode == 0 and [w for l in told.stdout.splitlines() if l.startswith("data ") for w in l.split()[1:3]] == [
        "mnist", "embedded", "celeba", "folder", "lsun-bedroom", "folder", "imagenet", "absent", "imagenet-dogs", "absent", "patches", "embedded", *(w for d in (*catalog.LABELLED, *catalog.TEXTS, *catalog.HEADLINED, *catalog.ASKED, *catalog.PRETRAINED_ON, *catalog.CLASSIFIED, *catalog.VECTORS) for w in (d.name, "embedded"))]
    (data / "lsun" / "bedroom_train_lmdb" / "data.mdb").write_bytes(b"no database")
    told = call("thesis-ebm", "data", "check", "lsun-bedroom", "patches-chelsea", extra=here)
    assert told.returncode == 1 and "cannot be opened as an LMDB" in told.stdout and "scikit-image" in told.stdout


@pytest.mark.realdata
def test_real_faces(real_data, monkeypatch):
    monkeypatch.setenv("THESIS_EBM_DATA", real_data)
    if not (Path(real_data) / "celeba" / "celebA-10k.tar.gz").is_file():
        pytest.skip("$THESIS_EBM_DATA has no celeba/celebA-10k.tar.gz")
    faces = pictures("celeba", Square(64), limit=500)
    assert len(faces) == 500 and 90 < faces.images.float().mean() < 150 and faces.provenance["skipped"] == {}
    with pytest.raises(ValueError, match="89x109 pixels.*its side would be 54"):
        pictures("celeba", Square(64, 108 / 178), limit=500)
    assert len(pictures("celeba", Square(48, 108 / 178), limit=500)) == 500
