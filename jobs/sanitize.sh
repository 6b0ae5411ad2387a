#!/usr/bin/env bash
# The compiled kernels under AddressSanitizer and UndefinedBehaviorSanitizer: reads and writes out of bounds, numbers read
# before they were written (fresh memory is filled with NaN), misaligned access, overflow. Leaks are not looked for: the
# interpreter's own would hide them.
# Usage: bash jobs/sanitize.sh [arguments of pytest]      (about 2 minutes on one core)
# Builds a library of its own in a temporary folder and runs the tests of all kernels against it, for every instruction
# set of this processor. Uses the environment of jobs/test.sh, or the Python that PYTHON names. Not part of jobs/test.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

if [ -z "${PYTHON:-}" ]; then
    make_environment .venv-test run,data,openmpi,report,analysis,dev
    PYTHON=python
fi
command -v g++ >/dev/null || fail "needs g++ with its sanitizers: install g++"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r hpcfsl "$scratch/"
rm -f "$scratch"/hpcfsl/native/_kernels*
say "building the kernels with sanitizers"
headers=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
sanitizers="address,undefined"
flags=(-std=c++17 -O1 -g -fPIC -fvisibility=hidden -fno-exceptions -fno-math-errno -fno-trapping-math
    -ffp-contract=fast -fno-omit-frame-pointer -Wno-psabi "-I$headers"
    "-fsanitize=$sanitizers" -fno-sanitize-recover=undefined -fno-sanitize=vptr)
for source in module isa_base isa_avx2 isa_avx512; do
    g++ "${flags[@]}" -c "hpcfsl/native/src/$source.cpp" -o "$scratch/$source.o"
done
g++ -shared "-fsanitize=$sanitizers" -o "$scratch/hpcfsl/native/_kernels.so" "$scratch"/*.o

# Python itself is not built with sanitizers: their library comes first, and libstdc++ before what catches its exceptions.
preload="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so) $(g++ -print-file-name=libstdc++.so)"
address=allocator_may_return_null=1:max_malloc_fill_size=1073741824:malloc_fill_byte=255:detect_leaks=0
# -P: the copy in the temporary folder is imported, not the one in the working directory.
export LD_PRELOAD="$preload" ASAN_OPTIONS="$address" UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$scratch"
"$PYTHON" -P -c 'import sys; from hpcfsl.native.library import library; sys.exit(sys.argv[1] not in str(library()))' \
    "$scratch" || fail "the sanitized library is not the one that is loaded"
# --capture=sys: what a sanitizer says on its way out must not end in pytest's buffer.
"$PYTHON" -P -m pytest -q -p no:cacheprovider --capture=sys \
    tests/native tests/training/test_native.py tests/training/test_native_programs.py tests/training/test_numbers.py \
    tests/training/shared "$@"
