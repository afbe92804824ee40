#!/usr/bin/env bash
# Wang et al. 2018: the commands behind RESULTS.md, "Dataset Distillation".
#   scripts/reproduce_dd.sh [fixed|random|baselines|steps|cifar10|cifar10_cpu ...]
# Without a name: all but cifar10_cpu.
# Needs MNIST and CIFAR-10 in DDIST_DATA, or the network to download them. The runs lie below
# ${OUT:-outputs/dd}; a run that was interrupted goes on where it was.
set -euo pipefail
out=${OUT:-outputs/dd}
[[ $# -gt 0 ]] || set -- fixed random baselines steps cifar10

for part; do
  case $part in
    fixed) # 10 images, known initial weights: the paper's 93.8 %
      ddist method=dd dataset=mnist init=fixed ipc=1 hydra.run.dir="$out/mnist_fixed_ipc1" ;;
    random) # 100 images, unknown initial weights: the paper's 79.5 +- 8.1 %
      ddist method=dd dataset=mnist init=random ipc=10 hydra.run.dir="$out/mnist_random_ipc10" ;;
    baselines) # the paper's table beside it (random real is in every run's own table)
      for method in random optimized_random average kmeans; do
        ddist method=$method dataset=mnist ipc=10 task.baseline=false \
          hydra.run.dir="$out/mnist_$method"
      done
      for method in random kmeans; do
        ddist method=$method dataset=mnist ipc=10 evaluation=knn task.baseline=false \
          hydra.run.dir="$out/mnist_knn_$method"
      done ;;
    steps) # more steps, and more epochs, with the same 100 images (section 3.4)
      ddist -m dataset=digits ipc=10 method.student_steps=1,2,5,10 method.student_epochs=1,3 \
        init=random seed=0,1,2 task.baseline=false hydra.sweep.dir="$out/steps"
      python "$(dirname "$0")/plot_sweep.py" "$out/steps" method.student_steps \
        --by method.student_epochs ;;
    cifar10) # 100 images, known initial weights: the paper's 54.0 %, for a GPU
      ddist method=dd dataset=cifar10 init=fixed ipc=10 hydra.run.dir="$out/cifar10_fixed_ipc10" ;;
    cifar10_cpu) # the same in 600 outer steps, for 2 CPU cores
      ddist experiment=laptop/dd_cifar10_ipc10 hydra.run.dir="$out/cifar10_fixed_ipc10_cpu" ;;
    *) echo "reproduce_dd.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done
