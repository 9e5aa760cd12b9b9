"""Draw the README's picture of the gallery, of the demo's outputs: ``make screenshot``."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

_PATH = "/data/campaign17/0049/image_0000001.json"
_WIDTH, _HEIGHT = 940, 620


def main(prefix: str, path: str) -> None:
    """Show the grid on the left, in a light room, and a row on the right, in a dark one."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        command = str(Path(sys.executable).with_name("limbo-inspect"))
        subprocess.run([command, prefix, "--html", folder], check=True)
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size: ViewportSize = {"width": _WIDTH, "height": _HEIGHT}
        page = browser.new_page(viewport=size, color_scheme="light")
        page.goto((Path(folder) / "index.html").as_uri())
        page.wait_for_selector(".cell")
        page.wait_for_load_state("networkidle")
        left = shot(page)
        page.emulate_media(color_scheme="dark")
        page.locator(".cell").nth(1).click()
        page.locator("#metadata summary").first.click()
        # Where this machine has the demo says nothing to others.
        page.evaluate(f"document.getElementById('path').textContent = '{_PATH}'")
        right = shot(page)
        browser.close()
    both = Image.new("RGB", (left.width + right.width, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    both.save(path, "WEBP", quality=80, method=6)
    print(f"{path}: {os.path.getsize(path):,} bytes")


def shot(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot()))


if __name__ == "__main__":
    main(*sys.argv[1:])
