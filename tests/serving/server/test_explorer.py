"""The explorer page in headless Chromium, by clicks and keys."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from running_server import Server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


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
    return [
        re.split(" · ", text)[0] for text in page.locator("#recommendations li .quiet:not(.because)").all_inner_texts()
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_person_finds_items_builds_a_history_and_reads_why(
    browser: Browser, server: Server, scheme: str, size: dict[str, int]
) -> None:
    page, problems = open_page(browser, server, color_scheme=scheme, viewport=size)
    expect(page.locator("#about")).to_have_text("tiny, version 1: 293 items, index recall@100 1.0000")
    expect(page.locator("#recommendations li")).to_have_count(20)
    expect(page.locator("#rests-on")).to_have_text("Not known to version 1; the answer rests on: popularity.")

    page.fill("#user", "u3")
    expect(page.locator("#rests-on")).to_have_text("Known to version 1; the answer rests on: user.")
    own = server.http.post("/recommend", json={"user_id": "u3", "k": 20}).json()
    assert recommended(page) == [item["item_id"] for item in own["items"]]

    page.fill("#user", "")
    page.fill("#query", "lonely")
    page.locator("#hits li button").first.click()
    expect(page.locator("#history li")).to_have_count(1)
    expect(page.locator("#history li span")).to_have_text(re.compile("Lonely"))
    expect(page.locator("#rests-on")).to_have_text("Not known to version 1; the answer rests on: history.")
    expect(page.locator(".because").first).to_have_text(re.compile("because of Lonely"))
    expect(page.locator("#model-label, #token-form").first).to_be_hidden()

    page.get_by_role("button", name="+ took it").first.click()
    expect(page.locator("#history li")).to_have_count(2)
    page.locator("#recommendations li button").first.click()
    expect(page.locator("#neighbours li")).to_have_count(10)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    folder = os.environ.get("RECSYS_TEST_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"explorer-{scheme}-{size['width']}.png", full_page=True)

    page.get_by_role("button", name="remove").first.click()
    expect(page.locator("#history li")).to_have_count(1)
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
