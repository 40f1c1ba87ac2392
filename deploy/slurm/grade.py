"""Grade an assignment on a Slurm cluster: `python deploy/slurm/grade.py conv --jobs 4`, at the course's root.

Each job is one dask worker.  The environment, with dask-jobqueue installed, lies where every node sees it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from dask_jobqueue import SLURMCluster
from distributed.security import Security

# CHANGE: what one job asks Slurm for.
AT_ONCE = 4  # notebooks
CPU = {"queue": "cpu", "job_extra_directives": []}
GPU = {"queue": "gpu", "job_extra_directives": ["--gres=gpu:1"]}


def cluster(gpu: bool) -> SLURMCluster:
    """A scheduler in this process, and a description of the jobs that are its workers."""
    security = Security()  # with certificates if DASK_CONFIG names deploy/tls/dask.yaml
    offers = f"{'GPU' if gpu else 'process'}={AT_ONCE}"
    return SLURMCluster(
        cores=AT_ONCE,
        processes=1,
        memory="24GB",
        walltime="02:00:00",
        worker_extra_args=["--resources", offers],
        security=security if security.require_encryption else None,
        **(GPU if gpu else CPU),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slug", help="the assignment")
    parser.add_argument("--jobs", type=int, default=2, help="Slurm jobs, each a worker")
    parser.add_argument("--gpu", action="store_true", help="jobs that offer a GPU")
    options, others = parser.parse_known_args()
    with cluster(options.gpu) as workers:
        workers.scale(jobs=options.jobs)
        address = workers.scheduler_address
        command = [sys.executable, "-m", "coursekit", "grade", options.slug, "--scheduler", address, *others]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
