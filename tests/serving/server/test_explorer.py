"""The explorer page in headless Chromium, by clicks and keys."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from running_server import Server, publish

from serving.server.release import promote

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

WIDE, MIDDLE, NARROW = ({"width": width, "height": 900} for width in (1280, 900, 390))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def open_page(browser: Browser, server: Server, **options: Any) -> tuple[Page, list[str]]:
    """Opens the page; returns the console's errors and requests to elsewhere, as they come."""

    def own(url: str) -> bool:
        return url.startswith((server.rest, "data:"))

    page = browser.new_context(**options).new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if not own(request.url) else None)
    page.goto(server.rest)
    return page, problems


def recommended(page: Page) -> list[str]:
    """The ids, which stand first below the titles."""
    below = page.locator("#recommendations li > div:not(.because) .quiet").all_inner_texts()
    return [re.split(" · ", text)[0] for text in below]


# Every visible text's contrast with what is behind it, by WCAG 2's formula; what falls short of its 4.5 : 1.
LOW_CONTRAST = """() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(part => part / 255);
    const linear = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const style = getComputedStyle(one);
      const bar = style.backgroundImage.match(/rgb\\([^)]*\\)/);
      if (bar) return bar[0];
      if (!style.backgroundColor.startsWith("rgba(0, 0, 0, 0")) return style.backgroundColor;
    }
  };
  const texts = [...document.querySelectorAll("body *")].filter(element =>
    element.checkVisibility() && [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return [texts.length, texts.flatMap(element => {
    const [a, b] = [getComputedStyle(element).color, behind(element)].map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    return ratio < 4.5 ? [`${element.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`] : [];
  })];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, MIDDLE, NARROW], ids=["wide", "middle", "narrow"])
def test_a_person_finds_items_builds_a_history_and_reads_why(
    browser: Browser, server: Server, scheme: str, size: dict[str, int]
) -> None:
    page, problems = open_page(browser, server, color_scheme=scheme, viewport=size)
    expect(page.locator("#about")).to_have_text("tiny, version 1: 293 items, index recall@100 1.0000")
    expect(page.locator("#recommendations li")).to_have_count(20)
    expect(page.locator("#rests-on")).to_have_text("Not known to version 1; the answer rests on: popularity.")
    expect(page.locator(".because")).to_have_count(0)

    page.fill("#query", "lonely")
    page.locator("#hits").get_by_role("button", name=re.compile("^add ")).first.click()
    expect(page.locator("#taken li")).to_have_count(1)
    expect(page.locator("#taken li button").first).to_have_text(re.compile("Lonely"))
    expect(page.locator("#rests-on")).to_have_text("Not known to version 1; the answer rests on: history.")
    expect(page.locator(".because").first).to_have_text(re.compile("because of .*Lonely"))
    expect(page.locator("#model-label")).to_be_hidden()
    expect(page.locator("#token-form")).to_be_hidden()

    best = page.locator("#recommendations li button").first
    added = best.inner_text()
    page.get_by_role("button", name=f"add {added}", exact=True).click()
    expect(page.locator("#taken li")).to_have_count(2)
    expect(best).not_to_have_text(added)
    title = best.inner_text()
    best.click()
    expect(page.locator("#neighbours-title")).to_have_text(f"Nearest to {title}")
    expect(page.locator("#neighbours li")).to_have_count(20)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    seen, low = page.evaluate(LOW_CONTRAST)
    assert (seen > 100, low) == (True, [])
    folder = os.environ.get("RECSYS_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"explorer-{scheme}-{size['width']}.png", full_page=True)

    page.get_by_role("button", name=re.compile("^remove .*Lonely")).click()
    expect(page.locator("#taken li")).to_have_count(1)
    assert problems == []
    page.context.close()


def test_a_user_who_is_picked_gets_theirs_and_reads_why(browser: Browser, server: Server) -> None:
    page, problems = open_page(browser, server)
    page.fill("#user", "u3")
    expect(page.locator("#rests-on")).to_have_text("Known to version 1; the answer rests on: user.")
    own = server.http.post("/recommend", json={"user_id": "u3", "k": 20}).json()
    ids = [item["item_id"] for item in own["items"]]
    assert recommended(page) == ids
    explained = server.http.post("/explain", json={"user_id": "u3", "item_ids": ids}).json()["items"]
    nearest = [item["because"][0]["shown"]["title"] for item in explained if item["because"][0]["score"] > 0]
    told = page.locator(".because").all_inner_texts()
    assert [text.startswith(f"because of {title}") for text, title in zip(told, nearest, strict=True)] == [True] * len(
        told
    )
    assert len(told) > 10
    assert problems == []
    page.context.close()


@pytest.mark.slow
def test_the_header_follows_what_serves_while_the_page_is_open(
    browser: Browser, tiny_models: Path, tmp_path: Path
) -> None:
    def measure_another_recall(bundle: Path) -> None:
        record = bundle / "assets.extra" / "bundle.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"index_recall": 0.9876}))

    shutil.copytree(tiny_models / "tiny" / "1", tmp_path / "models" / "tiny" / "1")
    server = Server(tmp_path / "models", tmp_path / "log", "release.poll_seconds=0.1", "release.canary_fraction=0.5")
    page, problems = open_page(browser, server)
    expect(page.locator("#about")).to_have_text("tiny, version 1: 293 items, index recall@100 1.0000")
    publish(tmp_path / "models" / "tiny", 2, measure_another_recall)
    server.wait_for(2, "AVAILABLE")
    page.fill("#user", "u3")
    on_trial = "tiny, version 1 (on trial: 2): 293 items, index recall@100 1.0000"
    expect(page.locator("#about")).to_have_text(on_trial)
    promote(tmp_path / "models" / "tiny")
    server.wait_for(1, "END")
    page.fill("#user", "u4")
    expect(page.locator("#about")).to_have_text("tiny, version 2: 293 items, index recall@100 0.9876")
    expect(page.locator("#rests-on")).to_have_text("Known to version 2; the answer rests on: user.")
    assert problems == []
    page.context.close()
    assert server.stop() == 0


def test_recommendations_are_shown_although_their_reasons_are_not_found(browser: Browser, server: Server) -> None:
    page, _ = open_page(browser, server)
    refusal = {"error": "the queue is full: try again later"}
    page.route("**/explain", lambda route: route.fulfill(status=503, json=refusal))
    page.fill("#user", "u3")
    expect(page.locator("#unexplained")).to_have_text("Why is not known: the queue is full: try again later")
    own = server.http.post("/recommend", json={"user_id": "u3", "k": 20}).json()
    assert recommended(page) == [item["item_id"] for item in own["items"]]
    expect(page.locator(".because")).to_have_count(0)
    expect(page.get_by_role("alert")).to_be_empty()
    page.unroute("**/explain")
    page.fill("#user", "u4")
    expect(page.locator("#unexplained")).to_be_empty()
    expect(page.locator(".because").first).to_be_visible()
    page.context.close()


def test_it_is_used_without_a_mouse(browser: Browser, server: Server) -> None:
    page, problems = open_page(browser, server)
    page.locator("#query").focus()
    page.keyboard.type("lonely")
    expect(page.locator("#hits li").first).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#neighbours li")).to_have_count(20)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator("#taken li")).to_have_count(1)
    names = [page.locator("button").nth(n).evaluate("one => one.ariaLabel || one.innerText") for n in range(9)]
    assert all(names)
    assert problems == []
    page.context.close()


def test_titles_are_text_and_never_markup(browser: Browser, server: Server) -> None:
    page, problems = open_page(browser, server)
    page.fill("#user", "<img src=x onerror=alert(1)>")
    page.fill("#query", "<b>no such item</b>")
    expect(page.locator("#hits")).to_have_text("Nothing is found.")
    assert page.locator("img, b").count() == 0
    assert problems == []
    page.context.close()


def test_what_goes_wrong_is_told(browser: Browser, server: Server) -> None:
    page, _ = open_page(browser, server)
    expect(page.locator("#recommendations li")).to_have_count(20)
    page.fill("#user", "u" * 300)
    expect(page.get_by_role("alert")).to_have_text("user_id has a string of 300 bytes: expected at most 256")
    page.fill("#user", "u3")
    expect(page.get_by_role("alert")).to_be_empty()
    page.context.close()
