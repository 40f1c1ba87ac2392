"""The formgrader in a real browser: grade by button, give points by hand, read the feedback; nothing runs."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from grading_notebooks import answered, cell, notebook
from nbgrader.api import Gradebook

from coursekit.grading import demo
from coursekit.grading.gradebook.ledger import Ledger

webdriver = pytest.importorskip("selenium.webdriver")
from selenium.common.exceptions import (  # noqa: E402
    NoSuchElementException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux"),
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with chromedriver here"),
]

FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,1600
"""
TASK = "squares"
SECONDS = 60  # that a busy machine may take for any one step
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SOURCE = notebook(
    cell("def square(x):\n    return x * x", "solution", "square"),
    cell("assert square(3) == 9", "test", "test-square", 2),
    cell("Since $x^2 = x \\cdot x$.", "written", "why", 3),
)
RUN = "window.hacked = true"
HOSTILE = {
    "square": f"""
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
def square(x):
    return x * x
print("<script>{RUN}</script>")
display(HTML("<script>{RUN}</script><img src=x onerror='{RUN}'><svg onload='{RUN}'></svg>"))
display(HTML("<iframe srcdoc='&lt;script&gt;parent.hacked = true&lt;/script&gt;'></iframe>"))
display(Javascript("{RUN}"))
display(Markdown("<script>{RUN}</script> <img src=x onerror='{RUN}'>"))
display(Latex("</div><script>{RUN}</script>"))
display(SVG("<svg xmlns='http://www.w3.org/2000/svg' onload='{RUN}'><script>{RUN}</script></svg>"))
display({{"image/png": '"><script>{RUN}</script>'}}, raw=True)
display({{"image/jpeg": '" onerror="{RUN}'}}, raw=True)
wide = "1 onload={RUN.replace(" ", "")}"
display({{"image/png": "{PNG}"}}, raw=True, metadata={{"width": wide}})
display({{"image/png": "{PNG}"}}, raw=True, metadata={{"image/png": {{"height": wide}}}})
display({{"application/vnd.jupyter.widget-view+json": {{"a": "</script><script>{RUN}</script>"}}}}, raw=True)
raise ValueError("<script>{RUN}</script>")
""",
    "why": f"""Words. <script>{RUN}</script> <img src=x onerror="{RUN}"> [click](javascript:{RUN})
<svg onload="{RUN}"></svg> <details open ontoggle="{RUN}"></details> </div></div>

```html
</pre><script>{RUN}</script>
```

![here](picture.png) ![{RUN}](x" onerror="{RUN})
""",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """A course in which two students have handed in and nothing is graded."""
    course = tmp_path_factory.mktemp("formgrader") / "course"
    (course / "solutions" / TASK).mkdir(parents=True)
    nbformat.write(SOURCE, course / "solutions" / TASK / f"{TASK}.ipynb")
    (course / "nbgrader_config.py").write_text(
        "from coursekit.grading import configure\n\nconfigure(get_config())\n"
    )
    demo.nbgrader(course, "generate_assignment", TASK)
    released = nbformat.read(course / "exercises" / TASK / f"{TASK}.ipynb", as_version=4)
    honest = {"square": "def square(x):\n    return x ** 2", "why": "Because $x^2$ is $x$ times $x$."}
    demo.submit({"ada": answered(released, honest), "mallory": answered(released, HOSTILE)}, TASK, course)
    beside = course / "submitted" / "mallory" / TASK
    (beside / "picture.png").write_bytes(base64.b64decode(PNG))
    (beside / "page.html").write_text(f"<p>A page.</p><script>{RUN}</script>")
    return course


@pytest.fixture(scope="module")
def jupyter(course):
    """Address of a JupyterLab that runs in the course's folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", *options, "--IdentityProvider.token=test"],
        cwd=course,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + SECONDS
        while not _answers(port):
            assert server.poll() is None and time.monotonic() < end, "JupyterLab did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def browser(jupyter, tmp_path_factory):
    """A browser that is signed in."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = _started(options)
    try:
        driver.get(f"{jupyter}/formgrader?token=test")
        yield driver
    finally:
        driver.quit()


def _started(options: webdriver.ChromeOptions) -> webdriver.Chrome:
    """The browser; on a busy machine it may need a second try to come up."""
    try:
        return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    except WebDriverException:
        return webdriver.Chrome(options, webdriver.ChromeService(DRIVER))


@pytest.fixture
def see(browser, jupyter, request, tmp_path):
    """Open a page of the formgrader; a picture of the last page is kept among pytest's files."""

    def open_page(path: str) -> None:
        browser.get(f"{jupyter}/formgrader/{path}")

    yield open_page
    browser.save_screenshot(str(tmp_path / f"{request.node.name}.png"))


def wait(browser, condition):
    """What a condition gives as soon as it gives anything; meanwhile the page may replace its elements."""
    passing = NoSuchElementException, StaleElementReferenceException
    return WebDriverWait(browser, SECONDS, poll_frequency=0.1, ignored_exceptions=passing).until(condition)


def find(browser, css: str):
    """An element, once it is there."""
    return wait(browser, lambda driver: driver.find_elements(By.CSS_SELECTOR, css))[0]


def press(browser, student: str, button: str) -> str:
    """Press a button in a student's row of the list of submissions; what the window that opens says."""

    def clicked(driver) -> bool:
        row = _row(driver, student)
        links = row.find_elements(By.CSS_SELECTOR, f"{button} a") if row else []
        for link in links:
            link.click()
        return bool(links)

    wait(browser, clicked)
    window = find(browser, "#success-modal, #error-modal")
    closing = window.find_element(By.CSS_SELECTOR, ".modal-footer button")
    wait(browser, lambda driver: window.text and closing.is_displayed() and closing.is_enabled())
    text = window.text
    closing.send_keys("\n")
    wait(browser, lambda driver: not driver.find_elements(By.CSS_SELECTOR, ".modal, .modal-backdrop"))
    return text


def _row(driver, student: str):
    rows = driver.find_elements(By.CSS_SELECTOR, "tbody tr")
    return next((row for row in rows if student in row.text.split()), None)


def status(browser, student: str) -> str:
    """What the list of submissions says of a student's."""

    def said(driver) -> str | None:
        row = _row(driver, student)
        return row and row.find_element(By.CSS_SELECTOR, ".status span").text

    return wait(browser, said)


def wait_for_grades(browser) -> None:
    """Wait until the page of a notebook has its points, with which it is ready."""
    loaded = "return formgrader.grades && formgrader.grades.loaded && formgrader.comments.loaded"
    wait(browser, lambda driver: driver.execute_script(loaded))


def submission(course: Path, student: str) -> str:
    """Where the formgrader shows a student's notebook."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        (made,) = gradebook.find_submission(TASK, student).notebooks
        return f"submissions/{made.id}/"


def written(course: Path, student: str):
    """Points and comment that a person gave to the written answer."""
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        grade = gradebook.find_grade("why", TASK, TASK, student)
        return grade.manual_score, gradebook.find_comment("why", TASK, TASK, student).comment


@pytest.fixture(scope="module")
def graded(browser, jupyter, course):
    """What the page said when the buttons were pressed that grade the two hand-ins."""
    browser.get(f"{jupyter}/formgrader/manage_submissions/{TASK}")
    before = {student: status(browser, student) for student in ("ada", "mallory")}
    return before, {student: press(browser, student, ".autograde") for student in ("ada", "mallory")}


def test_the_button_grades_with_our_engine(course, graded, see, browser):
    before, said = graded
    assert before == {"ada": "needs autograding", "mallory": "needs autograding"}
    assert "Successfully autograded" in said["ada"] and f"{TASK} 2/2" in said["ada"]
    see(f"manage_submissions/{TASK}")
    assert status(browser, "ada") == "needs manual grading"
    outcomes = {one.student: one for one in Ledger(f"sqlite:///{course / 'gradebook.db'}").outcomes(TASK)}
    assert outcomes["ada"].points == 2 and outcomes["ada"].status == "graded"
    assert outcomes["ada"].fingerprint and outcomes["ada"].protection


def test_points_and_a_comment_given_by_hand_reach_the_feedback(course, graded, see, browser):
    see(f"gradebook/{TASK}/{TASK}")
    find(browser, "tbody a[href*='/submissions/']")
    see(submission(course, "ada"))
    wait_for_grades(browser)
    points = find(browser, "#why")
    points.clear()
    points.send_keys("2.5")
    find(browser, "#why-comment").send_keys("Say which rule you use.")
    find(browser, "#test-square").click()  # leaving a field saves it
    wait(browser, lambda driver: written(course, "ada") == (2.5, "Say which rule you use."))

    see(f"manage_submissions/{TASK}")
    assert "Successfully generated feedback" in press(browser, "ada", ".generate-feedback")
    browser.get((course / "feedback" / "ada" / TASK / f"{TASK}.html").as_uri())
    text = find(browser, "body").text
    assert "Say which rule you use." in text
    assert "4.5" in text and "2.5" in text


def test_nothing_that_a_student_wrote_or_showed_runs_in_the_formgrader(course, graded, see, browser):
    see(submission(course, "mallory"))
    wait_for_grades(browser)
    assert "Words." in find(browser, "body").text
    assert browser.execute_script("return window.hacked") is None
    # What would run later: handlers, addresses that are programs, frames of scripts.
    assert browser.execute_script("return document.querySelectorAll('#notebook script').length") == 0
    hostile = browser.execute_script(
        "return [...document.querySelectorAll('#notebook *')].flatMap(e => [...e.attributes]"
        ".filter(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value) || a.name == 'srcdoc')"
        ".map(a => e.tagName + ' ' + a.name))"
    )
    assert hostile == []


def test_a_picture_beside_the_notebook_is_shown(course, graded, see, browser):
    see(submission(course, "mallory"))
    picture = find(browser, "img[src='picture.png']")
    wait(browser, lambda driver: picture.get_property("naturalWidth") == 1)


def test_a_page_beside_the_notebook_runs_nothing(course, graded, see, browser):
    see(f"{submission(course, 'mallory')}page.html")
    assert find(browser, "p").text == "A page."
    assert browser.execute_script("return window.hacked") is None


def test_nothing_runs_in_the_feedback_either(course, graded, see, browser):
    demo.nbgrader(course, "generate_feedback", TASK, "--student=mallory")
    browser.get((course / "feedback" / "mallory" / TASK / f"{TASK}.html").as_uri())
    assert "Words." in find(browser, "body").text
    assert browser.execute_script("return window.hacked") is None
