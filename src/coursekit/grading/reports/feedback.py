"""The page that a student gets back: points, reports of the checks, comments, and the notebook itself.

`configure_feedback` puts it behind nbgrader's own `generate_feedback`.  Points and comments come from the
gradebook alone: whatever the notebook says of itself was in the student's hands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from nbconvert.exporters import Exporter
from nbgrader.api import MissingEntry
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme
from traitlets import List, TraitError, Unicode, default, validate

from coursekit.checks.engine.report import MIME as SCORE_MIME
from coursekit.grading.autograded import NOTE
from coursekit.grading.gradebook.ledger import GRADED, Ledger
from coursekit.grading.records import Finding
from coursekit.grading.reports import hidden, safe
from coursekit.grading.reports.page import counted, render

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from traitlets.config import Config


__all__ = ["FeedbackExporter", "configure_feedback"]

OUTPUTS = 60  # of one cell
WITHHELD = "An output is not shown: it quotes a part of the assignment that is not released."
TOO_LONG = "The page ends here: the rest of the notebook is too long to show."


def configure_feedback(c: Config) -> None:
    """Let `nbgrader generate_feedback` and the formgrader's button make these pages."""
    # A page that exists would be skipped, and points given by hand since would never reach the student.
    c.GenerateFeedback.force = True
    c.GenerateFeedback.exporter_class = f"{FeedbackExporter.__module__}.{FeedbackExporter.__name__}"
    c.GenerateFeedback.preprocessors = []


