#!/usr/bin/env bash
# Several machines by DeepSpeed's launcher, over ssh: the paper's 48 Gaudi-2, 6 machines of 8.
#   MODEL=mistral-7b TEXT=corpora bash examples/launch/deepspeed.sh [key=value ...]
# Checkout, environment and run folder are on a file system that all machines share. The corpus is
# made beforehand in the main environment (see docs/training.md on Gaudi).
# DRY=1 stops after the dry run.
set -euo pipefail

RECIPE=${RECIPE:-dictalm2}
HOSTFILE=${HOSTFILE:-$(dirname "$0")/hostfile}
MODEL=${MODEL:-mistral-7b}
TEXT=${TEXT:-corpora}
OUT=${OUT:-runs/dictalm2}

command=(hebench adapt "$RECIPE" "model=$MODEL" "text=$TEXT" "out=$OUT" "$@")

"${command[@]}" --dry-run
if [ -n "${DRY:-}" ]; then exit; fi
exec deepspeed --hostfile "$HOSTFILE" --no_local_rank --module "${command[@]}"
