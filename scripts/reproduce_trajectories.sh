#!/usr/bin/env bash
# Trajectory matching: the published cells of CIFAR-10 and CIFAR-100, for a GPU. Experts that several
# cells use are trained once.
#   scripts/reproduce_trajectories.sh [mtt|tesla|ftd|ddpp|datm ...]
# Without a name: all. IPC="1 10" takes only these, DATASETS=cifar10 only that one.
# Needs the datasets in DDIST_DATA, or the network to download them. The runs lie below
# ${OUT:-outputs/trajectories}; a run that was interrupted goes on where it was.
set -euo pipefail
out=${OUT:-outputs/trajectories}
[[ $# -gt 0 ]] || set -- mtt tesla ftd ddpp datm

for part; do
  case $part in
    mtt | tesla | ftd | ddpp | datm)
      for dataset in ${DATASETS:-cifar10 cifar100}; do
        for ipc in ${IPC:-1 10 50}; do
          ddist method="$part" dataset="$dataset" ipc="$ipc" \
            hydra.run.dir="$out/${dataset}_${part}_ipc$ipc"
        done
      done ;;
    *) echo "reproduce_trajectories.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done
