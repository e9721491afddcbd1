# Sourced by scripts/test and scripts/soak: the fuzz targets of tests/fuzz.

fuzz_directory=tests/fuzz

# Whether fuzzing can be done here; if not, `fuzzing_lacks` says why. Neither a toolchain
# nor cargo-fuzz is installed for it: the corpora are replayed by ordinary tests anyway.
fuzzing_possible() {
    fuzzing_lacks=
    if ! cargo +nightly --version >/dev/null 2>&1; then
        fuzzing_lacks="there is no nightly toolchain (rustup toolchain install nightly)"
    elif ! command -v cargo-fuzz >/dev/null; then
        fuzzing_lacks="there is no cargo-fuzz (cargo install --locked cargo-fuzz)"
    elif ! command -v c++ >/dev/null; then
        fuzzing_lacks="there is no C++ compiler (on Debian: apt-get install g++)"
    fi
    [[ -z $fuzzing_lacks ]]
}

fuzz_targets() {
    local file
    for file in "$fuzz_directory"/targets/*.rs; do
        basename "$file" .rs
    done
}

# Our code has no `unsafe`, so there is nothing that a sanitizer could find.
cargo_fuzz() {
    local command=$1
    shift
    CARGO_TARGET_DIR=$target/fuzz cargo +nightly fuzz "$command" --fuzz-dir "$fuzz_directory" \
        --sanitizer none "$@"
}

build_fuzz_targets() { cargo_fuzz build; }

# run_fuzz_target NAME SECONDS: from the corpus on; what is found new is kept in the target
# directory for the next run. `fuzz_figures` tells of the run.
run_fuzz_target() {
    local name=$1 seconds=$2 log=$target/fuzz/$1.log
    local grown=$target/fuzz/corpus/$name found=$target/fuzz/found/$name/
    mkdir -p "$grown" "$found"
    if ! cargo_fuzz run "$name" "$grown" "$fuzz_directory/corpus/$name" -- \
        -max_total_time="$seconds" -max_len=8192 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$found" >"$log" 2>&1; then
        grep -E 'panicked' -A 3 "$log" || tail -n 30 "$log"
        echo "The input is in $found. Repeat: cargo +nightly fuzz run --fuzz-dir $fuzz_directory -s none $name FILE"
        echo "Then keep it, under a name that says what it shows, in $fuzz_directory/corpus/$name."
        return 1
    fi
    fuzz_figures="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s, nothing found"
}
