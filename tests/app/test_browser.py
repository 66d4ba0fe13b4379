"""The whole way in a real browser: upload, wait, look, move the threshold, take the report home."""

import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.browser import bright, chromium, scan, served, upload, viewer
from tests.conftest import AFFINE, small_brain
from uncus import NOTICE

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two scans of people who were not trained on, and a broken file."""
    folder = tmp_path_factory.mktemp("scans")
    paths = {name: folder / f"{name}.nii.gz" for name in ("ill", "well", "broken")}
    for name, seed in (("ill", 99), ("well", 98)):
        nib.save(nib.Nifti1Image(small_brain(seed, ill=name == "ill"), AFFINE), paths[name])
    paths["broken"].write_bytes(paths["ill"].read_bytes()[:200])
    return paths


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server keeps what it must."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def address(browser: Any, run: Path, files: Path) -> Iterator[str]:
    del browser  # where there is none, nothing is served
    with served(run, files) as found:
        yield found
    assert not [*files.rglob("*.nii*"), *files.glob("uncus-*")]


def test_the_whole_way(browser: Any, address: str, scans: dict[str, Path], files: Path) -> None:
    page = scan(browser, address)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_text(NOTICE).wait_for()
    upload(page, scans["ill"])
    before = viewer(page).locator("body").get_attribute("data-ready")
    assert page.get_by_text("training scans labelled").first.is_visible()
    assert page.get_by_text("share of the networks' vote").first.is_visible()
    assert page.get_by_text("Not calibrated").first.is_visible()
    box = page.get_by_role("combobox", name="Method")
    box.focus()
    box.press("ArrowDown")  # a click that scrolls the page closes the list again
    page.get_by_role("option", name="gradient", exact=True).click()
    frame = viewer(page, before)
    first = bright(frame)
    assert first["lit"] > 5000 and first["coloured"] > 500
    requests = len(asked)
    frame.locator("#threshold").fill("90")
    higher = bright(frame)
    assert higher["coloured"] < first["coloured"] / 2 and higher["lit"] > 3000
    frame.locator("#opacity").fill("0")
    assert bright(frame)["coloured"] == 0
    for view in ("axial", "render", "all"):
        frame.locator("#view").select_option(view)
        assert bright(frame)["lit"] > 1000, view
    assert len(asked) == requests, "looking at it otherwise asks the server for nothing"
    for label, start in (("Report (PDF)", b"%PDF"), ("Report (HTML)", b"<!doctype html>")):
        with page.expect_download() as download:
            page.get_by_role("link", name=label).click()
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(start) and len(content) > 10_000
    upload(page, scans["broken"])
    page.get_by_text("gets no answer").wait_for()
    assert page.locator("[data-testid=stAlert]").count() == 1
    assert page.locator("iframe[title*=viewer]").count() == 0
    assert page.get_by_text(NOTICE).is_visible()
    ours = (address, address.replace("http", "ws"), "data:", "blob:")
    assert not [url for url in asked if not url.startswith(ours)]
    page.context.close()


def test_two_browsers_at_once(browser: Any, address: str, scans: dict[str, Path]) -> None:
    pages = {name: scan(browser, address) for name in ("ill", "well")}
    for name, page in pages.items():
        upload(page, scans[name])
    links = {}
    for name, page in pages.items():
        viewer(page)
        assert page.get_by_text(scans[name].name).first.is_visible()
        links[name] = page.get_by_role("link", name="Answer (JSON)").get_attribute("href")
    assert len(set(links.values())) == 2
    for name, page in pages.items():
        found = page.request.get(address + links[name]).json()
        assert found["scan"] == scans[name].name
        other = next(key for key in pages if key != name)
        assert scans[other].name not in page.content()
    wrong = links["ill"].replace("map-0/prediction.json", "scan.nii.gz.json")
    assert pages["ill"].request.get(address + wrong).status == 404
    with contextlib.suppress(Exception):
        for page in pages.values():
            page.context.close()


def test_a_raw_request_is_held_to_the_rules(
    browser: Any, address: str, scans: dict[str, Path]
) -> None:
    page = scan(browser, address)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request) if request.method == "PUT" else None)
    page.get_by_role("button", name="Try the bundled example").wait_for()
    upload(page, scans["broken"])
    page.get_by_text("gets no answer").wait_for()
    place, headers = sent[0].url.removeprefix(address), sent[0].all_headers()
    headers = {name: headers[name] for name in ("x-xsrftoken", "cookie", "content-type")}
    host = address.removeprefix("http://")

    def put(path: str, **more: str) -> int:
        """The status of an upload whose body is never sent; ``more`` headers, _ for -."""
        more = {name.replace("_", "-"): value for name, value in more.items()}
        line = http.client.HTTPConnection(host, timeout=120)
        line.putrequest("PUT", path)
        for name, value in {**headers, "content-length": "9", **more}.items():
            line.putheader(name, value)
        line.endheaders()
        status = line.getresponse().status
        line.close()
        return status

    assert put(place, content_length=str(600 << 20)) == 413
    assert put(place, x_xsrftoken="guess") == 403
    assert put("/_stcore/upload_file/nobody/1") == 400
    for path in (
        "/files/x/scan.nii.gz",
        "/files/x/../../../etc/passwd",
        "/report/../../etc/passwd",
    ):
        line = http.client.HTTPConnection(host, timeout=120)
        line.request("GET", path)  # as it stands; a browser would shorten it
        found = line.getresponse()
        assert found.status in {400, 404} and b"root:" not in found.read(), path
    # Half an upload, and gone: nothing of it stays with the server, and the page goes on.
    with socket.create_connection(host.split(":")) as line:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"PUT {place} HTTP/1.1\r\nHost: {host}\r\n{fields}".encode())
        line.sendall(b"Content-Length: 90000000\r\n\r\n" + b"x" * 1_000_000)
    upload(page, scans["well"])
    viewer(page)
    page.context.close()
