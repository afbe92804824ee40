#!/usr/bin/env bash
# Gradient, distribution and feature matching: the published cells of CIFAR-10, for a GPU, and the
# presets for 2 CPU cores.
#   scripts/reproduce_matching.sh [dm|dc|dsa|cafe|idc|laptop ...]
# Without a name: all but laptop. IPC="1 10" takes only these.
# Needs CIFAR-10 and MNIST in DDIST_DATA, or the network to download them. The runs lie below
# ${OUT:-outputs/matching}; a run that was interrupted goes on where it was.
set -euo pipefail
out=${OUT:-outputs/matching}
[[ $# -gt 0 ]] || set -- dm dc dsa cafe idc

for part; do
  case $part in
    dm | dc | dsa | cafe | idc) # 5 sets of images, each evaluated on 20 networks
      for ipc in ${IPC:-1 10 50}; do
        ddist -m method="$part" dataset=cifar10 ipc="$ipc" seed=0,1,2,3,4 \
          hydra.sweep.dir="$out/cifar10_${part}_ipc$ipc"
      done ;;
    laptop)
      for cell in {dm,dc,dsa,cafe,idc,ncfm}:mnist:{1,10} {dm,dsa}:{fashion_mnist:10,cifar10:1}; do
        IFS=: read -r method dataset ipc <<<"$cell"
        ddist experiment=laptop/"$method" dataset="$dataset" ipc="$ipc" \
          hydra.run.dir="$out/${method}_${dataset}_ipc$ipc"
      done ;;
    *) echo "reproduce_matching.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done
