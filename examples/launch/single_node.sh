#!/usr/bin/env bash
# One machine: torchrun starts a process for each GPU.
#   MODEL=mistral-7b TEXT=corpora CHAT=chat.jsonl PREFERENCES=pairs.jsonl \
#       bash examples/launch/single_node.sh [key=value ...]
# It first says what it would do and stops if that cannot start; DRY=1 stops there in any case.
set -euo pipefail

RECIPE=${RECIPE:-dictalm2_cuda}
PROCESSES=${PROCESSES:-8}
MODEL=${MODEL:-mistral-7b}
TEXT=${TEXT:-corpora}
CHAT=${CHAT:-chat.jsonl}
PREFERENCES=${PREFERENCES:-pairs.jsonl}
OUT=${OUT:-runs/dictalm2}

command=(hebench adapt "$RECIPE" "model=$MODEL" "text=$TEXT" "chat=$CHAT"
  "preferences=$PREFERENCES" "out=$OUT" "$@")

"${command[@]}" --dry-run
if [ -n "${DRY:-}" ]; then exit; fi
exec torchrun --standalone --nproc_per_node "$PROCESSES" -m "${command[@]}"
