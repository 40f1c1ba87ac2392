"""The ledger on a real PostgreSQL server, which this module starts where one is installed."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
import test_grading_ledger as sqlite
from nbgrader.api import Gradebook
from test_grading_ledger import HAND_INS, NAME, enter, grade, release, rows, write

from coursekit.grading.gradebook.ledger import Ledger, LedgerError

pytest.importorskip("psycopg2", reason="PostgreSQL's driver is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Object of type:sqlalchemy.exc.SAWarning")

USER = "grader"

# These run here against this module's gradebooks.
ledger = sqlite.ledger
test_a_comment_holds_no_html_and_nothing_that_a_database_refuses = (
    sqlite.test_a_comment_holds_no_html_and_nothing_that_a_database_refuses
)
test_a_crash_before_the_commit_leaves_the_old_state_whole = (
    sqlite.test_a_crash_before_the_commit_leaves_the_old_state_whole
)
test_a_failed_regrade_takes_the_old_points_back = sqlite.test_a_failed_regrade_takes_the_old_points_back
test_a_hand_in_that_nbgrader_removed_and_added_again_is_not_done = (
    sqlite.test_a_hand_in_that_nbgrader_removed_and_added_again_is_not_done
)
test_a_late_hand_in_loses_what_stock_takes_off = sqlite.test_a_late_hand_in_loses_what_stock_takes_off
test_a_regrade_after_grades_by_hand_gets_the_rows_that_stock_writes = (
    sqlite.test_a_regrade_after_grades_by_hand_gets_the_rows_that_stock_writes
)
test_an_error_half_way_leaves_the_old_state_whole = sqlite.test_an_error_half_way_leaves_the_old_state_whole
test_an_honest_hand_in_gets_the_rows_that_stock_nbgrader_writes = (
    sqlite.test_an_honest_hand_in_gets_the_rows_that_stock_nbgrader_writes
)
test_an_outcome_is_read_back_as_it_stands = sqlite.test_an_outcome_is_read_back_as_it_stands
test_fingerprints_tell_what_was_graded_last = sqlite.test_fingerprints_tell_what_was_graded_last
test_nbgrader_works_beside_our_table = sqlite.test_nbgrader_works_beside_our_table
test_the_gradebook_can_be_read_while_it_is_written = sqlite.test_the_gradebook_can_be_read_while_it_is_written
test_two_ledgers_write_the_same_class = sqlite.test_two_ledgers_write_the_same_class
test_what_nbgrader_removed_is_forgotten_when_the_ledger_opens = (
    sqlite.test_what_nbgrader_removed_is_forgotten_when_the_ledger_opens
)


def binaries() -> Path:
    """The folder of PostgreSQL's programs; skips if there is none."""
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    pytest.skip("PostgreSQL is not installed")


def account() -> str | None:
    """Whom to run the server as: it refuses to run as root."""
    if os.geteuid():
        return None
    import pwd

    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no account postgres")


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server on a socket of its own; gives the URL of a database by name."""
    programs = binaries()
    user = account()
    # a short path that the server's account can enter, unlike pytest's
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, user or getpass.getuser())
    data, log = folder / "data", folder / "log"
    options = {"user": user, "group": user, "extra_groups": []} if user else {}
    start = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    setup = [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(setup, check=True, **start)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": folder,
        "fsync": "off",
        "logging_collector": "on",
        "log_directory": log,
    }
    flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
    process = subprocess.Popen([programs / "postgres", "-D", data, *flags], **start)

    def url(name: str) -> str:
        return f"postgresql+psycopg2://{USER}@/{name}?host={folder}"

    try:
        wait_until_ready(url("postgres"), process)
        yield url
    finally:
        process.send_signal(signal.SIGINT)  # "fast": ends the connections that are left
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_ready(url: str, process: subprocess.Popen, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with suppress(sa.exc.OperationalError):
            run(url, "select 1")
            return
        time.sleep(0.05)
    pytest.fail("PostgreSQL did not start")


def run(url: str, statement: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(sa.text(statement))
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def new_gradebook(server) -> Callable[[], str]:
    """Makes a gradebook in which the assignment is released, and gives its URL."""
    run(server("postgres"), "create database course")
    with Ledger(server("course")):
        enter(server("course"), release())
    numbers = count()

    def new() -> str:
        name = f"course{next(numbers)}"
        run(server("postgres"), f"create database {name} template course")
        return server(name)

    return new


@pytest.fixture
def url(new_gradebook) -> str:
    return new_gradebook()


@pytest.fixture
def stock_url(new_gradebook) -> str:
    return new_gradebook()


def test_the_gradebook_is_postgresql(ledger):
    assert ledger.gradebook.engine.dialect.name == "postgresql"


def test_a_connection_that_the_server_ended_is_made_again(ledger, server, url):
    write(ledger, HAND_INS["failing"])
    others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    run(server("postgres"), f"{others} and datname = '{sa.make_url(url).database}'")
    write(ledger, HAND_INS["full"])
    assert grade(url, "test_add") == (2, None, False)


def test_nbgraders_own_queries_read_what_the_ledger_wrote(ledger, url):
    write(ledger, HAND_INS["partial"])
    with Gradebook(url) as gradebook:
        (found,) = gradebook.submission_dicts(NAME)
        assert (found["code_score"], found["max_score"]) == (5.5, 17)
        (student,) = gradebook.student_dicts()
        assert student["score"] == 5.5
    assert len(rows(url)["grades"]) == 6


def test_a_database_that_does_not_exist_gives_a_clear_error(server):
    with pytest.raises(LedgerError, match='database "nowhere" does not exist'):
        Ledger(server("nowhere"))
