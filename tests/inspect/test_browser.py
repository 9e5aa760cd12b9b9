"""The gallery in a browser: ``make test-browser``. Chromium is the system's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbo_compress import load, write_gallery
from tests.annotations import square
from tests.inspect.sets import HOSTILE, write_set

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
ROWS, SIZE = 5000, 32


def sample(row: int) -> dict[str, Any]:
    """A sample whose source is ten times as large as its row, with a box and a hole."""
    left = 10.0 * (row % 10)
    outer, hole = square(left, 40, 120, 120), square(left + 40, 80, 40, 40)
    category = "30B" if row % 2 else "48G"
    metadata: dict[str, Any] = {
        "annotations": [
            {"category": category, "bbox": [left, 40, 120, 120], "bbox_mode": "XYWH_ABS"},
            {"category": category, "contours": [outer, hole], "contour_mode": "XY_ABS"},
            {"category": "synthetic" if row % 5 else "real"},
        ],
        "image": {"filename": f"{row}.png", "res": [320, 320]},
    }
    if row % 5:
        metadata["synthetic"] = {"parameters": {"number": row}}
    return metadata


def gallery(folder: Path, images: NDArray[Any], *others: Any, **masks: Any) -> Path:
    """Write a gallery of a set, as `write_set` takes it."""
    pytest.importorskip("PIL.Image", reason="galleries need Pillow")
    prefix = write_set(folder / "x", images, *others, **masks)
    write_gallery(load(prefix), folder / "g")
    return folder / "g"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="this needs Playwright")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        # Root, as in a container, may not use the sandbox.
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of 5000 rows."""
    images = np.zeros((ROWS, SIZE, SIZE, 3), np.float16)
    images[:, 4:16, :, 0] = np.linspace(0, 1, ROWS)[:, None, None]
    masks = np.zeros((ROWS, SIZE, SIZE, 1), np.float32)
    masks[:, 20:28, 8:24] = 1
    samples = [sample(row) for row in range(ROWS)]
    return gallery(tmp_path_factory.mktemp("gallery"), images, samples, masks=masks)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery whose every text is hostile."""
    samples: list[dict[str, Any]] = [
        {"annotations": [{"category": text}], "provenance": {text: text, "license": text}}
        for text in HOSTILE
    ]
    paths = [
        f"/data/{text}/{text}.json".replace("\0", "").replace("\ud800", "\udcff")
        for text in HOSTILE
    ]
    images = np.zeros((len(HOSTILE), SIZE, SIZE, 3))
    return gallery(tmp_path_factory.mktemp("hostile"), images, samples, paths)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of 120 rows: two files of thumbnails, and five of details."""
    samples = [sample(row) for row in range(120)]
    return gallery(tmp_path_factory.mktemp("small"), np.zeros((120, SIZE, SIZE, 3)), samples)


