"""The report in a real browser: it loads nothing but itself, shows every text as text, and reads well narrow and wide, light and dark."""
import json
from itertools import pairwise
from pathlib import Path

import pytest

from thesis_ebm.lab.files import write_text
from thesis_ebm.lab.report import Entry, Result, report_html

pytestmark = pytest.mark.browser
SPOIL = "<script>window.spoilt = 1</script><img src=x onerror='window.spoilt = 1'>"
LONG = "W" * 300
SCREENS = [(width, scheme) for width in (400, 1400) for scheme in ("light", "dark")]

FOLD = "document.querySelectorAll('details').forEach(d => { d.open = arguments[0] })"
WIDTHS = "return [document.documentElement.scrollWidth, innerWidth]"
OUTSIDE = """
const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX)
const inside = e => { while ((e = e.parentElement)) if (scrolls(e)) return true }
const sticksOut = e => !inside(e) && e.getBoundingClientRect().right > innerWidth + 1
return [...document.querySelectorAll('main *, header *, nav *')].filter(sticksOut).map(e => e.outerHTML.slice(0, 200))
"""
CONTRASTS = """
const channels = c => c.match(/[\\d.]+/g).map(Number), opaque = c => channels(c).length < 4 || channels(c)[3] == 1
const linear = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
const luminance = c => channels(c).slice(0, 3).map(linear).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
const ground = e => {
  for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (opaque(c)) return c }
  return 'rgb(255, 255, 255)'
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = {}
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement
  if (!walker.currentNode.data.trim() || !e.checkVisibility()) continue
  const ink = getComputedStyle(e).color, paper = ground(e), [a, b] = [luminance(ink), luminance(paper)].sort((x, y) => y - x)
  found[`${e.tagName} ${ink} on ${paper}`] = (a + 0.05) / (b + 0.05)
}
return found
"""


def pictures(folder: Path) -> list[Path]:
    "A small figure and a wide one, as PNG and SVG."
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    paths = []
    for name, size in (("small.png", (4, 3)), ("wide.svg", (9, 2.4))):
        fig, ax = plt.subplots(figsize=size)
        ax.plot([1, 2, 3])
        fig.savefig(folder / name)
        plt.close(fig)
        paths.append(folder / name)
    return paths


def record(**changes) -> dict:
    "A record in which every text is spoilt with markup."
    claims = [dict(id=v, statement=f"A claim. {SPOIL}", where="Sec. 3", expects="> 0", estimate=1.0, low=0.5, high=1.5, level=0.95,
                   over="seeds", verdict=v, note=SPOIL) for v in ("holds", "fails", "undecided")]
    return dict(
        id="x", parameters=dict(seed=7, overrides=dict(note=LONG)), caption=f"Caption {LONG} {SPOIL}", seeds=[0, 1, 2], claims=claims,
        data=[dict(name=f"MNIST {SPOIL}", source=LONG, stand_in=True)], device=f"cpu {SPOIL}", wall_s=192.0, peak_memory_mb=812.0,
        executed="2026-11-22T10:00:00Z", hashes=dict(notebook=LONG), runs=[dict(experiment="e", key=LONG, status="diverged", wall_s=1.0)],
        numbers=[dict(name=SPOIL, value=1.0, low=0.5, high=1.5, n=3, exact=False)]) | changes


def entries(folder: Path) -> list[Entry]:
    "One artefact of each status, with wide and long tables, long words and spoilt texts."
    small, wide = pictures(folder)
    table = [{f"column {i}": f"{i}.{row:03d}" for i in range(20)} | {"text": f"{SPOIL} {LONG}"} for row in range(30)]
    text = dict(section="3.1", title=f"Title {SPOIL}", caption=f"Caption {SPOIL} {LONG}", thesis_picture=f"Picture {SPOIL}")
    here, reference = Result(record(), small, table), Result(record(parameters={}), small, table)
    return [
        Entry("fig-3.1", "figure", 3, status="fresh", here=here, reference=reference, notebook="fig-3.1/executed.ipynb", **text,
              agreement=[dict(name=SPOIL, reference=1.0, here=2.0, verdict="differs")]),
        Entry("fig-3.2", "figure", 3, status="stale", reason=f"{SPOIL} {LONG}", here=Result(record(), wide), **text),
        Entry("tab-3.1", "table", 3, status="fresh", thesis_table=table, here=Result(record(), table=table), **text),
        Entry("tab-3.2", "table", 3, status="failed", error=f"Traceback\n  {LONG}\n\x1b[31mValueError: {SPOIL}\x1b[0m",
              notebook="javascript:alert(1)", **text),
        Entry("tab-4.1", "table", 4, status="not built", reason=SPOIL, reference=reference, **text)]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    "The address of a report that is as hard to set as they come."
    folder = tmp_path_factory.mktemp("report")
    erratum = {"id": "e1", "where": SPOIL, "as_written": LONG, "counterexample": SPOIL, "repair": LONG, "notebook": SPOIL}
    provenance = dict(package="0.1.0", git=dict(commit=LONG, dirty=True), device=SPOIL, date="2026-11-22T10:00:00Z")
    return write_text(folder / "report.html", report_html(f"quick {SPOIL}", entries(folder), [erratum], provenance)).as_uri()


