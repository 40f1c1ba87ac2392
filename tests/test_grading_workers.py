"""Workers run jobs side by side, few ahead, and tell a hand-in's fault from their own."""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass

import pytest
from grading_class import COUNTS, Pretender, PretenderRecipe, hand_in, make_course, pretending_grader, source
from grading_notebooks import answered

from coursekit.grading import workers
from coursekit.grading.engine import GradingStopped, plain
from coursekit.grading.execution import executor
from coursekit.grading.progress import Progress
from coursekit.grading.records import Job, Result
from coursekit.grading.workers import DaskWorkers, LocalWorkers, Recipe, WorkersError, lease


@pytest.fixture(autouse=True)
def cold():
    """No executor outlives its test."""
    yield
    workers._shelf.clear()


def job(student: str = "ada", add: str = "right", **options) -> Job:
    cells = plain(answered(source(), {"add": add, "half": "right"}))
    return Job(student, "task", "task", cells, plain(source()), **options)


# ---- This machine


def test_every_job_comes_back_with_its_answer():
    jobs = [job(f"student{number}") for number in range(20)]
    with LocalWorkers(3, PretenderRecipe()) as local:
        answers = list(local.map(iter(jobs)))
    assert sorted(one.student for one, _ in answers) == sorted(one.student for one in jobs)
    assert all(answer.student == one.student for one, answer in answers)


def test_jobs_are_asked_for_a_few_at_a_time():
    asked = []

    def jobs():
        for number in range(30):
            asked.append(number)
            yield job(f"student{number}")

    with LocalWorkers(2, PretenderRecipe()) as local:
        for seen, _ in enumerate(local.map(jobs())):
            assert len(asked) - seen <= 4


def test_as_many_jobs_run_side_by_side_as_there_are_workers():
    meeting = threading.Barrier(3, timeout=20)

    class Meeting(Pretender):
        def run(self, job):
            meeting.wait()
            return super().run(job)

    with LocalWorkers(3, Meeting) as local:
        assert len(list(local.map(job(name) for name in "abc"))) == 3


def test_an_exception_comes_back_as_the_answer():
    with LocalWorkers(1, PretenderRecipe()) as local:
        ((_, answer),) = local.map([job(add="raise")])
    assert isinstance(answer, RuntimeError)


def test_no_worker_at_all_is_an_error():
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        LocalWorkers(0, PretenderRecipe())


class Mortal(Pretender):
    """The first one dies of its first job, and answers nothing from then on."""

    made: list[Mortal] = []

    def __init__(self):
        self.made.append(self)

    def run(self, job: Job) -> Result:
        return executor.failed(job, "it is gone") if self is self.made[0] else super().run(job)


def test_an_executor_that_died_is_replaced_and_the_job_runs_again():
    with LocalWorkers(1, Mortal) as local:
        ((_, answer),) = local.map([job()])
    assert (answer.findings, len(Mortal.made), Mortal.made[0].closed) == ((), 2, True)


def test_an_executor_that_failed_with_one_job_only_is_kept():
    class Picky(Pretender):
        def run(self, job):
            return executor.failed(job, "too long") if job.student == "ada" else super().run(job)

    with LocalWorkers(1, Picky) as local:
        first = local._executor._executor
        ((_, answer),) = local.map([job()])
        assert local._executor._executor is first
    assert [finding.kind for finding in answer.findings] == ["grader-failed"]


@pytest.mark.parametrize("way", ["says so", "raises"])
def test_a_machine_on_which_nothing_runs_stops_the_class(way):
    class Broken(Pretender):
        def run(self, job):
            if way == "raises":
                raise AttributeError("no such thing")
            return executor.failed(job, "no such thing")

    with LocalWorkers(1, Broken) as local:
        with pytest.raises(WorkersError, match="no notebook can be run on this machine: .*no such thing"):
            list(local.map([job()]))


def test_a_real_executor_whose_processes_were_killed_is_replaced():
    with lease(Recipe()) as executor:
        first = executor._executor
        first._process.kill()
        first._process.wait()
        result = executor.run(job())
    assert executor._executor is not first
    assert not [finding for finding in result.findings if finding.kind == "grader-failed"]


def test_an_executor_stays_warm_for_the_next_grader():
    with lease(PretenderRecipe()) as first, lease(PretenderRecipe()) as second:
        assert first is second
    with lease(PretenderRecipe()) as third:
        assert third is first
    with lease(PretenderRecipe(("numpy",))) as other:
        assert other is not first


def test_an_executor_is_closed_when_nobody_has_used_it_for_a_while(monkeypatch):
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.05)
    closed = threading.Event()

    class Closing(Pretender):
        def __exit__(self, *exception):
            closed.set()

    with lease(Closing):
        assert not closed.wait(0.2)
    assert closed.wait(20)


def test_after_ctrl_c_an_executor_is_closed_at_once():
    with pytest.raises(KeyboardInterrupt), lease(PretenderRecipe()) as executor:
        raise KeyboardInterrupt
    assert executor._executor.closed