class Visit:
    """A page that was opened from the disk, and all that it asked for and complained about."""

    def __init__(
        self, browser: Browser, folder: Path, scheme: Any = "light", width: int = 1200
    ) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.complaints: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
        )
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("requestfailed", lambda request: self.complaints.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto((folder / "index.html").as_uri())
        self.page.wait_for_selector("#about.late, #missing:not(:empty), .cell")

    def open_row(self, number: int) -> None:
        self.page.locator(f".cell:has(b:text-is('{number}'))").click()
        self.page.wait_for_selector("#metadata > ul")

    def title(self) -> str:
        return str(self.page.inner_text("#detail-title"))

    def focused(self) -> str:
        find = "document.activeElement.querySelector('b')?.textContent"
        return str(self.page.evaluate(find))

    def loaded(self, what: str) -> set[str]:
        return {url.rpartition("/")[2] for url in self.requests if f"/data/{what}/" in url}


@pytest.fixture
def visit(browser: Browser, folder: Path) -> Iterator[Visit]:
    """The gallery of 5000 rows; nothing may be asked for elsewhere, nothing may go wrong."""
    visit = Visit(browser, folder)
    yield visit
    assert visit.complaints == []
    assert all(url.startswith(folder.as_uri()) for url in visit.requests)
    visit.page.context.close()


_FIRST_PAINT = """new Promise(resolve => new PerformanceObserver(entries => {
    const [paint] = entries.getEntriesByName("first-contentful-paint");
    if (paint) resolve(paint.startTime);
}).observe({type: "paint", buffered: true}))"""


def test_the_first_paint_is_within_a_second(browser: Browser, folder: Path) -> None:
    paints = []
    for _ in range(3):  # the machine may be busy with something else once, or twice
        visit = Visit(browser, folder)
        # The paint is reported a moment after it. Playwright would poll for it with eval, which
        # the page's policy forbids.
        paints.append(visit.page.evaluate(_FIRST_PAINT))
        visit.page.context.close()
    assert min(paints) < 1000, paints


def test_a_cell_is_named_by_its_number_and_categories(visit: Visit) -> None:
    for name in ("12 48G, synthetic", "15 30B, real"):
        for role in ("button", "gridcell"):
            visit.page.get_by_role(role, name=name, exact=True).wait_for()


def test_pictures_and_metadata_are_loaded_when_they_are_needed(visit: Visit) -> None:
    page = visit.page
    assert page.inner_text("#count") == "5,000 of 5,000 rows"
    assert page.locator(".cell").count() < 100
    assert visit.loaded("thumbs") == {"0.jpg"}
    assert visit.loaded("details") == visit.loaded("pictures") == set()
    with page.expect_request("**/data/thumbs/49.jpg"):
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(".cell:has(b:text-is('4999'))")
    assert page.locator(".cell").count() < 120
    assert len(visit.loaded("thumbs")) < 5
    visit.open_row(4999)
    assert visit.loaded("details") == {"199.js"}
    assert visit.loaded("pictures") == {"4999.jpg"}


def test_filters(visit: Visit) -> None:
    page = visit.page

    def count(rows: int) -> None:
        assert page.inner_text("#count") == f"{rows:,} of 5,000 rows"

    page.select_option("#by-category", label="30B (2,500)")
    count(2500)
    page.select_option("#by-kind", label="real (1,000)")
    count(500)
    page.select_option("#by-folder", label="/data/0003 (1,000)")
    count(100)
    assert page.locator(".cell b").first.inner_text() == "3005"
    page.select_option("#by-missing", label="30B (2,500)")
    count(0)
    page.click("#reset")
    page.wait_for_selector("#count:text-is('5,000 of 5,000 rows')")
    page.fill("#by-text", "/0002/20")
    count(100)
    page.fill("#by-text", "2042.JSON")
    count(1)
    visit.open_row(2042)
    assert visit.title() == "Row 2042: 48G, synthetic"
    assert page.is_disabled("#previous")
    assert page.is_disabled("#next")


def test_the_table_filters_and_sorts(visit: Visit) -> None:
    page = visit.page

    def found(rows: int, first: str) -> None:
        assert page.inner_text("#count") == f"{rows:,} of 5,000 rows"
        assert page.locator(".caption").first.inner_text() == first

    value, least = page.locator("label:has(#by-value)"), page.locator("label:has(#by-from)")
    assert not value.is_visible()
    page.select_option("#by-column", label="/number")
    assert value.is_visible()
    assert least.is_visible()
    assert page.locator("#by-value option").last.inner_text() == "and 3,001 more"
    page.fill("#by-from", "100")
    found(3920, "101 30B, synthetic")
    page.fill("#by-to", "111.5")
    found(9, "101 30B, synthetic")
    page.select_option("#by-order", label="/number, descending")
    found(9, "111 111 · 30B, synthetic")
    page.select_option("#by-category", label="48G (2,500)")
    found(4, "108 108 · 48G, synthetic")
    page.select_option("#by-value", label="104 (1)")
    found(1, "104 104 · 48G, synthetic")
    page.click("#reset")
    page.wait_for_selector("#count:text-is('5,000 of 5,000 rows')")
    assert not value.is_visible()
    page.select_option("#by-column", label="/number")
    page.select_option("#by-value", label="not given (1,000)")
    found(1000, "0 48G, real")
    page.select_option("#by-column", label="synthetic")
    assert not least.is_visible()
    found(5000, "0 48G, real")
    page.select_option("#by-value", label="true (4,000)")
    page.select_option("#by-order", label="/number")
    found(4000, "1 1 · 30B, synthetic")
    page.select_option("#by-column", label="any")
    page.select_option("#by-order", label="/number, descending")
    found(5000, "4999 4999 · 30B, synthetic")
    page.focus(".cell")
    page.keyboard.press("End")
    assert visit.focused() == "4995"
    page.keyboard.press("Enter")
    page.wait_for_selector("#metadata > ul")
    assert visit.title() == "Row 4995: 30B, real"


def test_a_mask_without_a_cryptomatte_is_unknown(browser: Browser, tmp_path: Path) -> None:
    samples = [sample(1), sample(2), sample(3)]
    for has_matte in samples[:2]:
        has_matte["synthetic"]["cryptomatte"] = {"manifest": []}
    masks = np.zeros((3, SIZE, SIZE, 1))
    masks[0, 4:8, 4:8] = 1
    path = gallery(tmp_path, np.zeros((3, SIZE, SIZE, 3)), samples, masks=masks)
    visit = Visit(browser, path)
    for row, words in enumerate(("white, dashed", "empty", "unknown, without a cryptomatte")):
        visit.open_row(row)
        assert visit.page.locator("#legend li").last.inner_text() == f"mask m: {words}"
        visit.page.keyboard.press("Escape")
    visit.page.click("#figures > summary")
    figures = visit.page.locator("#figures-body tr", has_text="mask m").inner_text().split("\t")
    assert figures == ["mask m", "1", "1", "1"]
    assert visit.complaints == []
    visit.page.context.close()


def test_a_row_and_its_layers(visit: Visit) -> None:
    page = visit.page
    visit.open_row(7)
    assert page.inner_text("#path") == "/data/0000/7.json"
    stage = page.locator("#stage").bounding_box()
    box = page.locator("#overlay .box").bounding_box()
    assert stage is not None
    assert box is not None
    scale = stage["width"] / 320
    centre = [box["x"] + box["width"] / 2 - stage["x"], box["y"] + box["height"] / 2 - stage["y"]]
    np.testing.assert_allclose(centre, [130 * scale, 100 * scale], atol=1)
    # Chromium adds the line, and some more.
    np.testing.assert_allclose([box["width"], box["height"]], [120 * scale] * 2, atol=15)
    # The contour is filled, but for its hole.
    inside = "([x, y]) => document.elementFromPoint(x, y).getAttribute('class')"
    for x, y, expected in ((90, 60, "contour"), (130, 100, None)):
        point = [stage["x"] + x * scale, stage["y"] + y * scale]
        assert page.evaluate(inside, point) == expected
    for name, key in (("boxes", "b"), ("contours", "c"), ("masks", "m")):
        layer = page.locator(f"#layer-{name}")
        assert layer.is_visible()
        page.keyboard.press(key)
        assert not layer.is_visible()
        page.click(f"#show-{name}")
        assert layer.is_visible()
        page.uncheck(f"#show-{name}")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#layer-boxes", state="attached")
    assert visit.title() == "Row 8: 48G, synthetic"
    assert not page.locator("#layer-boxes").is_visible()


def test_metadata_are_a_tree(visit: Visit) -> None:
    page = visit.page
    visit.open_row(3)
    tree = page.locator("#metadata")
    assert 'filename: "3.png"' in tree.inner_text()
    assert "res: [ 320, 320 ]" in tree.inner_text()
    for key in ("annotations", "1", "contours"):
        tree.locator(f"summary:has(.key:text-is('{key}:'))").first.click()
    tree.locator("li.leaf", has_text="0: 4 points").wait_for()
    page.click("#copy")
    page.wait_for_selector("#copied:not(:empty)")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    page = visit.page
    columns = int(page.get_attribute("#grid", "aria-colcount") or 0)
    assert columns > 2
    page.focus("#reset")
    page.keyboard.press("Tab")
    assert visit.focused() == "0"
    for key, row in (
        *(("ArrowRight", 1), ("ArrowDown", 1 + columns), ("ArrowLeft", columns)),
        *(("ArrowUp", 0), ("ArrowUp", 0), ("End", 4999), ("ArrowRight", 4999), ("Home", 0)),
        ("ArrowRight", 1),
    ):
        page.keyboard.press(key)
        assert visit.focused() == str(row), key
    page.keyboard.press("Enter")
    assert visit.title().startswith("Row 1:")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert visit.title().startswith("Row 2:")
    page.wait_for_selector("#metadata > ul")
    page.keyboard.press("Escape")
    page.wait_for_selector(".cell:focus:has(b:text-is('2'))")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 400)])
