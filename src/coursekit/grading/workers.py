"""Where notebooks run: in processes of this machine, or on the workers of a dask.distributed scheduler."""

from __future__ import annotations

import atexit
import concurrent.futures
import hashlib
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from coursekit.grading.execution import executor as forking
from coursekit.grading.records import Job, Limits, Result

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskWorkers", "Executor", "LocalWorkers", "Recipe", "WorkersError", "code_version", "lease"]

log = logging.getLogger(__name__)

IDLE_SECONDS = 60.0  # an executor that nobody uses keeps its memory for so long
POLL_SECONDS = 1.0  # between looks at the workers; Ctrl-C is heard at least so often
KILLED_LIMIT = 100  # hand-ins: where more kill their workers, the workers are to blame

Answer = Result | Exception

_CELL = {
    "cell_type": "code",
    "id": "probe",
    "metadata": {},
    "source": "1",
    "outputs": [],
    "execution_count": None,
}
_NOTHING = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [_CELL]}
# A job that every executor can do that works.
PROBE = Job("", "", "", _NOTHING, _NOTHING, limits=Limits(cell_seconds=60.0, notebook_seconds=60.0))


class WorkersError(RuntimeError):
    """No hand-in can be graded, by no fault of its own: workers are missing, gone or of another version."""


class Executor(Protocol):
    """What runs one notebook; see execution.executor.Executor."""

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...

    def run(self, job: Job) -> Result:
        """Run a job; may be called from several threads at once."""


@dataclass(frozen=True)
class Recipe:
    """How an executor is made, on whatever machine; equal recipes share one.

    modules: what it imports before the first job.   image: of the containers for student code, if any.
    """

    modules: tuple[str, ...] = ()
    image: str = ""

    def __call__(self) -> Executor:
        return forking.Executor(self.modules, self.image)


# ---------------------------------------------------------------------------------------------------
# Warm executors


class Steady:
    """An executor that is replaced when it does not work any more, because its own processes died or hang."""

    def __init__(self, make_executor: Callable[[], Executor]) -> None:
        self._make = make_executor
        self._lock = threading.Lock()
        self._closed = False
        self._executor = make_executor().__enter__()

    def run(self, job: Job) -> Result:
        """Run a job; where the executor failed, and not by the job's fault, once more in a new one.

        Raises WorkersError if a new one does not work either.
        """
        executor = self._executor
        answer = _attempt(executor, job)
        if _failure(answer) and not self._closed and _failure(_attempt(executor, PROBE)):
            answer = _attempt(self._replace(executor), job)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _replace(self, broken: Executor) -> Executor:
        with self._lock:
            if self._executor is broken and not self._closed:
                log.warning("the grader's own processes do not work any more; starting new ones")
                broken.__exit__(None, None, None)
                self._executor = self._make().__enter__()
                if reason := _failure(_attempt(self._executor, PROBE)):
                    raise WorkersError(f"no notebook can be run on this machine: {reason}")
            return self._executor

    def close(self) -> None:
        """End its processes; jobs that still run come back as failed."""
        self._closed = True
        with self._lock:
            self._executor.__exit__(None, None, None)


def _attempt(executor: Executor, job: Job) -> Answer:
    try:
        return executor.run(job)
    except Exception as error:
        return error


def _failure(answer: Answer) -> str | None:
    """Why the executor itself failed; None if it did not."""
    if isinstance(answer, Exception):
        return f"{type(answer).__name__}: {answer}"
    found = getattr(answer, "findings", ())
    return next((finding.message for finding in found if finding.kind == "grader-failed"), None)