def show(driver, page: str, width: int = 400, scheme: str = "light"):
    "Load the page on a screen of this width and colour scheme, and unfold all that is folded."
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(width=width, height=900, deviceScaleFactor=1, mobile=False))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=[dict(name="prefers-color-scheme", value=scheme)]))
    driver.get(page)
    driver.execute_script(FOLD, True)


@pytest.fixture(scope="module", params=SCREENS, ids=lambda s: f"{s[0]}-{s[1]}")
def screen(request, browser, page):
    "The driver with the page on one screen, and the console's rows and the requests that this took."
    browser.get("about:blank")
    for log in ("browser", "performance"): browser.get_log(log)
    show(browser, page, *request.param)
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return browser, browser.get_log("browser"), requests


def test_the_page_loads_nothing_and_complains_of_nothing(screen, page):
    _, console, requests = screen
    assert page in requests, "the page's own request must be in the log"
    assert [url for url in requests if url != page and not url.startswith("data:")] == []
    assert console == []


def test_the_page_never_scrolls_sideways(screen):
    driver = screen[0]
    for unfolded in (False, True):
        driver.execute_script(FOLD, unfolded)
        content, window = driver.execute_script(WIDTHS)
        assert content <= window
        assert driver.execute_script(OUTSIDE) == []


def test_columns_stand_side_by_side_only_where_there_is_room(screen):
    tops, width = screen[0].execute_script("""return [[...document.querySelectorAll('#fig-3\\\\.1 .column')]
        .map(c => Math.round(c.getBoundingClientRect().top)), innerWidth]""")
    assert len(tops) == 3 and len(set(tops)) == (1 if width > 1000 else 3)


def test_every_text_is_legible(screen):
    screen[0].execute_script(FOLD, True)
    ratios = screen[0].execute_script(CONTRASTS)
    assert len(ratios) > 10 and {what: ratio for what, ratio in ratios.items() if ratio < 4.5} == {}


def test_what_it_is_given_stands_there_as_text(browser, page):
    show(browser, page)
    found = browser.execute_script("""return {spoilt: window.spoilt || 0, scripts: document.scripts.length, text: document.body.innerText,
        images: [...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt.length > 0, i.src.slice(0, 11)])}""")
    assert (found["spoilt"], found["scripts"]) == (0, 0)
    assert found["text"].count(SPOIL) > 20 and "ValueError: " + SPOIL in found["text"]
    assert found["images"] == [[True, True, "data:image/"]] * 4, "two for fig-3.1, one for fig-3.2, one for the reference of tab-4.1"


def test_the_document_is_well_built(browser, page):
    show(browser, page)
    found = browser.execute_script("""const all = q => [...document.querySelectorAll(q)]
        return {lang: document.documentElement.lang, viewport: all('meta[name=viewport]').length, mode: document.compatMode,
                levels: all('h1, h2, h3, h4').map(h => +h.tagName[1]), ids: all('[id]').map(e => e.id),
                links: all('a').map(a => a.getAttribute('href'))}""")
    levels, ids = found["levels"], found["ids"]
    assert (found["lang"], found["viewport"], found["mode"]) == ("en", 1, "CSS1Compat")
    assert levels[0] == 1 and levels.count(1) == 1 and all(b <= a + 1 for a, b in pairwise(levels)), levels
    assert len(ids) == len(set(ids)) and {"fig-3.1", "fig-3.2", "tab-3.1", "tab-3.2", "tab-4.1"} <= set(ids)
    assert {link for link in found["links"] if link[1:] not in ids} == {"fig-3.1/executed.ipynb"}


def test_the_dark_scheme_is_dark(browser, page):
    grounds = []
    for scheme in ("light", "dark"):
        show(browser, page, scheme=scheme)
        grounds.append(browser.execute_script("""const s = getComputedStyle(document.body)
            return [s.backgroundColor, s.color].map(c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0))"""))
        assert browser.execute_script("return getComputedStyle(document.querySelector('.picture')).backgroundColor") == "rgb(255, 255, 255)"
    (light_paper, light_ink), (dark_paper, dark_ink) = grounds
    assert light_paper > light_ink and dark_paper < dark_ink and light_paper - dark_paper > 300


def test_a_click_on_a_picture_enlarges_it(browser, page):
    show(browser, page, width=1400)
    width = "return document.querySelector('#fig-3\\\\.1-here img').clientWidth"
    before = browser.execute_script(width)
    browser.execute_script("document.querySelector('#fig-3\\\\.1-here .picture').click()")
    assert browser.execute_script(width) > 2 * before
    content, window = browser.execute_script(WIDTHS)
    assert content <= window


def test_the_page_that_the_command_writes(browser, call):
    "Two real artefacts, run and reported by `thesis-ebm`; the page reads well and loads nothing."
    assert call("thesis-ebm", "run", "fig-3.1", "tab-3.1", "--profile", "smoke").returncode == 0
    path = call("thesis-ebm", "report", "--profile", "smoke").stdout.strip()
    for log in ("browser", "performance"): browser.get_log(log)
    for width in (400, 1400):
        show(browser, Path(path).as_uri(), width)
        content, window = browser.execute_script(WIDTHS)
        assert content <= window and browser.execute_script(OUTSIDE) == []
    events = [json.loads(row["message"])["message"] for row in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith("data:")} == {Path(path).as_uri()} and browser.get_log("browser") == []
    text = browser.execute_script("return document.body.innerText")
    assert all(part in text for part in ("fig-3.1", "tab-3.1", "Figure 7.4", "erratum-3.27-direction", "6144"))