def test_nothing_keeps_people_out(browser: Browser, folder: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="this needs axe-core")

    visit = Visit(browser, folder, scheme, width)

    def violations() -> list[str]:
        # Without preloading, which the page's policy does not allow.
        found = axe.Axe().run(visit.page, options={"preload": False}).response["violations"]
        return [f"{each['id']}: {each['help']}" for each in found]

    assert violations() == []
    visit.page.fill("#by-text", "no such path")
    assert violations() == []
    visit.page.fill("#by-text", "")
    visit.page.click("#figures > summary")
    visit.page.wait_for_selector("#figures .plot")
    assert violations() == []
    visit.open_row(0)
    visit.page.locator("#metadata summary").first.click()
    assert violations() == []
    visit.page.context.close()


def test_figures(visit: Visit) -> None:
    page = visit.page
    page.click("#figures > summary")
    page.wait_for_selector("#figures .plot")
    text = page.inner_text("#figures-body")
    for words in (
        "5000 × 32 × 32 × 3",
        "Together in a sample",
        "320 × 320",
        "mean, sRGB",
        "mask m",
    ):
        assert words in text
    assert page.locator("#figures-body .plot polyline").count() == 3


@pytest.mark.parametrize("width", [320, 400, 768, 1280])
def test_all_fits_into_a_window(browser: Browser, folder: Path, width: int) -> None:
    visit = Visit(browser, folder, width=width)
    page = visit.page
    page.click("#figures > summary")
    page.wait_for_selector("#figures .plot")
    fits = "id => document.querySelector(id).scrollWidth <= document.querySelector(id).clientWidth"
    assert page.evaluate(fits, "html")
    visit.open_row(0)
    assert page.evaluate(fits, "#detail")
    bar, title = page.locator(".bar").bounding_box(), page.locator("h2#detail-title").bounding_box()
    assert bar is not None
    assert title is not None
    assert title["width"] > bar["width"] / 2
    for button in page.locator(".bar button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] >= bar["x"]
        assert box["x"] + box["width"] <= bar["x"] + bar["width"]
    page.context.close()


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("gallery.js gallery.css data", "gallery.js is missing, or JavaScript is turned off"),
        ("gallery.js", "gallery.js is missing, or JavaScript is turned off"),
        ("gallery.css", "Missing or damaged: gallery.css."),
        ("data", "Missing or damaged: data/rows.js, data/summary.js."),
        ("data/rows.js", "Missing or damaged: data/rows.js."),
        ("data/summary.js", "Missing or damaged: data/summary.js."),
        ("data/thumbs", "Missing or damaged: data/thumbs/0.jpg."),
        ("data/thumbs/0.jpg", "Missing or damaged: data/thumbs/0.jpg."),
    ],
)
def test_a_page_says_which_of_its_files_are_missing(
    browser: Browser, small: Path, tmp_path: Path, gone: str, words: str
) -> None:
    shutil.copytree(small, tmp_path / "g")
    for name in gone.split():
        (tmp_path / "g" / name).rename(tmp_path / name.replace("/", "-"))
    page = Visit(browser, tmp_path / "g").page
    page.locator(f"header p:has-text('{words}')", has_text="Copy the whole folder").wait_for()
    if "thumbs" in gone:
        page.get_by_role("button", name="no picture 12 48G, synthetic", exact=True).wait_for()
    page.context.close()