# ---- A cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two worker processes of one notebook each; what they run is counted in a file."""
    distributed = pytest.importorskip("distributed")
    import dask

    counts = tmp_path_factory.mktemp("cluster") / "runs.txt"
    os.environ[COUNTS] = str(counts)
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            resources={"process": 1},
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster
    del os.environ[COUNTS]


def test_a_class_is_graded_on_the_workers_of_a_scheduler(cluster, tmp_path):
    course = make_course(tmp_path)
    for number in range(6):
        hand_in(tmp_path, f"student{number}", half="wrong" if number == 3 else "right")
    result = pretending_grader(scheduler=cluster.scheduler_address).grade(course, "task")
    assert (result.graded, result.review, result.failed) == (6, [], {})
    with pretending_grader().open_ledger(course) as ledger:
        assert [outcome.points for outcome in ledger.outcomes("task")] == [5, 5, 5, 2, 5, 5]


def test_a_hand_in_that_kills_its_workers_is_its_own_fault_alone(cluster):
    jobs = [job(f"student{number}") for number in range(4)]
    jobs.insert(1, job("killer", add="kill the worker"))
    with DaskWorkers(cluster.scheduler_address, PretenderRecipe()) as dask_workers:
        answers = {one.student: answer for one, answer in dask_workers.map(jobs)}
    assert type(answers.pop("killer")).__name__ == "KilledWorker"
    assert len(answers) == 4
    assert all(isinstance(answer, Result) for answer in answers.values())


def test_an_exception_on_a_worker_comes_back_as_the_answer(cluster):
    with DaskWorkers(cluster.scheduler_address, PretenderRecipe()) as dask_workers:
        ((_, answer),) = dask_workers.map([job(add="raise")])
    assert "the disk is on fire" in str(answer)


def test_what_no_worker_offers_is_named_after_a_while(cluster):
    with DaskWorkers(cluster.scheduler_address, PretenderRecipe(), patience=0.5) as dask_workers:
        with pytest.raises(
            WorkersError, match="no worker of .* offers GPU; start some with .*--resources GPU=1"
        ):
            list(dask_workers.map([job(gpu=True)]))


def test_workers_of_another_version_stop_the_class(cluster, monkeypatch):
    monkeypatch.setattr(workers, "code_version", lambda: "0.0.1+abc")
    with DaskWorkers(cluster.scheduler_address, PretenderRecipe()) as dask_workers:
        with pytest.raises(WorkersError, match="a worker has coursekit .*, the grader has 0.0.1.abc"):
            list(dask_workers.map([job()]))


@dataclass(frozen=True)
class Missing:
    """A recipe that no worker can follow."""

    def __call__(self):
        raise ImportError("No module named 'nbgrader'")


def test_workers_that_cannot_load_the_grader_stop_the_class(cluster):
    with DaskWorkers(cluster.scheduler_address, Missing()) as dask_workers:
        with pytest.raises(WorkersError, match="cannot load the grader .*install coursekit"):
            list(dask_workers.map([job()]))


def test_ctrl_c_leaves_the_cluster_ready_for_the_next_run(cluster, tmp_path, monkeypatch):
    course = make_course(tmp_path)
    for number in range(4):
        hand_in(tmp_path, f"student{number}")
    grader = pretending_grader(scheduler=cluster.scheduler_address)

    def interrupt(self, job, answer):
        raise KeyboardInterrupt

    monkeypatch.setattr("coursekit.grading.engine._Class._take", interrupt)
    with pytest.raises(GradingStopped):
        grader.grade(course, "task")
    monkeypatch.undo()
    assert grader.grade(course, "task").graded == 4


def test_a_scheduler_that_does_not_answer_is_an_error():
    with pytest.raises(WorkersError, match="no dask scheduler answers at 'tcp://127.0.0.1:9'"):
        with DaskWorkers("tcp://127.0.0.1:9", PretenderRecipe(), connect_seconds=0.5):
            pass


# ---- Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_live_line():
    stream = Terminal()
    with Progress(2, stream) as progress:
        progress.step(review=True)
        progress.step(review=False)
    assert "2/2" in stream.getvalue()
    assert "needs review=1" in stream.getvalue()


def test_elsewhere_a_plain_line_comes_every_few_seconds():
    times = iter([0.0, 1.0, 6.0, 6.0, 7.0])
    stream = io.StringIO()
    with Progress(6, stream, clock=lambda: next(times)) as progress:
        for _ in range(2):
            progress.step(review=False)
        progress.skip()
        progress.step(review=True)
    assert stream.getvalue() == "2 of 6 hand-ins done, 0 need review, 0.33 a second, 0:12 left\n"


def test_an_encrypted_scheduler_without_certificates_is_an_error():
    pytest.importorskip("distributed")
    with pytest.raises(WorkersError, match="tls://127.0.0.1:9 asks for certificates"):
        with DaskWorkers("tls://127.0.0.1:9", PretenderRecipe(), connect_seconds=0.5):
            pass
