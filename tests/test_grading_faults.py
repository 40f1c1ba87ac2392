"""One class in which every student is a fault: each gets exactly its outcome, and nobody else notices.

The class is graded once, for real: what arrives is read, run in its sandbox, written to nbgrader's gradebook
and given back as feedback.  The tests look at what it left.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from grading_attacks import ATTACKS, NOTHING, WRONG, Attack
from grading_course import (
    AUTOMATIC,
    FULL,
    MAXIMA,
    NAME,
    Row,
    automatic,
    gradebook_rows,
    hand_in,
    living,
    make_course,
    outcomes,
    valid_hand_in,
    with_answers,
)
from grading_faults import FAULTS, Fault
from nbformat import NotebookNode
from nbgrader.apps import NbGraderAPI
from nbgrader.coursedir import CourseDirectory

from coursekit.grading import workers
from coursekit.grading.engine import ClassResult, Grader
from coursekit.grading.execution import sandbox
from coursekit.grading.gradebook.ledger import GRADED, REVIEW
from coursekit.grading.handin.folders import folded
from coursekit.grading.records import Outcome
from coursekit.grading.reports.summary import Summary, as_html, as_text, summarise

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the engine runs on Linux"),
    pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning"),
]

# An answer that is gone costs its own question; the written one had no automatic points.
LOST = {"answer-deleted": (0.0, 3.0, 4.0), "answer-of-five-megabytes": (0.0, 3.0, 4.0)}
POINTS = {"whole": FULL, "runs": FULL, "partly": FULL, "blank": NOTHING, "unread": NOTHING}
HONEST = ("aaron", "ada.ipynb", "honest", "Zoe Z.")
SECONDS = {"seconds_per_call": 2.0, "seconds_per_cell": 4.0, "seconds_per_notebook": 20.0}
SIZES = {"memory_mib": 512, "processes": 32, "scratch_mib": 16}


@dataclass(frozen=True)
class Expected:
    """The outcome that a student must get; kinds is None where they depend on the machine."""

    points: tuple[float, ...] = FULL
    kinds: tuple[str, ...] | None = ()
    review: bool = False
    unread: bool = False
    says: tuple[str, ...] = ()
    attacks: bool = False


def of_fault(name: str, fault: Fault, wrong: bool = False) -> Expected:
    """What the table of faults promises, in points of this assignment; none for wrong answers."""
    points = NOTHING if wrong else LOST.get(name, POINTS[fault.becomes])
    return Expected(points, fault.kinds, fault.review, unread=fault.becomes == "unread")


def of_attack(attack: Attack) -> Expected:
    kinds = None if attack.kinds is None else tuple(sorted(attack.kinds))
    return Expected(attack.points, kinds, attack.review, says=attack.says, attacks=True)


def student_of(number: int, fault: str) -> str:
    """A name for the student; it says which fault it is, and is one that every system can hold."""
    return f"f{number:03}-{re.sub('[^a-z0-9]+', '-', fault.casefold())[:40]}"


FILES = {student_of(number, name): name for number, name in enumerate(FAULTS) if FAULTS[name].works_here}
# Whoever edits cells and metadata may hope for points: the same again with wrong answers.
HOPEFUL = {
    f"wrong-{student}": name
    for student, name in FILES.items()
    if FAULTS[name].becomes in ("whole", "runs")
    and re.search("cell|metadata|grade-id", str(FAULTS[name].kinds))
}
EXPECTED = {
    **{student: Expected() for student in HONEST},
    **{student: of_fault(name, FAULTS[name]) for student, name in FILES.items()},
    **{student: of_fault(name, FAULTS[name], wrong=True) for student, name in HOPEFUL.items()},
    **{name: of_attack(attack) for name, attack in ATTACKS.items()},
}


# ---------------------------------------------------------------------------------------------------
# The class


@dataclass(frozen=True)
class Class:
    """What grading left.   left: processes of the class that still live.   connected: whether anybody
    reached the port.   before, after: checksums of what no hand-in may change.
    """

    coursedir: CourseDirectory
    result: ClassResult
    outcomes: dict[str, Outcome]
    rows: dict[str, dict[str, Row]]
    summary: Summary
    left: list[str]
    connected: bool
    before: dict[str, str]
    after: dict[str, str]

    def path(self, step: str, student: str, ending: str) -> Path:
        return Path(self.coursedir.root, step, student, NAME, f"{NAME}.{ending}")


@pytest.fixture(scope="module")
def confined() -> bool:
    """Whether this machine protects everything that the attacks want to reach."""
    return not sandbox.protection().missing


@pytest.fixture(scope="module")
def graded(tmp_path_factory, confined) -> Iterator[Class]:
    root, outside = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("outside")
    (outside / "canary").write_text("sings")
    coursedir = make_course(root)
    valid = valid_hand_in(coursedir)
    for student in HONEST:
        hand_in(root, student, valid)
    wrong = with_answers(valid, WRONG)
    for student, name in {**FILES, **HOPEFUL}.items():
        made = wrong if student in HOPEFUL else valid
        lay_fault(FAULTS[name], student, made, root, tmp_path_factory.mktemp("upload"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        places = {"COURSE": str(root), "OUTSIDE": str(outside), "PORT": str(server.getsockname()[1])}
        for name, attack in ATTACKS.items() if confined else ():
            lay_attack(attack, name, valid, root, places)
        yield grade(coursedir, outside, server)


def lay_fault(fault: Fault, student: str, valid: NotebookNode, root: Path, upload: Path) -> None:
    """Lay the hand-in in a folder of its own, since it may write beside itself, and move it to the class."""
    home = upload / "submitted" / student
    fault.lay(home, valid, NAME)
    (root / "submitted").mkdir(exist_ok=True)
    home.rename(root / "submitted" / student)


def lay_attack(attack: Attack, student: str, valid: NotebookNode, root: Path, places: dict[str, str]) -> None:
    def placed(text: str | None) -> str | None:
        for word, place in places.items():
            text = text and text.replace(word, place)
        return text

    answers = {name: placed(text) for name, text in attack.answers.items()}
    folder = hand_in(root, student, with_answers(valid, answers, placed(attack.own)))
    for name, text in attack.files.items():
        (folder / name).write_text(text)


def grade(coursedir: CourseDirectory, outside: Path, server: socket.socket) -> Class:
    grader = Grader(parent=None, config=coursedir.config, workers=2, **SECONDS, **SIZES)
    guarded = [Path(coursedir.root, step) for step in ("solutions", "exercises", "submitted")]
    guarded += [outside, Path(coursedir.root, "nbgrader_config.py")]
    before, running = checksums(guarded), set(living())
    result = grader.grade(coursedir, NAME)
    workers._shelf.clear()
    left = [line for pid, line in living().items() if pid not in running]
    done = NbGraderAPI(coursedir, parent=None, config=coursedir.config).generate_feedback(NAME)
    assert done["success"], done["log"]
    with grader.open_ledger(coursedir) as ledger:
        summary = summarise(ledger.outcomes(NAME), ledger.students())
    return Class(
        coursedir, result, outcomes(coursedir), gradebook_rows(coursedir), summary, left, connected(server),
        before, checksums(guarded),
    )  # fmt: skip


def checksums(places: list[Path]) -> dict[str, str]:
    """Contents, modes and times of all files."""
    files = [Path(folder, name) for place in places for folder, _, names in os.walk(place) for name in names]
    files += [place for place in places if place.is_file()]
    return {str(path): checksum(path) for path in files}


def checksum(path: Path) -> str:
    status = path.lstat()
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    return f"{hashlib.sha256(content).hexdigest()} {status.st_mode} {status.st_mtime_ns}"


def connected(server: socket.socket) -> bool:
    server.setblocking(False)
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.fixture(params=EXPECTED)
def student(request, confined) -> str:
    if EXPECTED[request.param].attacks and not confined:
        pytest.skip("this machine does not protect all that this hand-in wants to reach")
    return request.param


@pytest.fixture
def expected(student) -> Expected:
    return EXPECTED[student]


def page_text(graded: Class, student: str) -> str:
    """What the feedback says, in one line."""
    html = graded.path("feedback", student, "html").read_text(encoding="utf-8")
    return " ".join(BeautifulSoup(html, "html.parser").get_text(" ").split())


def outputs(graded: Class, student: str) -> list[NotebookNode]:
    notebook = nbformat.read(graded.path("autograded", student, "ipynb"), as_version=4)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


# ---------------------------------------------------------------------------------------------------
# Each student


def test_there_are_many_faults():
    assert len(EXPECTED) > 320


def test_a_hand_in_gets_exactly_its_outcome(graded, student, expected):
    outcome = graded.outcomes[student]
    assert outcome.status == (REVIEW if expected.review else GRADED)
    assert (outcome.points, outcome.maximum) == (sum(expected.points), sum(FULL))
    if expected.kinds is not None:
        assert tuple(sorted(finding.kind for finding in outcome.findings)) == expected.kinds


def test_every_cell_has_its_points_in_the_gradebook(graded, student, expected):
    rows = graded.rows[student]
    assert automatic(rows) == expected.points
    assert {row.manual for row in rows.values()} == {None}
    by_hand = {rows[name] for name in MAXIMA if name not in AUTOMATIC}
    assert by_hand == {Row(0.0, None, True) if expected.unread else Row(None, None, True)}


def test_points_that_are_in_doubt_wait_for_a_person(graded, student, expected):
    doubted = {score.cell for score in graded.outcomes[student].scores if score.review}
    waiting = {name for name in AUTOMATIC if graded.rows[student][name].waits}
    assert waiting == (set(AUTOMATIC) if expected.unread else doubted)


def test_the_graded_notebook_is_there_and_valid(graded, student):
    notebook = nbformat.read(graded.path("autograded", student, "ipynb"), as_version=4)
    nbformat.validate(notebook)
    marked = [cell.metadata.nbgrader.grade_id for cell in notebook.cells if "nbgrader" in cell.metadata]
    assert sorted(marked) == sorted([*MAXIMA, "setup", "double", "total", "share"])


def test_the_feedback_names_every_reason(graded, student, expected):
    text, outcome = page_text(graded, student), graded.outcomes[student]
    known = {None, *MAXIMA, "setup", "double", "total", "share"}  # a student's own cell shows it as output
    reasons = [finding.message for finding in outcome.findings if finding.cell in known]
    reasons += [score.review for score in outcome.scores if score.review and not expected.unread]
    missing = [reason for reason in [*reasons, *expected.says] if " ".join(reason.split()) not in text]
    assert not missing
    assert ("A person has to look at this hand-in" in text) == expected.review


def test_nothing_in_the_feedback_runs_or_loads(graded, student):
    page = BeautifulSoup(graded.path("feedback", student, "html").read_text(encoding="utf-8"), "html.parser")
    assert not page.find_all(["script", "iframe", "object", "embed", "form", "base"])
    for tag in page.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on")]
        addresses = [str(tag.get(name, "")) for name in ("src", "href")]
        assert all(re.match(r"data:image/|https?://|mailto:|#|$", address) for address in addresses)
        assert not tag.get("src") or tag["src"].startswith("data:image/")


def test_no_hidden_test_is_in_the_feedback(graded, student):
    html = graded.path("feedback", student, "html").read_text(encoding="utf-8")
    assert not re.search(r"-31|17\s*,\s*25|allclose\(double\(\[-", html)


@pytest.mark.parametrize("student", ATTACKS, indirect=True)
def test_nothing_was_got_hold_of(graded, student):
    said = [output.text for output in outputs(graded, student) if output.output_type == "stream"]
    assert "got hold of" not in "".join(said)


@pytest.mark.parametrize("student", ATTACKS, indirect=True)
def test_no_graded_notebook_is_large(graded, student):
    assert graded.path("autograded", student, "ipynb").stat().st_size < 4e6


# ---------------------------------------------------------------------------------------------------
# The class


def test_every_folder_has_exactly_one_outcome(graded):
    folders = os.listdir(Path(graded.coursedir.root, "submitted"))
    assert sorted(graded.outcomes) == sorted(graded.rows) == sorted(folders)
    assert (graded.result.graded, graded.result.failed, graded.result.skipped) == (len(folders), {}, 0)


def test_the_grader_failed_with_nobody(graded):
    failed = [o.student for o in graded.outcomes.values() for f in o.findings if f.kind == "grader-failed"]
    assert failed == []
    assert {o.student for o in graded.outcomes.values() if not o.fingerprint} == set()


def test_the_summary_lists_everybody_who_needs_review(graded, confined):
    there = {name: e for name, e in EXPECTED.items() if confined or not e.attacks}
    wanted = {student for student, expected in there.items() if expected.review}
    assert {remark.student for remark in graded.summary.reviews} == wanted
    assert {review.student for review in graded.result.review} == wanted
    assert (graded.summary.handed_in, graded.summary.need_review) == (len(there), len(wanted))
    text, html = as_text(graded.summary), as_html(graded.summary)
    assert all(student in text and student in html for student in wanted)


def test_the_summary_tells_what_differs_from_the_release(graded):
    told = {(remark.student, remark.message) for remark in graded.summary.tampering}
    assert told == {
        (outcome.student, finding.message)
        for outcome in graded.outcomes.values()
        for finding in outcome.findings
        if finding.stage == "release" and not finding.review
    }


def test_nothing_outside_of_the_sandbox_was_changed(graded):
    assert graded.after == graded.before
    assert any(path.endswith("canary") for path in graded.before)


def test_nobody_reached_the_network(graded):
    assert not graded.connected


def test_no_process_of_the_class_is_left(graded):
    assert graded.left == []


def test_nothing_strange_lies_in_the_course(graded):
    there = set(os.listdir(graded.coursedir.root))
    known = {
        "solutions", "exercises", "submitted", "autograded", "feedback", "gradebook.db", ".coursekit",
        "nbgrader_config.py", "_build",
    }  # fmt: skip
    assert there <= known
    assert not list(Path(graded.coursedir.root).rglob("*.coursekit-part"))


def test_a_graded_folder_holds_no_link_and_no_other_notebook(graded):
    for folder, _, names in os.walk(Path(graded.coursedir.root, "autograded")):
        assert not [name for name in names if Path(folder, name).is_symlink()]
        assert [name for name in names if folded(name).endswith(".ipynb")] in ([], [f"{NAME}.ipynb"])


def test_grading_again_runs_nothing(graded, monkeypatch):
    grader = Grader(parent=None, config=graded.coursedir.config)
    monkeypatch.setattr(Grader, "open_workers", None)
    result = grader.grade(graded.coursedir, NAME)
    assert (result.graded, result.skipped) == (0, len(graded.outcomes))
