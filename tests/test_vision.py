"Graphs between pixels as a whole: CIFAR-10's files, settings that cannot be, trainings that are cut off or diverge, what is stored and for how long."
import math
import shutil
from contextlib import nullcontext
import pytest
import torch
from thesis_ebm.data.catalog import DataMissing
from thesis_ebm.data.images import to_unit
from thesis_ebm.glomo import vision_transfer
from thesis_ebm.glomo.vision import pictures_for, pretrained, splits
from thesis_ebm.glomo.vision_transfer import graph_predictor, images_of, products_of, stored, study, vision_of
from thesis_ebm.lab import train as loop
from test_labelled import X, Y, put_cifar10

torch.set_num_threads(1)
TINY = dict(source="full", size=8, d=8, d_k=4, convolutions=1, d_f=8, K=1, positions=4, m=4, steps=4, width=2, epochs=2, batch=8, limit=0, seeds=1)


@pytest.fixture(autouse=True)
def fresh(data):
    "Nothing is remembered; CIFAR-10, twenty training images of it, lies where the reader's data do."
    put_cifar10(data, "bin", "cifar10")
    for cached in (splits, pictures_for): cached.cache_clear()
    yield
    for cached in (splits, pictures_for): cached.cache_clear()


@pytest.mark.parametrize("kind", ["bin", "py", "sheets"])
def test_cifar10_in_its_published_layouts(data, kind):
    "The last 16 in 100 of the training images choose; graphs are learned from the others, without labels."
    shutil.rmtree(data / "cifar10")
    put_cifar10(data, kind, "cifar10")
    train, valid, test = splits("cifar10", "full", 32)
    assert (len(train), len(valid), len(test)) == (17, 3, 10) and not train.provenance["stand_in"]
    assert torch.equal(train.images, torch.from_numpy(X[:17])) and valid.labels.tolist() == Y[17:20].tolist()
    pictures = pictures_for("cifar10", "full", 32)
    assert torch.equal(pictures.images, train.images) and (pictures.labels == -1).all()


def test_the_table_on_files():
    found = study(vision_of("smoke", TINY | dict(width=1, rows=["none 18", "glomo 18", "uniform 18"])), range(1), "smoke", "cpu")
    assert all(r.values["test"] in range(0, 101, 10) and r.tensors["classes"].shape == (10,) for rs in found.models.values() for r in rs)
    assert found.data.provenance["source"] != "embedded" and found.data.provenance["n_valid"] == 3 and len(found.runs) == 4
    assert abs(found.models["glomo 18"][0].tensors["mixture"].sum() - 1) < 1e-5 and not list(found.runs[-1].folder.glob("checkpoint*"))


def test_without_the_files(data):
    shutil.rmtree(data / "cifar10")
    with pytest.raises(DataMissing, match="cifar10"): study(vision_of("smoke", TINY | dict(rows=["none 18"])), range(1), "smoke", "cpu")


@pytest.mark.parametrize("changes, says", [
    (dict(graphs="glomo"), "'graphs' is not set by itself: name rows"),
    (dict(rows=["random 18"]), "Unknown kind of graphs: 'random'"),
    (dict(d_f=12), "d_f = 12 units cannot be cut into 8 heads"),
    (dict(steps=0), "steps = 0: at least 1 is needed"),
    (dict(epochs=0), "epochs = 0: at least 1 is needed"),
    (dict(rows=["none 20"]), "depth = 20: a ResNet of 18 or 34 layers"),
    (dict(pictures="no/such/folder", rows=["glomo 18"]), "There is no data set, file or folder 'no/such/folder'"),
])
def test_a_setting_that_cannot_be(tmp_path, changes, says):
    with pytest.raises((ValueError, OSError, RuntimeError)) as e: study(vision_of("smoke", TINY | changes), range(1), "smoke", "cpu")
    assert says in str(e.value) and not list(tmp_path.glob("runs/*/*/record.json"))


def cut_off(monkeypatch, go):
    "Interrupt a training when its first checkpoint lies there."
    save = loop.save_checkpoint
    def saved(*a, **kw):
        save(*a, **kw)
        raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(loop, "save_checkpoint", saved)
        with pytest.raises(KeyboardInterrupt): go()


def test_a_training_that_is_cut_off_ends_where_another_does(tmp_path, monkeypatch):
    "Of g and of a classifier; the best epoch may be one before the interruption."
    monkeypatch.setenv("THESIS_EBM_CHECKPOINT_SECONDS", "0")
    table = vision_of("smoke", TINY | dict(steps=52, epochs=26, width=1, lr=0.3))
    c = table.configs()["glomo 18"]
    g = lambda: pretrained(c.g, "smoke", "cpu")
    classifier = lambda: vision_transfer.run(vision_transfer.train_classifier, c, 3, images_of(c, "smoke", "cpu"), "smoke", "cpu")
    for go in (g, classifier):
        cut_off(monkeypatch, go)
        resumed = go()
        with monkeypatch.context() as m:
            m.setenv("THESIS_EBM_RUNS", str(tmp_path / "whole"))
            whole = go()
        assert resumed.record["notes"]["resumed_at"] == [50] and "resumed_at" not in whole.record["notes"]
        for file in ("results.safetensors", "results.json", "log.csv"): assert (resumed.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


def test_a_training_that_diverges():
    "A classifier has no accuracy then; without g there are no graphs."
    found = study(vision_of("smoke", TINY | dict(rows=["none 18"], lr=1e30)), range(1), "smoke", "cpu")
    assert math.isnan(found.of("none 18")[0])
    c = vision_of("smoke", TINY | dict(g_lr=1e30)).g
    with pytest.raises(RuntimeError, match="The graph predictor diverged at step .: lower g_lr"): graph_predictor(c, pretrained(c, "smoke", "cpu"))


def test_products_are_made_once_for_all_that_share_them(monkeypatch):
    "Of two depths; they are those of the pictures and of their mirror images, and none is left at the end."
    made, maker = [], vision_transfer.graph_maker
    monkeypatch.setattr(vision_transfer, "graph_maker", lambda *a: made.append(a) or maker(*a))
    table = vision_of("smoke", TINY | dict(width=1, rows=["glomo 18", "glomo 34"]))
    found = study(table, range(1), "smoke", "cpu")
    assert len(made) == 1 and not vision_transfer._kept and len({r.folder for rs in found.models.values() for r in rs}) == 2
    c = table.configs()["glomo 18"]
    of_train, _, of_test = stored(c, found.data, "cpu", nullcontext)
    g, x = graph_predictor(c.g, found.g), to_unit(found.data.train.images)
    for HG, images in ((of_train[:17], x), (of_train[17:], x.flip(3)), (of_test, to_unit(found.data.test.images))):
        assert torch.allclose(HG.float(), products_of(g, images), atol=1e-3)
    vision_transfer._kept.clear()


def test_seeds_differ_and_are_kept():
    "The same row and seed is the same run; another seed has other weights but the same images."
    table = vision_of("smoke", TINY | dict(rows=["none 18"]))
    first, again = (study(table, range(2), "smoke", "cpu") for _ in range(2))
    assert [r.folder for r in first.runs] == [r.folder for r in again.runs] and len({r.folder for r in first.runs}) == 2
    assert first.g is None and table.configs()["none 18"].g is None
    other = study(vision_of("smoke", TINY | dict(rows=["none 18"], steps=9)), range(1), "smoke", "cpu")
    assert other.runs[0].folder == first.models["none 18"][0].folder, "a baseline does not depend on g"
