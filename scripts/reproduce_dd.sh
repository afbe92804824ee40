#!/usr/bin/env bash
# Wang et al. 2018: the commands behind RESULTS.md, "Dataset Distillation".
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

preset() { # preset FOLDER NAME ...
  local folder=$1 name
  shift
  for name; do
    ddist experiment="$folder/$name" hydra.run.dir="$out/$name"
  done
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
      ddist experiment=laptop/dd_cifar10_ipc10 hydra.run.dir="$out/cifar10_fixed_ipc10_cpu" ;;
    adaptation) # the digits' table; random real images and "no adaptation" are in every run's own
      for pair in mnist_usps usps_mnist; do
        for fixed in "" fixed_; do
          name=dd_${pair}_${fixed}ipc10
          ddist experiment=laptop/"$name" reference.measure=true reference.training.num_networks=3 \
            hydra.run.dir="$out/$name"
          for method in optimized_random kmeans average; do
            ddist experiment=laptop/"$name" method=$method task.baseline=false \
              hydra.run.dir="$out/${name/dd/$method}"
          done
        done
      done ;;
    poisoning) preset laptop dd_mnist_poison_ipc10 dd_cifar10_poison_ipc10 ;;
    labels) # hard, soft, and labels of real images; known weights (hard: the part fixed) and random ones
      preset laptop dd_mnist_ipc1_{soft,labels,random,random_soft,random_labels} ;;
    linear) python "$here/linear_theorem.py" --out "$out/linear_theorem.png" ;;
    svhn) preset paper dd_svhn_mnist_ipc10 dd_svhn_mnist_fixed_ipc10 ;;
    alexnet) # ImageNet's AlexNet, one image per class; downloads datasets and weights
      for dataset in voc_crops cub200; do
        ddist method=dd dataset=$dataset network=alexnet init=pretrained init.source=imagenet ipc=1 \
          hydra.run.dir="$out/dd_$dataset"
      done ;;
    published) # adaptation and poisoning with the paper's numbers of networks and steps
      preset paper dd_mnist_usps{,_fixed}_ipc10 dd_usps_mnist{,_fixed}_ipc10 \
        dd_mnist_poison_ipc10 dd_cifar10_poison_ipc30 ;;
    *) echo "reproduce_dd.sh: unknown part '$part'" >&2; exit 2 ;;
  esac
done

python "$here/compare_dd.py" "$out"
