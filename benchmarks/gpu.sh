#!/bin/sh
# What charrnn does on one CUDA device: is it right, how fast is it, how good a model is there after some minutes.
#
#   benchmarks/gpu.sh parity | speed | quality NAME      each again until it says that nothing is left
#   benchmarks/gpu.sh speed --device cpu --rehearse --out DIR     the same code, tiny, on any machine
#
# It needs no installation and no network: python3 with torch and numpy, for quality also safetensors, typer, rich and
# charset-normalizer. It ends after MINUTES (8) whatever hangs; what was measured until then is in its record, in
# benchmarks/records or in $OUT, and is not measured again.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
needed="torch numpy"
[ "${1:-}" = quality ] && needed="$needed safetensors typer rich charset_normalizer"
"$python" - $needed <<'CHECK'
import sys
from importlib.util import find_spec
if sys.version_info < (3, 11):
    sys.exit("charrnn needs Python 3.11 or newer; PYTHON=/path/to/python names another")
if missing := [name for name in sys.argv[1:] if find_spec(name) is None]:
    sys.exit(f"this Python lacks {', '.join(missing)}; PYTHON=/path/to/python names another")
CHECK
end=$(($(date +%s) + ${MINUTES:-8} * 60))
status=3
# 3 says that a point took the process with it: the next one begins without it
while [ "$status" -eq 3 ] && [ "$(date +%s)" -lt "$end" ]; do
    status=0
    timeout --kill-after=10 $((end - $(date +%s))) "$python" "$root/benchmarks/gpu.py" "$@" --end "$end" || status=$?
done
exit "$status"
