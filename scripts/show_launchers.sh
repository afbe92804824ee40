#!/bin/sh
# Each engine of sweeps at work on this machine, on the bundled digits, some minutes in all:
#   scripts/show_launchers.sh [FOLDER]
# joblib, submitit's local executor, a study of 20 trials by Optuna, Ray as a cluster that the sweep starts and
# as one that runs already (pip install 'ddist[launchers,optuna,ray]'; those that are missing say so), SLURM where
# sinfo finds one, then a sweep that is killed and goes on, and two processes by torchrun. DDIST is the command,
# PYTHON the interpreter that torchrun takes, RAY the command that starts a cluster.
set -u
DDIST=${DDIST:-ddist}
PYTHON=${PYTHON:-python}
RAY=${RAY:-ray}
OUT=${1:-outputs/launchers}
TINY="dataset=digits method=dm steps=5 evaluation.num_networks=1 evaluation.epochs=30 task.baseline=false
  callbacks.progress.line_fraction=1"
export OMP_NUM_THREADS=1

show() { # prints the command, what the sweep says at its end, and how long it took
  printf '\n$ ddist %s\n' "$*"
  began=$(date +%s)
  $DDIST "$@" >"$OUT/last.log" 2>&1
  code=$?
  sed -n '/^dc2021_dsa (/,$p' "$OUT/last.log"
  grep -E '^ddist: |Best (parameters|value)' "$OUT/last.log"
  echo "exit code $code after $(($(date +%s) - began)) s, $(grep -c 'Finished before' "$OUT/last.log") finished before"
}

mkdir -p "$OUT"
show -m $TINY seed=0,1 ipc=1,500 hydra/launcher=joblib "hydra.sweep.dir=$OUT/joblib"
show sweep=seeds $TINY seed=0,1 hydra/launcher=submitit_local "hydra.sweep.dir=$OUT/submitit"
show sweep=seeds $TINY seed=0,1 hydra/launcher=ray "hydra.sweep.dir=$OUT/ray"
[ -f ~/.ray/auth_token ] && export RAY_AUTH_MODE=token # ray start takes that token; who joins is to be told
if $RAY start --head --port=6379 --include-dashboard=false >"$OUT/last.log" 2>&1; then
  show sweep=seeds $TINY seed=0,1 hydra/launcher=ray hydra.launcher.ray.init.address=127.0.0.1:6379 \
    "hydra.sweep.dir=$OUT/ray_address"
  $RAY stop >"$OUT/last.log" 2>&1
fi
if sinfo >"$OUT/last.log" 2>&1; then
  show sweep=seeds $TINY seed=0,1 hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=null \
    hydra.launcher.cpus_per_task=1 "hydra.sweep.dir=$OUT/slurm"
fi
show sweep=search $TINY threads=1 "hydra.sweep.dir=$OUT/optuna"

printf '\nKilled after its first job:\n'
$DDIST sweep=ipc $TINY steps=200 ipc=1,2,3 callbacks.checkpoint.seconds=1 threads=1 "hydra.sweep.dir=$OUT/killed" \
  >"$OUT/killed.log" 2>&1 &
job=$!
until [ -f "$OUT/killed/ipc-2/checkpoints/last.ckpt" ]; do
  kill -0 $job 2>/dev/null || break
  sleep 0.2
done
kill -9 $job
wait $job 2>/dev/null
show sweep=ipc $TINY steps=200 ipc=1,2,3 callbacks.checkpoint.seconds=1 threads=1 "hydra.sweep.dir=$OUT/killed"
grep -E 'Finished before|Going on from' "$OUT/last.log"

TWO="trainer=ddp trainer.devices=2 trainer.accelerator=cpu threads=1"
printf '\n$ torchrun --nproc_per_node 2 -m ddist %s\n' "$TWO"
$PYTHON -m torch.distributed.run --nproc_per_node 2 -m ddist $TINY $TWO "hydra.run.dir=$OUT/torchrun" >"$OUT/last.log" 2>&1
echo "exit code $?"
$DDIST $TINY $TWO "hydra.run.dir=$OUT/ddp" >"$OUT/last.log" 2>&1
echo "exit code $? in one command"
cmp "$OUT/torchrun/distilled/data.safetensors" "$OUT/ddp/distilled/data.safetensors" && echo "the same distilled set"
