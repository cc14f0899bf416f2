#!/bin/bash
# Trains on eight machines of eight GPUs; a job that is stopped is queued again and resumes from its last step.
#   sbatch configs/hardware/slurm.sh --config configs/stage1_memorypack.yaml --config configs/hardware/multi_node.yaml
#SBATCH --job-name=mpgen
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Five minutes before the end every rank gets a signal, finishes its step and saves; the job is queued again. No "B:" here:
# the signal must reach the ranks, not this script.
#SBATCH --signal=SIGUSR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=mpgen-%j.log

# One task a GPU: nodes and tasks must be trainer.num_nodes and trainer.devices. One task that fails ends all.
srun --kill-on-bad-exit=1 mpgen fit "$@"
