"""The app in a real browser: upload, prediction, viewer, threshold, download of the report."""

import contextlib
import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import pytest

from tests.browser import PATIENCE, bright, chromium, open_page, served, upload, viewer
from tests.conftest import AFFINE, small_brain
from tests.data.segmentation.heads import MRI, needs_heads
from uncus import NOTICE

AXE = Path(__file__).with_name("axe.min.js")

pytest.importorskip("streamlit", reason="the page needs the extra 'app'")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scans of a patient and a control not used in training, and a broken file."""
    folder = tmp_path_factory.mktemp("scans")
    paths = {name: folder / f"{name}.nii.gz" for name in ("patient", "control", "broken")}
    for name, seed in (("patient", 99), ("control", 98)):
        nib.save(nib.Nifti1Image(small_brain(seed, ill=name == "patient"), AFFINE), paths[name])
    paths["broken"].write_bytes(paths["patient"].read_bytes()[:200])
    return paths


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="module")
def address(browser: Any, run: Path, files: Path) -> Iterator[str]:
    del browser  # skipped without a browser
    with served(run, files) as url:
        yield url
    assert not [*files.rglob("*.nii*"), *files.glob("uncus-*")]


def test_from_upload_to_report(
    browser: Any, address: str, scans: dict[str, Path], files: Path
) -> None:
    page = open_page(browser, address)
    requested: list[str] = []
    refused: list[str] = []
    page.on("console", lambda line: refused.append(line.text) if "Security" in line.text else None)
    page.on("request", lambda request: requested.append(request.url))
    assert page.get_by_role("note").inner_text() == NOTICE
    upload(page, scans["patient"])
    page.locator(".uncus-axis .here").first.wait_for()
    before = viewer(page).locator("body").get_attribute("data-ready")
    assert page.get_by_text("training scans labelled").first.is_visible()
    title = "probability of Alzheimer's-type dementia, not calibrated"
    assert page.get_by_text(title).first.is_visible()
    assert page.get_by_text("Not calibrated").first.is_visible()
    box = page.get_by_role("combobox", name="Method")
    box.focus()
    box.press("ArrowDown")  # a click that scrolls the page closes the list again
    page.get_by_role("option", name="gradient", exact=True).click()
    frame = viewer(page, before)
    first = bright(frame)
    assert first["lit"] > 5000 and first["coloured"] > 500
    requests = len(requested)
    frame.locator("#threshold").fill("90")
    higher = bright(frame)
    assert higher["coloured"] < first["coloured"] / 2 and higher["lit"] > 3000
    frame.locator("#opacity").fill("0")
    assert bright(frame)["coloured"] == 0
    for view in ("axial", "render", "all"):
        frame.locator("#view").select_option(view)
        assert bright(frame)["lit"] > 1000, view
    assert len(requested) == requests, "the viewer works without the server"
    for label, start in (("Report (PDF)", b"%PDF"), ("Report (HTML)", b"<!doctype html>")):
        with page.expect_download() as download:
            page.get_by_role("link", name=label).click()
        content = Path(download.value.path()).read_bytes()
        assert content.startswith(start) and len(content) > 10_000
    upload(page, scans["broken"])
    page.get_by_text("No prediction for").wait_for()
    assert page.locator("[data-testid=stAlert]").count() == 1
    assert page.locator("iframe[title*=viewer]").count() == 0
    assert page.get_by_role("note").is_visible()
    for name, heading in (("Runs", "Runs"), ("Model card", "from a T1-weighted scan")):
        page.get_by_role("link", name=name).click()
        page.get_by_role("heading", name=heading).first.wait_for()
        page.wait_for_timeout(2000)
    assert not refused, "nothing needs more than the content security policy allows"
    ours = (address, address.replace("http", "ws"), "data:", "blob:")
    assert not [url for url in requested if not url.startswith(ours)]
    page.context.close()


def test_what_is_set_survives_a_change_of_method_and_a_reload(
    browser: Any, address: str, scans: dict[str, Path]
) -> None:
    page = open_page(browser, address)
    upload(page, scans["patient"])
    frame = viewer(page)
    first = frame.locator("body").get_attribute("data-ready")
    frame.locator("#side").select_option("neurological")
    frame.locator("#view").select_option("coronal")
    frame.locator("#threshold").fill("40")
    before = frame.locator("#position").inner_text()
    for key in ("ArrowLeft", "PageUp", "PageUp"):
        frame.locator("#canvas").press(key)
    at = frame.locator("#position").inner_text().partition(" of the scan's origin")[0]
    assert "mm left" in at and not before.startswith(at)

    def kept(frame: Any) -> None:
        assert frame.locator("#position").inner_text().startswith(at)
        assert frame.locator("#side").input_value() == "neurological"
        assert frame.locator("#view").input_value() == "coronal"
        assert frame.locator("#threshold").input_value() == "40"
        shown = "[state.viewer.opts.isRadiologicalConvention, state.viewer.opts.sliceType]"
        assert frame.locator("#canvas").evaluate(f"() => {shown}") == [False, 1]

    box = page.get_by_role("combobox", name="Method")
    box.fill("integrated")
    box.press("Enter")
    frame = viewer(page, first)
    kept(frame)
    second = frame.locator("body").get_attribute("data-ready")
    page.reload()
    frame = viewer(page)
    assert frame.locator("body").get_attribute("data-ready") == second, "the same visit"
    assert page.get_by_text(scans["patient"].name).first.is_visible()
    kept(frame)
    page.context.close()


@pytest.mark.slow
def test_the_region_at_the_crosshair_is_named(
    browser: Any, mni_run: Path, mni_source: Path, tmp_path: Path
) -> None:
    scan = next(mni_source.rglob("*_T1w.nii.gz"))
    with served(mni_run, tmp_path) as address:
        page = open_page(browser, address)
        upload(page, scan)
        frame = viewer(page)
        assert frame.locator(".group").first.inner_text() == "Memory structures"
        for name in ("left hippocampus", "right hippocampus"):
            frame.get_by_role("button", name=name).click()
            assert frame.locator("#position b").inner_text() == name
        frame.locator("#search").fill("precuneus")
        assert frame.locator(".region:visible").count() == 2
        page.context.close()


@pytest.mark.slow
def test_a_lost_connection_is_said(browser: Any, run: Path, tmp_path: Path) -> None:
    with served(run, tmp_path) as address:
        page = open_page(browser, address)
        page.get_by_role("button", name="Try the bundled example").wait_for()
        assert not page.get_by_text("The connection is lost").is_visible()
    page.get_by_text("The connection is lost").wait_for()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(
    browser: Any, address: str, scans: dict[str, Path], scheme: str
) -> None:
    """By axe-core (MPL-2.0), beside this file: names, roles, contrast, order."""
    page = browser.new_context(color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.get_by_role("button", name="Try the bundled example").wait_for()
    assert_accessible(page)
    upload(page, scans["patient"])
    page.get_by_role("heading", name="Download").wait_for()
    assert_accessible(page)
    upload(page, scans["broken"])
    page.get_by_text("No prediction for").wait_for()
    assert_accessible(page)
    for path, text in (("runs", "Runs"), ("card", "Hashes")):
        page.goto(f"{address}/{path}")
        page.get_by_role("heading", name=text).wait_for()
        assert_accessible(page)
    page.context.close()


def assert_accessible(page: Any) -> None:
    """No finding of axe that is serious or critical."""
    page.wait_for_timeout(1500)  # Streamlit fades in what is new
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {iframes: false, resultTypes: ['violations']})")
    assert [
        (one["id"], [node["html"] for node in one["nodes"]])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ] == [], page.url


def test_the_report_says_what_the_page_says(
    browser: Any, address: str, scans: dict[str, Path]
) -> None:
    page = open_page(browser, address)
    upload(page, scans["patient"])
    viewer(page)
    link = page.get_by_role("link", name="Report (HTML)").get_attribute("href")
    card, report = page.locator(".st-key-answer"), page.context.new_page()
    report.set_content(page.request.get(address + (link or "")).text())
    for place in (".uncus-axis", ".uncus-checks"):
        assert report.locator(place).text_content() == card.locator(place).text_content()
    assert card.locator("h3").inner_text() == report.locator("h1").inner_text()
    reason = report.locator("p.lead").inner_text()
    assert "probability 0." in reason and card.get_by_text(reason, exact=True).count() == 1
    facts = report.locator(".facts").inner_text()
    for fact in page.locator(".uncus-facts dd").all_inner_texts():
        assert fact in facts
    page.context.close()


@pytest.mark.slow  # an abandoned job goes on for some seconds, as during a reload
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")
def test_who_waits_behind_a_closed_tab_gets_the_answer(
    browser: Any, address: str, run: Path, scans: dict[str, Path]
) -> None:
    """Behind a job that would take ten minutes: its process is stopped."""
    (worker,) = (
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if b"uncus.app.worker\0" + bytes(run) in command_line(folder)
    )
    os.kill(worker, signal.SIGSTOP)
    first, second = (open_page(browser, address) for _ in range(2))
    upload(first, scans["patient"])
    first.locator("[data-testid=stProgress]").wait_for()
    upload(second, scans["control"])
    second.get_by_text("In the queue: 1 scan is before yours.").wait_for()
    first.context.close()
    second.locator(".uncus-axis .here").wait_for()
    viewer(second)
    second.context.close()


def command_line(process: Path) -> bytes:
    """Of a folder of /proc; empty where the process has ended."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.slow  # a whole head is placed
