#!/usr/bin/env bash
# Everything that needs a GPU, in one command that keeps to its time, and a table of what was found:
# the tests marked `gpu`; one outer step of each family on the GPU beside the CPU; steps per second
# and memory beside plain loops; then, in the time left, mtt on CIFAR-10 with 1 image per class.
#   scripts/gpu.sh [--cpu] [minutes]   9 minutes by default; --cpu: a dry run of tiny sizes
#   scripts/gpu.sh wheels              fills the folder of wheels, where there is a network
# Called again, it goes on: finished stages are skipped. Results lie in outputs/gpu as JSON, and in
# $OUT as well if that is set. The network is never used: what this machine lacks is installed from
# the folder ${WHEELS:-wheels}, beside and not into what it has. CIFAR-10 is taken from
# ${DDIST_DATA:-.cache/data}, or unpacked there from cifar10-part[123].tar.xz in
# ${CIFAR10_PARTS:-../shared/data}, whichever of the parts this call finds; without it the last stage
# waits, and the others take random images.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
[[ -n ${PYTHON:-} || ! -x .venv/bin/python ]] || python=.venv/bin/python
wheels=${WHEELS:-wheels}
site=$PWD/.cache/gpu-site
results=${RESULTS:-outputs/gpu}
data=${DDIST_DATA:-$PWD/.cache/data}

if [[ ${1:-} == wheels ]]; then
  exec "$python" scripts/gpu/needs.py fill "$wheels"
fi

GPU_BEGUN=$(date +%s)
export GPU_BEGUN PYTHONUNBUFFERED=1 PYTHONPATH=$PWD:$site${PYTHONPATH:+:$PYTHONPATH}
"$python" scripts/gpu/needs.py install "$wheels" "$site"

for part in 1 2 3; do
  archive=${CIFAR10_PARTS:-../shared/data}/cifar10-part$part.tar.xz
  mark=$data/.cifar10-part$part
  [[ -f $archive && ! -e $mark ]] || continue
  [[ ! -d $data/cifar-10-batches-py || -n $(compgen -G "$data/.cifar10-part?") ]] || continue # whole
  mkdir -p "$data"
  if tar -xf "$archive" -C "$data" --no-same-owner; then touch "$mark"; else
    echo "gpu.sh: $archive cannot be unpacked; going on without it" >&2
  fi
done

exec "$python" scripts/gpu --results "$results" --data "$data" "$@"