class FeedbackExporter(Exporter):
    """An autograded notebook as a page that is safe to open."""

    book_url = Unicode("", help="Where the course's book is published; reports link to it.").tag(config=True)
    preprocessors = List([], help="Not used: the page is made from the notebook as it was graded.")

    @default("file_extension")
    def _file_extension_default(self) -> str:
        return ".html"

    @default("default_preprocessors")
    def _default_preprocessors_default(self) -> list:
        return []

    @validate("book_url")
    def _valid_book_url(self, proposal: dict[str, Any]) -> str:
        if proposal["value"] and not re.fullmatch(r"https?://[^\s\"'<>]+", proposal["value"]):
            raise TraitError(f"book_url: {proposal['value']!r} is no web address; https://... or nothing")
        return proposal["value"]

    def from_notebook_node(
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """The page, and resources as nbgrader's writer wants them; never fails for what a cell holds."""
        resources = self._init_resources(resources)
        who = {key: resources["nbgrader"][key] for key in ("student", "assignment", "notebook")}
        grades = read_grades(resources["nbgrader"]["db_url"], **who)
        page = Page(nb, grades, self._regions(), self.book_url)
        return render("feedback/page.html", **who, grades=grades, page=page), resources

    def _regions(self) -> hidden.Regions:
        """The delimiters of what is not released, as nbgrader is configured."""
        tests, scheme = ClearHiddenTests(parent=self), ClearMarkScheme(parent=self)
        return [
            (tests.begin_test_delimeter, tests.end_test_delimeter),
            (scheme.begin_mark_scheme_delimeter, scheme.end_mark_scheme_delimeter),
        ]


# ---------------------------------------------------------------------------------------------------
# What the gradebook says


@dataclass(frozen=True)
class Grade:
    """Points of one graded cell.   waits: whether a person has still to give them."""

    cell: str
    points: float
    maximum: float
    waits: bool
    extra: float = 0.0

    @property
    def state(self) -> str:
        if self.waits:
            return "waiting"
        if self.maximum and self.points >= self.maximum:
            return "full"
        return "some" if self.points > 0 else "none"


@dataclass(frozen=True)
class Grades:
    """All that the gradebook holds for one notebook of one student.

    findings: what the grader noticed.   graded: whether it has no doubt about any of the points.
    """

    by_cell: Mapping[str, Grade] = field(default_factory=dict)
    comments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    penalty: float = 0.0
    findings: tuple[Finding, ...] = ()
    graded: bool = True

    @property
    def points(self) -> float:
        earned = sum(grade.points + grade.extra for grade in self.by_cell.values())
        return max(0.0, earned - self.penalty)

    @property
    def maximum(self) -> float:
        return sum(grade.maximum for grade in self.by_cell.values())

    @property
    def waiting(self) -> float:
        return sum(grade.maximum - grade.points for grade in self.by_cell.values() if grade.waits)


def read_grades(db_url: str, student: str, assignment: str, notebook: str) -> Grades:
    """Points, comments and penalty from the gradebook; nothing where it does not know the hand-in."""
    with Ledger(db_url) as ledger:
        outcome = ledger.outcome(student, assignment, notebook)
        grades = ledger.read(
            lambda _: _graded(ledger.gradebook.find_submission_notebook, notebook, assignment, student)
        )
    if outcome is None:  # graded by nbgrader alone
        return grades
    doubts = [
        Finding("score", score.review, True, score.cell, "score") for score in outcome.scores if score.review
    ]
    return replace(grades, findings=(*outcome.findings, *doubts), graded=outcome.status == GRADED)


def _graded(find: Callable[..., Any], *names: str) -> Grades:
    try:
        found = find(*names)
    except MissingEntry:
        return Grades()
    return Grades(
        by_cell={grade.cell.name: _grade(grade) for grade in found.grades},
        comments={comment.cell.name: _comments(comment) for comment in found.comments},
        penalty=found.late_submission_penalty or 0.0,
    )


def _grade(grade: Any) -> Grade:
    return Grade(
        cell=grade.cell.name,
        points=(grade.auto_score or 0.0) if grade.manual_score is None else grade.manual_score,
        maximum=grade.max_score or 0.0,
        waits=bool(grade.needs_manual_grade),
        extra=grade.extra_credit or 0.0,
    )


def _comments(comment: Any) -> list[str]:
    return [text for text in (comment.manual_comment, comment.auto_comment) if text and text.strip()]


# ---------------------------------------------------------------------------------------------------
# What the page shows


@dataclass(frozen=True)
class Output:
    """One thing below a cell.   kind: report, text, table, image, error, note."""

    kind: str
    body: Any
    more: str = ""


@dataclass(frozen=True)
class HiddenTests:
    """What may be said of the hidden tests in a cell."""

    lines: int
    result: str
    hint: str | None = None

    @property
    def sentence(self) -> str:
        return f"plus hidden tests ({counted(self.lines, 'line')}): {self.result}"


@dataclass(frozen=True)
class Cell:
    """A cell as the page shows it."""

    kind: str
    body: Markup
    outputs: Sequence[Output] = ()
    grade: Grade | None = None
    title: str = ""
    comments: Sequence[Markup] = ()
    hidden: HiddenTests | None = None
    notes: Sequence[Finding] = ()


@dataclass(frozen=True)
class Row:
    """A line of the table: a graded cell by the heading above it, and by its own name."""

    grade: Grade
    title: str
    name: str
    shown: bool
    doubted: bool


class Page:
    """The notebook for the template: `cells` in order, `rows` of the table, `findings` about the whole."""

    def __init__(
        self, notebook: NotebookNode, grades: Grades, regions: hidden.Regions, book_url: str = ""
    ) -> None:
        self.grades, self.book_url = grades, book_url
        self.language = _language(notebook)
        self.budget = safe.Budget()
        self.titles: dict[str, str] = {}
        # The findings stand at the top of the page already.
        cells = [cell for cell in notebook.cells if cell.get("id") != NOTE or not grades.findings]
        splits = [hidden.split(_source(cell), regions) for cell in cells]
        secret = [line for part in splits for line in part.hidden.values()]
        self.secrets = hidden.Secrets(secret, [part.released for part in splits])
        self.cells = list(self._cells(cells, splits))
        self.rows = self._rows()
        self.findings = [finding for finding in grades.findings if finding.cell is None]

    def _rows(self) -> list[Row]:
        """Graded cells in the order of the notebook, then those that it lacks."""
        shown = [cell.grade.cell for cell in self.cells if cell.grade]
        doubted = {finding.cell for finding in self.grades.findings if finding.review}
        order = [*self.titles, *(name for name in self.grades.by_cell if name not in self.titles)]
        return [
            Row(
                self.grades.by_cell[name],
                self.titles.get(name) or "",
                readable(name),
                name in shown,
                name in doubted,
            )
            for name in order
        ]

    def _cells(self, cells: Sequence[NotebookNode], splits: Sequence[hidden.Split]) -> Iterator[Cell]:
        heading, ended, seen = "", False, set()
        for cell, part in zip(cells, splits, strict=True):
            name, title = _grade_id(cell), ""
            if cell.cell_type == "markdown":
                start = part.released[: safe.TEXT]
                heading, title = _heading(start) or heading, _opening(start)
            if name in seen:  # a copy of a graded cell is only a cell
                name = None
            elif name is not None:
                seen.add(name)
            if name in self.grades.by_cell:
                self.titles[name] = title or heading
            if self.budget.text > 0:
                yield self._marked(self._safely(cell, part, name), name)
            elif not ended or name in self.grades.by_cell or name in self.grades.comments:
                yield self._marked(Cell("note", Markup.escape("Not shown." if ended else TOO_LONG)), name)
                ended = True

    def _safely(self, cell: NotebookNode, part: hidden.Split, name: str | None) -> Cell:
        try:
            return self._shown(cell, part, name)
        except Exception as error:  # one odd cell must not cost the page
            return Cell("note", Markup.escape(f"This cell cannot be shown ({type(error).__name__})."))

    def _marked(self, cell: Cell, name: str | None) -> Cell:
        """The cell with what the gradebook says of it."""
        if name is None:
            return cell
        return replace(
            cell,
            grade=self.grades.by_cell.get(name),
            title=readable(name),
            comments=[safe.markdown(text[: safe.TEXT]) for text in self.grades.comments.get(name, ())],
            notes=[
                finding
                for finding in self.grades.findings
                # A doubt about points quotes the value that the test gave.
                if finding.cell == name and not (cell.hidden and finding.stage == "score")
            ],
        )

    def _shown(self, cell: NotebookNode, part: hidden.Split, name: str | None) -> Cell:
        if cell.cell_type == "markdown":
            text = self.budget.cut(part.released)
            return Cell("prose", safe.markdown(text, cell.get("attachments")))
        if cell.cell_type != "code":
            return Cell("raw", Markup.escape(safe.visible(self.budget.cut(part.released))))
        code = safe.highlight(self.budget.cut(part.released, safe.SOURCE), self.language)
        outputs = [output for output in cell.get("outputs", []) if isinstance(output, Mapping)]
        if not part.hidden:
            return Cell("code", code, list(self._outputs(outputs)))
        tests = _hidden_tests(outputs, _source(cell), part, self.grades.by_cell.get(name))
        return Cell("code", code, list(_visible_failure(outputs, _source(cell), part)), hidden=tests)

    # ---- Outputs of cells in which nothing is hidden

    def _outputs(self, outputs: Sequence[Mapping[str, Any]]) -> Iterator[Output]:
        scored = [output for output in outputs if SCORE_MIME in (output.get("data") or {})]
        streams = list(_merged(outputs))
        for output in streams[:OUTPUTS]:
            yield from self._output(output, scored)
        if len(streams) > OUTPUTS:
            rest = counted(len(streams) - OUTPUTS, "further output is", "further outputs are")
            yield Output("note", f"{rest} not shown.")

    def _output(self, output: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> Iterator[Output]:
        kind = output.get("output_type")
        if kind == "stream":
            yield from self._text(safe.joined(output.get("text", "")), _check_names(scored))
        elif kind == "error":
            yield self._error(output)
        elif isinstance(output.get("data"), Mapping) and output not in scored:
            yield from self._data(output["data"])

    def _text(self, text: str, checks: Sequence[str] = ()) -> Iterator[Output]:
        text = safe.terminal(self.budget.cut(text)).strip("\n")
        if self.secrets.in_text(text):
            yield Output("note", WITHHELD)
        elif any(text.startswith(f"{name}: ") for name in checks):
            yield Output("report", list(self._report(text)))
        elif text.strip():
            yield Output("text", text)

    def _error(self, output: Mapping[str, Any]) -> Output:
        name, value = (safe.joined(output.get(key, "")) for key in ("ename", "evalue"))
        message = safe.terminal(self.budget.cut(f"{name}: {value}" if value else name, 2000))
        lines = output.get("traceback") or []
        trace = safe.terminal(self.budget.cut("\n".join(map(safe.joined, lines)), 6000))
        if self.secrets.in_text(message + trace):
            return Output("error", hidden.error_name(name), "")
        return Output("error", message, trace)

    def _data(self, data: Mapping[str, Any]) -> Iterator[Output]:
        """The first form that the page can show; what a browser would run is none of them."""
        for show in (self._image, self._drawing, self._table, self._prose):
            found = show(data)
            if found is not None:
                yield found
                return
        if "text/plain" in data:
            yield from self._text(safe.joined(data["text/plain"]))

    def _image(self, data: Mapping[str, Any]) -> Output | None:
        kinds = ("image/png", "image/jpeg", "image/gif")
        encoded = next((safe.joined(data[kind]) for kind in kinds if kind in data), None)
        if encoded is None or not self.budget.admits_image(encoded):
            return None if encoded is None else Output("note", "An image is too large to show.")
        address = safe.image(encoded)
        return Output("image", address) if address else Output("note", "An image cannot be shown.")

    def _drawing(self, data: Mapping[str, Any]) -> Output | None:
        text = safe.joined(data.get("image/svg+xml", ""))
        address = safe.svg(text) if text and self.budget.admits_image(text) else None
        return Output("image", address) if address and not self.secrets.in_text(text) else None

    def _table(self, data: Mapping[str, Any]) -> Output | None:
        text = safe.joined(data.get("text/html", ""))
        if not text or len(text) > min(10 * safe.TEXT, self.budget.text):
            return None
        cleaned = safe.html(text)
        if cleaned is None or not (cleaned.striptags() or "<img" in cleaned) or self.secrets.in_text(text):
            return None
        self.budget.text -= len(cleaned)
        return Output("table", cleaned)

    def _prose(self, data: Mapping[str, Any]) -> Output | None:
        text = safe.joined(data.get("text/markdown") or data.get("text/latex") or "")
        if not text or self.secrets.in_text(text):
            return None
        return Output("table", safe.markdown(self.budget.cut(text)))

    def _report(self, text: str) -> Iterator[tuple[str, str, str]]:
        """A check's report by items: kind, text, address of the book's page if there is one."""
        for item in _items(text):
            place = re.fullmatch(r"Read ([\w/-]+\.html(?:#[\w:-]+)?)", item)
            if place and self.book_url:
                yield "read", item, f"{self.book_url.rstrip('/')}/{place[1]}"
            else:
                yield _item_kind(item), item.removeprefix("> "), ""


def _items(report: str) -> Iterator[str]:
    """A report's lines with wrapped ones joined again: a screen wraps where it needs to."""
    item = ""
    for line in report.split("\n"):
        opens = re.match(r" {0,2}\S| {4}Read | {4}in [^:]+: ", line)
        if opens and item:
            yield item
            item = ""
        item = f"{item} {line.strip()}".strip()
    if item:
        yield item


def _item_kind(item: str) -> str:
    starts = {"wrong:": "wrong", "> ": "hint", "right:": "right", "also wrong:": "wrong", "Read ": "read"}
    return next((kind for start, kind in starts.items() if item.startswith(start)), "plain")


def _check_names(scored: Iterable[Mapping[str, Any]]) -> list[str]:
    records = [output["data"][SCORE_MIME] for output in scored]
    return [str(record.get("check")) for record in records if isinstance(record, Mapping)]


def _merged(outputs: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Outputs with neighbouring pieces of one stream joined, as they were printed."""
    name, pieces = None, []
    for output in outputs:
        if pieces and (output.get("output_type") != "stream" or output.get("name") != name):
            yield {"output_type": "stream", "name": name, "text": "".join(pieces)}
            pieces = []
        if output.get("output_type") == "stream":
            name = output.get("name")
            pieces.append(safe.joined(output.get("text", "")))
        else:
            yield output
    if pieces:
        yield {"output_type": "stream", "name": name, "text": "".join(pieces)}


# ---- Cells with hidden tests: nothing that was printed or raised there is shown as it is, since the
# student's function was given the hidden values and may have printed or raised them.


def _hidden_tests(
    outputs: Sequence[Mapping[str, Any]], source: str, part: hidden.Split, grade: Grade | None
) -> HiddenTests:
    lines = sum(bool(line.strip()) for line in part.hidden.values())
    error = _first_error(outputs)
    if error is None:
        return HiddenTests(lines, _result_without_error(grade))
    if _fails_visibly(error, source, part):
        return HiddenTests(lines, "not reached")
    return HiddenTests(lines, f"failed ({hidden.error_name(_ename(error))})", _hint(error, source))


def _visible_failure(
    outputs: Sequence[Mapping[str, Any]], source: str, part: hidden.Split
) -> Iterator[Output]:
    error = _first_error(outputs)
    if error is not None and _fails_visibly(error, source, part):
        line = source.split("\n")[hidden.failing_line(_traceback(error), source) - 1].strip()
        message = _hint(error, source)
        yield Output("error", ": ".join(filter(None, [hidden.error_name(_ename(error)), message])), line)


def _fails_visibly(error: Mapping[str, Any], source: str, part: hidden.Split) -> bool:
    line = hidden.failing_line(_traceback(error), source)
    return line is not None and line not in part.hidden


def _result_without_error(grade: Grade | None) -> str:
    if grade is None or grade.waits:
        return "not decided"
    return {"full": "passed", "some": "passed in part"}.get(grade.state, "failed")


def _first_error(outputs: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    return next((output for output in outputs if output.get("output_type") == "error"), None)


def _ename(error: Mapping[str, Any]) -> str:
    return safe.joined(error.get("ename", ""))


def _hint(error: Mapping[str, Any], source: str) -> str | None:
    return hidden.hint(safe.joined(error.get("evalue", ""))[: safe.TEXT], source)


def _traceback(error: Mapping[str, Any]) -> str:
    text = "\n".join(map(safe.joined, error.get("traceback") or []))
    return safe.terminal(text[: 10 * safe.TEXT])


# ---- Names


def readable(grade_id: str) -> str:
    """A grade id as a person reads it: `test-conv2d-forward` is `conv2d forward`."""
    words = re.sub(r"[-_]+", " ", grade_id).strip()
    return re.sub(r"^(test|check|cell) (?=.)", "", words)


def _heading(text: str) -> str:
    """The last heading of a text."""
    headings = re.findall(r"^#{1,6}\s+(.+?)[\s#]*$", text, flags=re.MULTILINE)
    return _plain(headings[-1]) if headings else ""


def _opening(text: str) -> str:
    """The bold words that a text opens with."""
    found = re.match(r"\s*\*\*([^*\n]{1,120})\*\*", text)
    return _plain(found[1]) if found else ""


def _plain(words: str) -> str:
    return safe.visible(re.sub(r"[*`]", "", words))[:120].strip(" .")


def _grade_id(cell: NotebookNode) -> str | None:
    marks = cell.metadata.get("nbgrader")
    name = marks.get("grade_id") if isinstance(marks, Mapping) else None
    return name if isinstance(name, str) else None


def _source(cell: NotebookNode) -> str:
    return safe.joined(cell.get("source", ""))


def _language(notebook: NotebookNode) -> str:
    info = notebook.metadata.get("language_info")
    return str(info.get("name")) if isinstance(info, Mapping) else "python"