@needs_heads
def test_a_real_head_is_red_on_a_run_of_phantoms(
    browser: Any, mni_run: Path, tmp_path: Path
) -> None:
    with served(mni_run, tmp_path) as address:
        page = open_page(browser, address)
        upload(page, MRI / "heads" / "aomic-0001_T1w.nii.gz")
        card = page.locator(".st-key-answer")
        card.locator(".uncus-checks .alarm").wait_for()
        assert card.locator("h3").inner_text() == "No answer"
        assert card.locator("[data-testid=stAlertContentError]").count() == 1
        assert page.get_by_text("Trained on synthetic brains").first.is_visible()
        assert page.locator(".uncus-axis").count() == 0
        assert page.locator("[data-testid=stAlertContentSuccess]").count() == 0
        read = "(all) => all.map((one) => getComputedStyle(one).backgroundColor)"
        found = card.locator("*").evaluate_all(read)
        colors = [[float(n) for n in re.findall(r"[\d.]+", color)] for color in found]
        assert any(r > 150 and g < 100 for r, g, *_ in colors)
        assert not [one for one in colors if one[1] > 1.2 * max(one[0], one[2]) and one[1] > 60]
        page.context.close()


@pytest.mark.slow
def test_two_browsers_at_once(browser: Any, address: str, scans: dict[str, Path]) -> None:
    pages = {name: open_page(browser, address) for name in ("patient", "control")}
    for name, page in pages.items():
        upload(page, scans[name])
    links = {}
    for name, page in pages.items():
        viewer(page)
        assert page.get_by_text(scans[name].name).first.is_visible()
        links[name] = page.get_by_role("link", name="Prediction (JSON)").get_attribute("href")
    assert len(set(links.values())) == 2
    for name, page in pages.items():
        prediction = page.request.get(address + links[name]).json()
        assert prediction["scan"] == scans[name].name
        other = next(key for key in pages if key != name)
        assert scans[other].name not in page.content()
    for name, page in pages.items():
        other = next(key for key in pages if key != name)
        assert page.request.get(address + links[other]).status == 404, "also by its secret link"
    wrong = links["patient"].replace("map-0/prediction.json", "scan.nii.gz.json")
    assert pages["patient"].request.get(address + wrong).status == 404
    with contextlib.suppress(Exception):
        for page in pages.values():
            page.context.close()


