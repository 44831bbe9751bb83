"""The page in headless Chromium: every view, by mouse and by keyboard alone, errors, and nothing from elsewhere."""

import shutil

import pytest

from tests.serve.conftest import served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=20_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `make browser` installs it")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, client):
    """The page at phone width; what it asks of other hosts and what its console says must be nothing at the end."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    page, outside, said = context.new_page(), [], []
    own = (str(client.base_url), "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(own) else outside.append(request.url))
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    # Choosers are caught from here on: one that opens while Chromium is still told so is lost.
    page.on("filechooser", lambda chooser: None)
    page.set_default_timeout(20_000)
    page.goto(str(client.base_url))
    expect(page.locator("#facts")).to_have_text("spikeclip-lite0 · 30 pictures")
    yield page
    assert outside == []
    assert [text for text in said if "status of 400" not in text] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    context.close()


def names(page):
    return page.locator(".tile .line span").all_inner_texts()


def test_search_by_words_pages_more_like_this_and_back(page, client):
    page.fill("#words", "a red wall")
    page.click("text=Search >> nth=-1")
    page.wait_for_selector(".tile img.there")
    expected = client.get("/v1/search", params={"text": "a red wall", "limit": 30}).json()["results"]
    assert names(page) == [found["name"] for found in expected[:24]]
    page.click("#more")
    expect(page.locator(".tile")).to_have_count(30)
    assert names(page) == [found["name"] for found in expected]
    assert page.locator("#more").is_hidden()

    page.click(".tile >> nth=2")
    page.wait_for_selector("#query:not([hidden])")
    page.wait_for_selector(".tile")
    assert names(page)[0] == expected[2]["name"]
    assert page.inner_text("#query span") == f"More like {expected[2]['name']}"
    page.go_back()
    page.wait_for_selector("#query", state="hidden")
    page.wait_for_selector(".tile")
    assert names(page)[0] == expected[0]["name"]


def test_a_dropped_picture_finds_itself(page, collection):
    page.set_input_files("#by-picture", collection[4])
    page.wait_for_selector(".tile")
    assert names(page)[0] == collection[4].name
    page.click("#query button")
    page.wait_for_selector("#try:not([hidden])")
    assert page.locator(".tile").count() == 0


def test_name_it_by_keyboard_alone(page, client, collection):
    page.focus("#tab-search")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-name"
    expect(page.locator("#name")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "file"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(collection[0])
    page.wait_for_selector("#scores li")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    with page.expect_response("**/v1/classify"):
        page.keyboard.type("a red wall, a dog")
    expect(page.locator("#scores li")).to_have_count(2)
    shown = page.locator("#scores li").evaluate_all(
        "items => items.map(i => [i.children[0].textContent, i.children[2].textContent])"
    )
    files = {"picture": collection[0].read_bytes()}
    scores = client.post("/v1/classify", files=files, data={"labels": ["a red wall", "a dog"]}).json()[
        "scores"
    ]
    assert shown == [[score["label"], f"{100 * score['score']:.1f} %"] for score in scores]


def test_look_inside_draws_every_spike_and_layers_are_chosen_by_keyboard(page, client, collection):
    page.focus("#tab-search")
    page.keyboard.press("ArrowLeft")
    page.set_input_files("#inside input[type=file]", collection[3])
    page.wait_for_selector("#levels .card")
    found = client.post("/v1/inspect", files={"picture": collection[3].read_bytes()}).json()
    assert page.locator("#rates [role=option]").count() == len(found["layers"])
    assert page.locator("#rasters h3").all_inner_texts() == [raster["name"] for raster in found["rasters"]]
    marks = page.evaluate(
        """[...document.querySelectorAll("canvas.raster")].map((canvas) => canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data.filter((part, i) => i % 4 === 3 && part).length)"""
    )
    assert marks == [sum(abs(n) for row in raster["rows"] for n in row) for raster in found["rasters"]]
    assert page.locator("#levels h3").all_inner_texts() == list(found["levels"])
    amounts = page.locator("#levels .card >> nth=1").locator(".amount").all_inner_texts()
    assert amounts == [row["shown"]["L1"] for row in found["energy"]]

    page.focus("#rates")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#rate").startswith(found["layers"][1]["name"])
    page.keyboard.press("Enter")
    expect(page.locator("#rasters .card")).to_have_count(4)
    assert page.locator("#rasters h3").all_inner_texts()[1] == found["layers"][1]["name"]


def test_an_error_is_one_sentence_and_the_next_picture_clears_it(page, collection):
    page.click("#tab-inside")
    broken = {"name": "x.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    page.set_input_files("#inside input[type=file]", files=[broken])
    page.wait_for_selector("#inside .error:not([hidden])")
    assert page.inner_text("#inside .error").startswith(
        "The picture cannot be read: not a picture of a format"
    )
    page.set_input_files("#inside input[type=file]", collection[0])
    page.wait_for_selector("#levels .card")
    assert page.locator("#inside .error").is_hidden()


def test_without_an_index_and_with_a_token(browser, encoder):
    from spikeclip.serve.settings import Settings

    with served(encoder, None, Settings(token="s3cret")) as client:
        page = browser.new_page()
        page.goto(str(client.base_url))
        page.wait_for_selector("text=This server has no index of pictures")
        page.goto(f"{client.base_url}/#name")
        png = {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}
        page.set_input_files("#name input[type=file]", files=[png])
        page.wait_for_selector("#token[open]")
        page.fill("#token input", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-title")).to_have_text("That is not the token of this server")
        page.fill("#token input", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("#name .error:not([hidden])")
        assert "cannot be read" in page.inner_text("#name .error")
        page.close()