@pytest.mark.parametrize("is_truncated", [False, True])
def test_a_row_says_which_of_its_files_are_missing(
    browser: Browser, small: Path, tmp_path: Path, is_truncated: bool
) -> None:
    shutil.copytree(small, tmp_path / "g")
    for name in ("pictures/119.jpg", "details/4.js"):
        path = tmp_path / "g" / "data" / name
        if is_truncated:
            os.truncate(path, 100)
        else:
            path.unlink()
    page = Visit(browser, tmp_path / "g").page
    page.focus(".cell")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    for id_, name in (("problem", "details/4.js"), ("picture-problem", "pictures/119.jpg")):
        words = f"data/{name} is missing or damaged"
        page.locator(f"#{id_}:visible:text-is('{words}')").wait_for()
    assert page.locator("#metadata *").count() == 0
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#metadata > ul")
    assert page.inner_text("#detail-title") == "Row 99: 30B, synthetic"
    assert page.inner_text("#problem") == page.inner_text("#picture-problem") == ""
    page.context.close()


def test_no_key_of_metadata_means_something(browser: Browser, tmp_path: Path) -> None:
    values: list[Any] = [None, 1, "text", [], [1, 2], {}, {"key": 1}]
    names = ["limbo:cut", "limbo:points", "limbo:more", "limbo:deep", "limbo:number", "limbo:dict"]
    names += ["cut", "points", "more", "deep", "number", "dict", "list", "length", "…", "__proto__"]
    # An object of JavaScript would put numbers first.
    keys = [*names, "10", "2"]
    samples: list[dict[str, Any]] = [{key: {key: value} for key in keys} for value in values]
    samples += [dict.fromkeys(keys, value) for value in values]
    samples += [{"many": dict.fromkeys(["…", *map(str, range(2000))], 0)}]
    visit = Visit(browser, gallery(tmp_path, np.zeros((len(samples), SIZE, SIZE, 3)), samples))
    page = visit.page
    tree = "#metadata > ul > li"
    for row in range(len(samples) - 1):
        visit.open_row(row)
        for number, summary in enumerate(page.locator(f"{tree} > details > summary").all()):
            summary.click()
            page.locator(f"{tree} > details > ul").nth(number).wait_for(state="attached")
        outer = page.locator(f"{tree} > .key, {tree} > details > summary > .key")
        assert outer.all_text_contents() == [f"{key}: " for key in keys]
        if row < len(values):
            inner = page.locator(f"{tree} > details > ul > li").all_text_contents()
            expected = {0: "null", 1: "1", 2: '"text"', 3: "[]", 4: "[ 1, 2 ]", 5: "{0}", 6: "{1}"}
            assert inner == [f"{key}: {expected[row]}" for key in keys]
        page.keyboard.press("Escape")
    visit.open_row(len(samples) - 1)
    page.click(f"{tree} summary")
    for _ in range(4):
        page.click("#metadata button")
    items = page.locator("#metadata li li").all_text_contents()
    assert items == ["…: 0", *(f"{n}: 0" for n in range(499)), "and 1,501 more, not listed"]
    assert page.inner_text(f"{tree} summary") == "many: {2001}"
    assert visit.complaints == []
    page.context.close()


def test_hostile_texts_are_shown_as_they_are(browser: Browser, hostile: Path) -> None:
    visit = Visit(browser, hostile)
    page = visit.page
    page.click("#figures > summary")
    page.locator("#figures-body", has_text=HOSTILE[0]).wait_for()
    for row, text in enumerate(HOSTILE):
        visit.open_row(row)
        label = page.locator("#detail-title").text_content() or ""
        assert label == (f"Row {row}: {text}" if text else f"Row {row}")
        keys = page.locator("#metadata .key").all_text_contents()
        assert f"{text}: " in keys
        page.keyboard.press("Escape")
    assert page.evaluate("window.hacked") is None
    assert page.locator("body img:not(.thumb)").count() == 1
    assert visit.complaints == []
    assert all(url.startswith(hostile.as_uri()) for url in visit.requests)
    page.context.close()