@pytest.mark.slow
def test_log_in_and_out(browser: Any, run: Path, tmp_path: Path) -> None:
    with served(run, tmp_path, UNCUS_APP_PASSWORD="hüsh") as address:
        page = open_page(browser, address)
        page.get_by_label("Password").fill("hush")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("Wrong password").wait_for()
        page.get_by_label("Password").fill("hüsh")
        page.get_by_role("button", name="Open").click()
        page.get_by_role("button", name="Try the bundled example").wait_for()
        page.get_by_role("link", name="Log out").click()
        page.get_by_label("Password").wait_for()
        page.goto(address)
        page.get_by_label("Password").wait_for()
        page.context.close()


@pytest.mark.slow  # the page may be gone for a minute, as during a reload
def test_a_browser_that_is_closed_during_a_map_leaves_nothing(
    browser: Any, address: str, scans: dict[str, Path], files: Path
) -> None:
    page = open_page(browser, address)
    upload(page, scans["patient"])
    viewer(page)
    box = page.get_by_role("combobox", name="Method")
    box.focus()
    box.press("ArrowDown")
    page.get_by_role("option", name="occlusion", exact=True).click()
    end = time.monotonic() + PATIENCE / 1000
    while not [*files.rglob("uncus-map-*")]:
        assert time.monotonic() < end
        time.sleep(0.01)
    page.context.close()
    while left := [*files.rglob("*.nii*"), *files.rglob("uncus-scan-*")]:
        assert time.monotonic() < end, left
        time.sleep(0.5)


def test_raw_requests_are_limited(browser: Any, address: str, scans: dict[str, Path]) -> None:
    page = open_page(browser, address)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request) if request.method == "PUT" else None)
    page.get_by_role("button", name="Try the bundled example").wait_for()
    upload(page, scans["broken"])
    page.get_by_text("No prediction for").wait_for()
    path, headers = sent[0].url.removeprefix(address), sent[0].all_headers()
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

    assert put(path, content_length=str(600 << 20)) == 413
    assert put(path, x_xsrftoken="guess") == 403
    assert put("/_stcore/upload_file/nobody/1") == 400
    for other in (
        "/files/x/scan.nii.gz",
        "/files/x/../../../etc/passwd",
        "/report/../../etc/passwd",
    ):
        line = http.client.HTTPConnection(host, timeout=120)
        line.request("GET", other)  # unchanged; a browser would normalize it
        response = line.getresponse()
        assert response.status in {400, 404} and b"root:" not in response.read(), other
    # An upload that breaks off leaves nothing on the server, and the page works on.
    with socket.create_connection(host.split(":")) as line:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"PUT {path} HTTP/1.1\r\nHost: {host}\r\n{fields}".encode())
        line.sendall(b"Content-Length: 90000000\r\n\r\n" + b"x" * 1_000_000)
    upload(page, scans["control"])
    viewer(page)
    page.context.close()
