#!/bin/bash
# Two machines with eight GPUs each, one process per machine: sbatch docs/slurm.sh
# The directory must be on a disk that all machines share.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
# A minute before the end of its time each process gets SIGTERM: the run is saved.
#SBATCH --signal=TERM@60

RUN=${RUN:-$SLURM_SUBMIT_DIR/runs/imagenet}
mkdir -p "$RUN"
. .venv/bin/activate

# JAX_LOCAL_DEVICE_IDS: else JAX gives a task of Slurm one GPU alone.
export JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7
# The first start begins the run, every other one goes on with it.
if [ -e "$RUN/config.json" ]; then ARGS=""; else ARGS="--data imagenet2012 --workers 16"; fi
srun --kill-on-bad-exit=1 python experiments/resnet_imagenet.py $ARGS --workdir "$RUN"
CODE=$?

# 143: it was stopped by SIGTERM, and saved.
[ $CODE -eq 143 ] && scontrol requeue "$SLURM_JOB_ID"
exit $CODE
