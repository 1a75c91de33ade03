"Rating sheets: simulated raters whose quality is known, what is refused, and the page filled in by clicks."
import csv
import json
import numpy as np
import pytest
from conftest import wait_for
from thesis_ebm.lab.cli import main
from thesis_ebm.metrics.rating import COLUMNS, difference_of, mean_of, read_key, read_sheet, read_table, sums_of, tasks

A, B = "Cross-Aligned AE", "ARAE, lambda1 = 10"
SPOIL = "<script>window.spoilt = 1</script><img src=x onerror='window.spoilt = 1'> \"'&</script>"


def write(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as f:
        csv.writer(f).writerows(rows)
    return path


def outputs(path, n, systems=(A, B), text="the food was {} {} ."):
    "What systems wrote, n originals in each of two directions."
    directions = (("negative", "positive"), ("positive", "negative"))
    return write(path, [COLUMNS, *((s, text.format(d[0], i), *d, text.format(d[1], f"{i} {s[0]}")) for s in systems for d in directions for i in range(n))])


@pytest.fixture
def ask(tmp_path, env, capsys):
    "Call the command in this process: (exit code, stdout, stderr)."
    def run(*words):
        code = main(["rate", *map(str, words)])
        return code, *capsys.readouterr()
    return run


@pytest.fixture
def export(tmp_path, ask):
    "A folder with sheets of 2 n originals."
    def make(n=10, name="sheets"):
        code, out, err = ask("export", outputs(tmp_path / "outputs.csv", n), "--out", tmp_path / name, "--n", 2 * n)
        assert (code, err) == (0, "") and "Do not give them" in out and B in out
        return tmp_path / name
    return make


def fill(folder, task, rater, answer, name=None):
    "A sheet that was given out, filled in: answer(item, question) -> what stands there."
    key = read_key(folder)
    items, names = {i.id: i for i in key.items}, [q.name for q in tasks(key.labels)[task].questions]
    rows = [r for _, r in read_table(folder / "raters" / f"{task}.csv", ("sheet", "item"))]
    for r in rows:
        r.update(rater=rater, **{q: answer(items[r["item"]], q) for q in names})
    return write(folder.parent / f"{name or task + '-' + rater}.csv", [list(rows[0]), *(list(r.values()) for r in rows)])


MEAN = {A: dict(label=0.57, naturalness=2.7, similarity=3.8), B: dict(label=0.74, naturalness=3.8, similarity=3.7)}


def latent(key, rng):
    "What each sentence is truly like: drawn for its system around the mean, the two of an original alike."
    hard = {o: rng.normal(0, 0.5) for o in {i.of for i in key.items}}
    return {i.id: {q: rng.random() < m if q == "label" else float(np.clip(m + hard[i.of], 1.1, 4.9)) for q, m in MEAN[i.system].items()} for i in key.items}


def rater(rng, truth, errors=0.1):
    "A rater who takes a label for another with a probability, and rounds a score up or down so that its mean is right."
    def answer(item, question):
        true = truth[item.id][question]
        if question == "label":
            return item.wanted if true != (rng.random() < errors) else ["neutral", item.given][rng.integers(2)]
        return str(int(np.floor(true + rng.random())))
    return answer


def test_intervals_cover_the_truth(export):
    "Of 40 rounds of three raters with 10% errors, nearly all intervals have the truth in them."
    folder = export(60)
    key, covered, rng = read_key(folder), [], np.random.default_rng(0)
    right = {s: m["label"] * 90 + (1 - m["label"]) * 10 for s, m in MEAN.items()} # % taken for the wanted label
    for _ in range(40):
        truth = latent(key, rng)
        people = [rater(rng, truth) for _ in range(3)]
        x = np.zeros((2, len(key.items) // 2, 2))
        for k, item in enumerate(key.items):
            x[k % 2, k // 2] = sum(100 * (p(item, "label") == item.wanted) for p in people), 3
        means, gap = [mean_of(x[k]) for k in range(2)], difference_of(x)
        covered += [m.low <= right[s] <= m.high for m, s in zip(means, key.systems)] + [gap.low <= right[B] - right[A] <= gap.high]
    assert 0.88 <= np.mean(covered) <= 1, "120 intervals of 95%, which depend on each other by threes"


def near(e, truth):
    "Within 3.1 standard errors, which one in 500 is not."
    return abs(e["value"] - truth) < 3.1 / 1.96 * (e["high"] - e["low"]) / 2


def test_what_simulated_raters_say_is_found_again(export, ask):
    folder, rng = export(150), np.random.default_rng(1)
    truth = latent(read_key(folder), rng)
    sheets = [fill(folder, task, f"rater {k}", rater(rng, truth)) for k in range(3) for task in ("sentences", "similarity")]
    code, out, _ = ask("analyse", folder, *sheets, "--json")
    found = json.loads(out)
    assert code == 0 and found["raters"] == ["rater 0", "rater 1", "rater 2"] and found["ratings"] == dict(label=1800, naturalness=1800, similarity=1800)
    for name, question in (("Similarity", "similarity"), ("Naturalness", "naturalness")):
        for s in (A, B):
            e = found["measures"][name]["systems"][s]
            assert near(e, MEAN[s][question]) and e["n"] == 300
    gap = found["measures"]["Transfer"]["difference"]
    assert near(gap, 0.8 * 17) and gap["low"] > 0, "errors of 10% turn both ways"
    assert 0.2 < found["measures"]["Transfer"]["agreement"]["value"] < 1
    code, out, _ = ask("analyse", folder, *sheets)
    assert code == 0 and "3 raters, 300 originals" in out and out.count("the thesis") == 2 and "74" in out and "difference" in out


def test_agreement_is_one_for_perfect_raters_and_nothing_for_guessing_ones(export, ask):
    folder, rng = export(100), np.random.default_rng(2)
    truth = {i.id: dict(label=rng.choice(["negative", "neutral", "positive"]), naturalness=str(rng.integers(1, 6))) for i in read_key(folder).items}
    def alphas(*answers):
        code, out, _ = ask("analyse", folder, *(fill(folder, "sentences", f"r{k}", a) for k, a in enumerate(answers)), "--json")
        return [m["agreement"] for m in json.loads(out)["measures"].values()]
    perfect = lambda i, q: str(truth[i.id][q])
    guess = lambda i, q: rng.choice(["negative", "neutral", "positive"]) if q == "label" else str(rng.integers(1, 6))
    assert [a["value"] for a in alphas(perfect, perfect)] == [1, 1]
    for a in alphas(guess, guess, guess):
        assert abs(a["value"]) < 0.15 and a["low"] < 0 < a["high"]
    assert alphas(perfect) == ["one rater only"] * 2


GOOD = dict(label="neutral", naturalness="3", similarity="4")


@pytest.mark.parametrize("column,value,parts", [
    ("naturalness", "", ["naturalness is missing", "--missing skip"]), ("naturalness", "0", ["'0'", "from 1 to 5"]), ("naturalness", "6", ["'6'", "from 1 to 5"]),
    ("naturalness", "3.5", ["'3.5'", "whole number"]), ("naturalness", "good", ["'good'"]), ("label", "", ["label is missing"]),
    ("label", "postive", ["Unknown label 'postive'", "Did you mean 'positive'?"]), ("sheet", "similarity-0", ["keep sheets apart"])])
def test_an_impossible_answer_is_named(export, ask, column, value, parts):
    folder = export()
    sheet = fill(folder, "sentences", "Ada", lambda i, q: GOOD[q])
    rows = list(csv.reader(open(sheet, newline="")))
    rows[7][rows[0].index(column)] = value
    code, out, err = ask("analyse", folder, write(sheet, rows))
    assert code == 2 and out == "" and err.count("\n") == 1
    assert all(part in err for part in [*parts, "sentences-Ada.csv, line 8", rows[7][rows[0].index("item")]]), err
    if not value:
        code, out, _ = ask("analyse", folder, sheet, "--missing", "skip")
        assert code == 0 and "1 missing were left out" in out


def test_a_sheet_that_does_not_belong_here_is_named(export, ask, tmp_path):
    folder = export()
    sheet = fill(folder, "sentences", "Ada", lambda i, q: GOOD[q])
    good = list(csv.reader(open(sheet, newline="")))
    item = good[0].index("item")
    def refused(*parts, rows=None, raw=None, more=(), where=folder):
        write(sheet, rows or good)
        if raw is not None:
            sheet.write_bytes(raw)
        code, out, err = ask("analyse", where, sheet, *more)
        assert code == 2 and out == "" and err.count("\n") == 1 and all(p in err for p in parts), err
    unknown = [list(r) for r in good]
    unknown[3][item] = "zzzzz"
    refused("line 4, item zzzzz", "no such item", rows=unknown)
    refused("line 42", f"item {good[1][item]}", "line 2 already", rows=[*good, good[1]])
    refused("leaves out 1 of the items", good[-1][item], rows=good[:-1])
    refused("no column 'naturalness'", rows=[[*good[0][:-1], "nature"], *good[1:]])
    refused("no column 'item'", rows=[["id" if c == "item" else c for c in good[0]], *good[1:]])
    refused("is empty", raw=b"")
    refused("not UTF-8", "line 2", raw=b"sheet,rater,item,label,naturalness\nsentences,Ren\xe9,x,positive,1\n")
    refused("Ada rated item", "another sheet", more=[sheet])
    refused("There is no file", more=[tmp_path / "no.csv"])
    refused("holds no key", where=tmp_path)
    ask("export", outputs(tmp_path / "other.csv", 12), "--out", tmp_path / "other", "--n", 8)
    refused("export " + read_key(folder).name, read_key(tmp_path / "other").name, where=tmp_path / "other")
    assert ask("analyse", folder, write(sheet, good))[0] == 0


def test_what_cannot_be_exported_is_named(ask, tmp_path):
    two, out = outputs(tmp_path / "two.csv", 6), tmp_path / "sheets"
    three = outputs(tmp_path / "three.csv", 6, (A, B, "AE"))
    apart = [outputs(tmp_path / f"{s[0]}.csv", 3, (s,), text) for s, text in ((A, "one {} {}"), (B, "other {} {}"))]
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for words, parts in [([three], ["here are 3", "--systems"]), ([three, "--systems", A, "AF"], ["no system 'AF'", "'ARAE, lambda1 = 10'"]),
                         ([outputs(tmp_path / "one.csv", 3, (A,))], ["here are 1"]), (apart, ["no original in common"]), ([empty], ["is empty"]),
                         ([write(tmp_path / "c.csv", [["system", "original", "from", "output"], list("abcd")])], ["no column 'to'"]),
                         ([two, "--n", 0], ["at least one"]), ([two, "--out", tmp_path / "mine"], ["holds something else", "thesis.txt"])]:
        code, _, err = ask("export", "--out", out, *words)
        assert code == 2 and err.count("\n") == 1 and all(p in err for p in parts), err
    assert not out.exists() and (tmp_path / "mine" / "thesis.txt").read_text() == "mine"
    code, said, _ = ask("export", three, "--systems", "AE", B, "--out", out)
    assert code == 0 and "Only 12 originals are common to both, not 1,000: all are used." in said and "6 from negative to positive" in said
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert ask("export", three, "--systems", "AE", B, "--out", out)[0] == 0 and before == {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert "holds another export" in ask("export", three, "--systems", "AE", B, "--out", out, "--seed", 1)[2]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing half-written is left"


def test_raters_are_blind(export):
    "No sheet says which system wrote what; the order is random, the two of an original stand apart."
    folder = export(200)
    place = {i.id: i for i in read_key(folder).items}
    for task in ("sentences", "similarity"):
        page = (folder / "raters" / f"{task}.html").read_text()
        sheet = (folder / "raters" / f"{task}.csv").read_text()
        assert A not in page + sheet and B not in page + sheet and len(place) == 800
        order = [place[r["item"]] for _, r in read_table(folder / "raters" / f"{task}.csv", ("item",))]
        shown = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
        assert [i.id for i in order] == [i["item"] for i in shown["items"]] and not any(a.of == b.of for a, b in zip(order, order[1:]))
        first = sum(i.system == A for i in order[:400])
        assert 160 < first < 240 and sorted(i.id for i in order) != [i.id for i in order]


@pytest.mark.browser
def test_the_page_is_filled_in_by_clicks(browser, ask, tmp_path):
    "It loads nothing and runs nothing that a sentence holds; it keeps answers, refuses to finish, and saves a sheet that can be analysed."
    systems = {A: "", B: SPOIL}
    rows = [(s, f"{d[0]} {SPOIL}", *d, text or f"{d[1]} !") for s, text in systems.items() for d in (("negative", "positive"), ("positive", "negative"))]
    assert ask("export", write(tmp_path / "o.csv", [COLUMNS, *rows]), "--out", tmp_path / "x", "--n", 2)[0] == 0
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", dict(behavior="allow", downloadPath=str(tmp_path)))
    find, js = lambda q: browser.find_element("css selector", q), browser.execute_script
    sheets, name = [], read_key(tmp_path / "x").name
    for task, keys in (("sentences", ["input[value=positive]", "input[value='4']"]), ("similarity", ["input[value='2']"])):
        page = (tmp_path / "x" / "raters" / f"{task}.html").as_uri()
        browser.get("about:blank")
        for log in ("browser", "performance"): browser.get_log(log)
        browser.get(page)
        find("#name").send_keys("Zoë \"O'Neil\"")
        find("#who button").click()
        for k in range(4):
            assert js("return state.at") == k and find("#count").text == f"{k + 1} of 4"
            if k == 2:
                find("#next").click() # for later
                continue
            for q in keys:
                browser.execute_script("arguments[0].scrollIntoView()", find(q))
                find(q).click()
            if k < 3:
                wait_for(lambda k=k: js("return state.at") == k + 1, 5)
        wait_for(lambda: find("#lacking").is_displayed(), 5)
        assert js("return state.at") == 2 and "1 still lacks an answer: this one." in find("#lacking").text and not find("#save").is_displayed()
        browser.refresh()
        assert js("return state.at") == 2 and len(js("return Object.keys(state.answers)")) == 3, "what was entered is kept"
        for q in keys: find(q).click()
        wait_for(lambda: find("#save").is_displayed(), 5)
        assert js("return window.spoilt || 0") == 0 and js("return document.images.length") == 0 and "Zoë" in find("#rater").text
        find("#save").click()
        sheets.append(wait_for(lambda task=task: next(tmp_path.glob(f"{task}-{name}-Zoë-O-Neil.csv"), None), 10))
        events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
        asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
        assert {u for u in asked if not u.startswith(("data:", "blob:"))} == {page} and browser.get_log("browser") == []
    ratings = read_sheet(sheets[0], read_key(tmp_path / "x"))[0]
    assert {r.rater for r in ratings} == {"Zoë \"O'Neil\""} and {r.answer for r in ratings} == {"positive", "4"} and len(ratings) == 8
    code, out, _ = ask("analyse", tmp_path / "x", *sheets, "--json")
    found = json.loads(out)["measures"]
    assert code == 0 and [found[m]["systems"][B]["value"] for m in ("Transfer", "Similarity", "Naturalness")] == [50, 2, 4]
    assert sums_of(ratings, read_key(tmp_path / "x"), "label")[..., 1].tolist() == [[1, 1], [1, 1]]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_fits_its_screen_and_is_legible(browser, export, width):
    from test_report_browser import CONTRASTS, WIDTHS
    folder = export()
    for scheme in ("light", "dark"):
        for task in ("sentences", "similarity"):
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(width=width, height=844, deviceScaleFactor=1, mobile=False))
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[dict(name="prefers-color-scheme", value=scheme)]))
            browser.get((folder / "raters" / f"{task}.html").as_uri())
            for step in ("", "state.rater = 'W'.repeat(80); data.items[0].output = 'W'.repeat(300); draw()", "document.querySelector('input').click()", "show('end')"):
                browser.execute_script(step)
                content, window = browser.execute_script(WIDTHS)
                assert content <= window, (task, step)
                assert {what: r for what, r in browser.execute_script(CONTRASTS).items() if r < 4.5 and "BUTTON" not in what} == {}, (task, step)
