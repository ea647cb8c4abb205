#!/usr/bin/env bash
# Do the tests mean the same on every processor? Those that train or compute are run with one thread and with two, and
# with the instructions of older processors: torch, oneDNN, MKL, OpenBLAS, NumPy and OpenCV choose theirs by these settings.
# `bench/portable.sh` prints a line a setting and names what fails (exit 1); `bench/portable.sh tests/training` runs less.
# SEEDS (5): tests that hold for whatever was learned run with as many seeds. WORKERS (0): test processes at once.
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
tests=("$@")
if [ $# -eq 0 ]; then
  tests=(tests/training tests/tracker/comparison tests/tracker/images tests/tracker/workflows/test_ensemble.py
    tests/tracker/workflows/test_reused_runs.py tests/test_model_families.py tests/test_demo.py tests/test_jobs.py tests/test_lifecycle.py)
fi

highest=$("$python" -c 'import torch; print(torch.backends.cpu.get_cpu_capability().lower())')
# NumPy refuses to switch off what it does not have; what it has is called differently from version to version
found=$("$python" -c 'import numpy; print(*numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", []))')
newest=$(tr ' ' '\n' <<<"$found" | grep -E '^(AVX512|X86_V4)' | xargs)

settings_of() {
  case $1 in
    default) echo "ATEN_CPU_CAPABILITY=default" "ONEDNN_MAX_CPU_ISA=SSE41" "MKL_ENABLE_INSTRUCTIONS=SSE4_2" \
      "OPENBLAS_CORETYPE=Nehalem" "OPENCV_CPU_DISABLE=SSE4.1,SSE4.2,AVX,FP16,AVX2,AVX512-SKX" ;;
    avx2) echo "ATEN_CPU_CAPABILITY=avx2" "ONEDNN_MAX_CPU_ISA=AVX2" "MKL_ENABLE_INSTRUCTIONS=AVX2" \
      "OPENBLAS_CORETYPE=Haswell" "OPENCV_CPU_DISABLE=AVX512-SKX" ;;
    avx512) echo "ATEN_CPU_CAPABILITY=avx512" ;;
  esac
}

output=$(mktemp)
trap 'rm -f "$output"' EXIT
failed=0
printf '%-8s %-9s %s\n' threads processor result
for threads in 1 2; do
  for processor in default avx2 avx512; do
    if [ $processor = avx512 ] && [ "$highest" != avx512 ]; then
      printf '%-8s %-9s %s\n' $threads $processor "left out: this processor has no AVX-512"
      continue
    fi
    case $processor in default) off=$found ;; avx2) off=$newest ;; *) off= ;; esac
    # shellcheck disable=SC2046
    env $(settings_of $processor) ${off:+"NPY_DISABLE_CPU_FEATURES=$off"} \
      OMP_NUM_THREADS=$threads MKL_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads \
      "$python" -m pytest -q -n "${WORKERS:-0}" --dist loadfile --seeds "${SEEDS:-5}" "${tests[@]}" >"$output" 2>&1 || failed=1
    printf '%-8s %-9s %s\n' $threads $processor "$(tail -1 "$output")"
    grep -E '^(FAILED|ERROR)' "$output" | sed 's/^/  /'
  done
done
exit $failed
