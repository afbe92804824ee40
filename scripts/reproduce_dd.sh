#!/usr/bin/env bash
# Wang et al. 2018: the commands behind docs/log.md, "Dataset Distillation".
#   scripts/reproduce_dd.sh [fixed|random|baselines|steps|cifar10_cpu|adaptation|poisoning|labels|linear|
#                            cifar10|svhn|alexnet|published ...]
# Without a name: those of the first line and linear, which are for 2 CPU cores; the others want a GPU.
# At the end ours are printed beside the paper's.
# Needs MNIST, USPS and CIFAR-10 in DDIST_DATA (for the later parts SVHN, PASCAL VOC 2007 and
# CUB-200-2011 too), or the network to download them. The runs lie below
# ${OUT:-outputs/dd}; a run that was interrupted goes on where it was.
set -euo pipefail
out=${OUT:-outputs/dd}
here=$(dirname "$0")
[[ $# -gt 0 ]] || set -- fixed random baselines steps cifar10_cpu adaptation poisoning labels linear

run() { # run NAME WORD ...
  local name=$1
  shift
  ddist "$@" hydra.run.dir="$out/$name"
}

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
      python "$here/plot_sweep.py" "$out/steps" method.student_steps \
        --by method.student_epochs ;;
    cifar10) # 100 images, known initial weights: the paper's 54.0 %, for a GPU
      ddist method=dd dataset=cifar10 init=fixed ipc=10 hydra.run.dir="$out/cifar10_fixed_ipc10" ;;
    cifar10_cpu) # the same in 600 outer steps, for 2 CPU cores
      run cifar10_fixed_ipc10_cpu experiment=laptop/dd ;;
    adaptation) # the digits' table; random real images and "no adaptation" are in every run's own
      for pair in mnist_usps usps_mnist; do
        for fixed in false true; do
          words=(experiment=laptop/dd_adaptation dataset=${pair#*_} init.source=${pair%_*})
          [[ $fixed = false ]] || words+=(init.fixed=true)
          name=${pair}${words[3]:+_fixed}_ipc10
          run "dd_$name" "${words[@]}" reference.measure=true reference.training.num_networks=3
          for method in optimized_random kmeans average; do
            run "${method}_$name" "${words[@]}" method=$method task.baseline=false
          done
        done
      done ;;
    poisoning)
      run dd_mnist_poison_ipc10 experiment=laptop/dd_poison
      run dd_cifar10_poison_ipc10 experiment=laptop/dd_poison dataset=cifar10 ;;
    labels) # hard, soft, and labels of real images; known weights (hard: the part fixed) and random ones
      random=(init=random steps=1500)
      run dd_mnist_ipc1_random method=dd dataset=mnist "${random[@]}" threads=1
      for labels in soft labels; do
        run "dd_mnist_ipc1_$labels" experiment=laptop/dd_$labels
        run "dd_mnist_ipc1_random_$labels" experiment=laptop/dd_$labels "${random[@]}"
      done ;;
    linear) python "$here/linear_theorem.py" --out "$out/linear_theorem.png" ;;
    svhn)
      words=(experiment=paper/dd_adaptation init.source=svhn dataset.channels=3)
      run dd_svhn_mnist_ipc10 "${words[@]}"
      run dd_svhn_mnist_fixed_ipc10 "${words[@]}" init.fixed=true ;;
    alexnet) # ImageNet's AlexNet, one image per class; downloads datasets and weights
      for dataset in voc_crops cub200; do
        ddist method=dd dataset=$dataset network=alexnet init=pretrained init.source=imagenet ipc=1 \
          hydra.run.dir="$out/dd_$dataset"
      done ;;
    published) # adaptation and poisoning with the paper's numbers of networks and steps
      for pair in mnist_usps usps_mnist; do
        words=(experiment=paper/dd_adaptation dataset=${pair#*_} init.source=${pair%_*})
        run "dd_${pair}_ipc10" "${words[@]}"
        run "dd_${pair}_fixed_ipc10" "${words[@]}" init.fixed=true
      done
      run dd_mnist_poison_ipc10 experiment=paper/dd_poison
      run dd_cifar10_poison_ipc30 experiment=paper/dd_poison dataset=cifar10 ipc=30 ;;
    *) echo "reproduce_dd.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done

python "$here/compare_dd.py" "$out"