class _Shelf:
    """The executors of this process by recipe, each closed a while after its last user has left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executors: dict[Callable, Steady] = {}
        self._users: dict[Callable, int] = {}
        self._timers: dict[Callable, threading.Timer] = {}

    def take(self, make_executor: Callable[[], Executor]) -> Steady:
        with self._lock:
            if timer := self._timers.pop(make_executor, None):
                timer.cancel()
            if make_executor not in self._executors:
                self._executors[make_executor] = Steady(make_executor)
            self._users[make_executor] = self._users.get(make_executor, 0) + 1
            return self._executors[make_executor]

    def put_back(self, make_executor: Callable[[], Executor], keep: bool) -> None:
        with self._lock:
            self._users[make_executor] -= 1
            if self._users[make_executor]:
                return
            if keep:
                timer = threading.Timer(IDLE_SECONDS, self._close, [make_executor])
                self._timers[make_executor], timer.daemon = timer, True
                timer.start()
                return
        self._close(make_executor)

    def _close(self, make_executor: Callable[[], Executor]) -> None:
        with self._lock:
            if self._users.get(make_executor) or make_executor not in self._executors:
                return
            self._timers.pop(make_executor, None)
            executor = self._executors.pop(make_executor)
        executor.close()

    def clear(self) -> None:
        for make_executor in list(self._executors):
            self._users.pop(make_executor, None)
            self._close(make_executor)


_shelf = _Shelf()
atexit.register(_shelf.clear)


@contextmanager
def lease(make_executor: Callable[[], Executor]) -> Iterator[Steady]:
    """A warm executor, shared in this process by all who ask with an equal recipe.

    It stays warm for a minute, so that the formgrader's next click need not wait for imports; after an
    error, Ctrl-C among them, it is closed at once.
    """
    executor = _shelf.take(make_executor)
    try:
        yield executor
    except BaseException:
        _shelf.put_back(make_executor, keep=False)
        raise
    _shelf.put_back(make_executor, keep=True)


# ---------------------------------------------------------------------------------------------------
# This machine


class LocalWorkers:
    """Threads that each run one notebook at a time in one warm executor; a context manager.

    count: notebooks that run side by side.   make_executor: hashable, see Recipe.
    """

    def __init__(self, count: int, make_executor: Callable[[], Executor]) -> None:
        if count < 1:
            raise ValueError(f"workers must be at least 1, not {count}")
        self._count, self._lease = count, lease(make_executor)

    def __enter__(self) -> LocalWorkers:
        self._executor = self._lease.__enter__()
        self._threads = concurrent.futures.ThreadPoolExecutor(self._count, thread_name_prefix="grader")
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._lease.__exit__(kind, error, traceback)  # after an error it ends what the threads wait for
        self._threads.shutdown()

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """Run jobs and yield each with what became of it, as they finish; asks for few jobs ahead."""
        running: dict[concurrent.futures.Future, Job] = {}
        jobs = iter(jobs)
        while _fill(running, jobs, 2 * self._count, self._submit):
            for future in _finished(running):
                yield running.pop(future), _local_answer(future)

    def _submit(self, job: Job) -> concurrent.futures.Future:
        return self._threads.submit(self._executor.run, job)


def _fill(running: dict, jobs: Iterator[Job], limit: int, submit: Callable) -> bool:
    """Submit jobs up to a limit; whether any is running."""
    while len(running) < limit and (job := next(jobs, None)) is not None:
        running[submit(job)] = job
    return bool(running)


def _local_answer(future: concurrent.futures.Future) -> Answer:
    error = future.exception()
    if isinstance(error, WorkersError):
        raise error
    return error or future.result()


def _finished(running: dict) -> set[concurrent.futures.Future]:
    return concurrent.futures.wait(running, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED).done


# ---------------------------------------------------------------------------------------------------
# A cluster


class DaskWorkers:
    """The workers of a dask.distributed scheduler; a context manager.

    A worker offers the resource `process` (how many notebooks it runs at once), or `GPU` for assignments
    that want one: `dask worker ADDRESS --nthreads 1 --resources process=1`.  Nothing is shared with the
    workers but the environment: a job goes there as plain values, and its result comes back so.

    address: `tcp://host:8786`, or a scheduler file.   patience: seconds to wait for a worker that offers
    what a job needs.   connect_seconds: for the scheduler to answer.
    """

    def __init__(
        self,
        address: str,
        make_executor: Callable[[], Executor],
        *,
        patience: float = 300.0,
        connect_seconds: float = 20.0,
    ) -> None:
        self._address, self._make_executor = address, make_executor
        self._patience, self._connect_seconds = patience, connect_seconds
        self._offers: dict[str, float] = {}
        self._looked = self._warned = 0.0
        self._missing_since: float | None = None

    def __enter__(self) -> DaskWorkers:
        self._client = _connect(self._address, self._connect_seconds)
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()  # which cancels what nobody waits for any more

    def map(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Answer]]:
        """As LocalWorkers.map.

        A job whose worker dies runs on another.  One that was there whenever workers died comes last and
        alone, which tells whether it kills them.  Raises WorkersError if no worker can do the jobs.
        """
        killed: list[Job] = []
        for job, answer in self._stream(iter(jobs), self._room):
            if not _is_killed(answer):
                yield job, answer
                continue
            killed.append(job)
            if len(killed) > KILLED_LIMIT:
                raise WorkersError(f"the workers of {self._address} keep dying: {answer}")
        yield from self._stream(iter(killed), lambda: 1)

    def _stream(self, jobs: Iterator[Job], room: Callable[[], int]) -> Iterator[tuple[Job, Answer]]:
        running: dict[concurrent.futures.Future, Job] = {}
        while _fill(running, jobs, room(), self._submit):
            done = _finished(running)
            if not done:
                self._look_for_workers({_resource(job) for job in running.values()})
            for future in done:
                yield running.pop(future), self._answer(future)

    def _submit(self, job: Job) -> concurrent.futures.Future:
        # A node without space or memory fails at once; another may do.
        pool = self._client.get_executor(resources={_resource(job): 1}, retries=2, pure=False)
        return pool.submit(_work, self._make_executor, code_version(), job)

    def _answer(self, future: concurrent.futures.Future) -> Answer:
        try:
            return future.result()
        except (concurrent.futures.CancelledError, OSError) as error:
            raise WorkersError(f"lost the scheduler at {self._address} ({error or 'cancelled'})") from error
        except ImportError as error:
            raise WorkersError(
                f"a worker of {self._address} cannot load the grader ({error}); "
                "install coursekit[grading,cluster] in its environment"
            ) from error
        except WorkersError:
            raise
        except Exception as error:
            return error

    def _room(self) -> int:
        """Jobs to have submitted: enough for a cluster that grows with its work to see that there is some."""
        self._look()
        return max(32, 2 * int(sum(self._offers.values())))

    def _look(self) -> None:
        if time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            workers = self._client.scheduler_info()["workers"].values()
        except OSError as error:
            raise WorkersError(f"lost the scheduler at {self._address} ({error})") from error
        self._offers = {}
        for worker in workers:
            for name, amount in worker["resources"].items():
                self._offers[name] = self._offers.get(name, 0.0) + amount

    def _look_for_workers(self, wanted: set[str]) -> None:
        """Say what is missing where jobs wait for a resource that no worker offers; give up in the end."""
        self._look()
        missing = sorted(wanted - self._offers.keys())
        if not missing:
            self._missing_since = None
            return
        now = time.monotonic()
        self._missing_since = self._missing_since or now
        text = (
            f"no worker of {self._address} offers {' or '.join(missing)}; start some with "
            f"`dask worker {self._address} --nthreads 1 --resources {missing[0]}=1`"
        )
        if now - self._missing_since > self._patience:
            raise WorkersError(f"{text} (waited {self._patience:g} s)")
        if now - self._warned > 60:
            self._warned = now
            log.warning("%s; waiting", text)


def _connect(address: str, seconds: float) -> Client:
    try:
        from distributed import Client, Security
    except ImportError:
        raise WorkersError(
            "a scheduler needs dask.distributed; install it with `pip install coursekit[cluster]`"
        ) from None
    if address.startswith("tls://") and not Security().get_connection_args("client").get("ssl_context"):
        raise WorkersError(
            f"{address} asks for certificates, and dask's configuration names none; name a file such as "
            "deploy/tls/dask.yaml in DASK_CONFIG"
        )
    try:
        where = {"scheduler_file": address} if Path(address).is_file() else {"address": address}
        return Client(**where, timeout=seconds, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkersError(
            f"no dask scheduler answers at {address!r} ({error}); start one with `dask scheduler`, or grade "
            "on this machine by leaving the scheduler out"
        ) from error


def _resource(job: Job) -> str:
    return "GPU" if job.gpu else "process"


def _is_killed(answer: Answer) -> bool:
    return type(answer).__name__ == "KilledWorker"  # of distributed, which a local grader never imports


def _work(make_executor: Callable[[], Executor], version: str, job: Job) -> Result:
    """On a worker: run a job in this process's executor."""
    if (here := code_version()) != version:
        raise WorkersError(
            f"a worker has coursekit {here}, the grader has {version}: the same hand-in could earn other "
            "points there; install the same version on both"
        )
    with lease(make_executor) as executor:
        return executor.run(job)


@cache
def code_version() -> str:
    """The version of coursekit with a digest of its code, which grading depends on.

    >>> code_version().partition("+")[2].isalnum()
    True
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py"), key=lambda path: path.relative_to(package).as_posix()):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))  # line ends differ between systems
    return f"{importlib.metadata.version('coursekit')}+{digest.hexdigest()[:8]}"
