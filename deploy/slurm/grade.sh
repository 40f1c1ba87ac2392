#!/usr/bin/env bash
# One small batch job that holds scheduler and gradebook and asks for workers: sbatch deploy/slurm/grade.sh conv
#SBATCH --job-name=grading
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --output=grading-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}" # the root of the course
# CHANGE: where the environment is.
.venv/bin/python deploy/slurm/grade.py "$@"
