#!/bin/sh
# Runs models on this machine's GPU through PyTorch: benchmarks/measure_gpu.sh [FILE]
#
# Adds to FILE (default measured.json), which `tenzing compare --measured FILE` reads. Needs Python with torch,
# transformers, numpy and ml_dtypes; PYTHON names another interpreter, LLM, ENCODER and TRAINED other models.
# A run that fails (does not fit, say) is told, and the next goes on. About three minutes on an H100.
set -u
out=${1:-measured.json}
here=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$here/src${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
llm=${LLM:-llama-3.1-8b}
encoder=${ENCODER:-bert-large}
trained=${TRAINED:-llama-3.2-1b}

measure() {
    echo "== tenzing measure $*"
    timeout "${LIMIT_S:-150}" "${PYTHON:-python3}" -m tenzing.cli measure "$@" -o "$out" ||
        echo "   no result: exit status $?"
}

measure "$encoder" --batch 1,64 --length 128 --repeats 30
measure "$llm" --task decode --batch 1,16,64 --length 1024 --repeats 30
measure "$llm" --task prefill --batch 1 --length 512,2048 --repeats 20
measure "$llm" --task prefill --batch 8 --length 1024 --repeats 10
measure "$trained" --task training --batch 4 --length 1024 --repeats 10
# Without the launches of one operation after another: closer to what a serving engine reaches.
measure "$llm" --task decode --batch 1,16 --length 1024 --repeats 30 --compile
