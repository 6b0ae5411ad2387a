#!/usr/bin/env bash
# Accuracy on real data: digits, Fashion-MNIST, spoken digits, vowels, text, smartwatch, diabetes; every protocol between
# centralised training (the ceiling) and clients alone (the floor), three seeds. Puts the tables into docs/results.md and
# a figure for each kind of data beside it. Usage: bash jobs/accuracy.sh [NAME...]    (NAME.sweep.toml in jobs/accuracy)
#
# Fashion-MNIST comes with Debian's package dataset-fashion-mnist. Spoken digits are yours: WAV files named
# {label}_{speaker}_{number}.wav in the folder SPOKEN_DIGITS. What is missing is left out, and the script says so.
# Runs that are already there are not repeated; delete runs/accuracy to start again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=jobs/lib.sh
source jobs/lib.sh

folder=runs/accuracy
# The longest first.
names=(fashion-dirichlet fashion-iid docstrings vader-documents spoken-digits spoken-digits-new digits smartwatch
    vader-domains vowels vowels-new smartwatch-forecast diabetes)
[ $# -eq 0 ] || names=("$@")
if ! command -v hpcfsl >/dev/null; then make_environment .venv run,data,report; fi
mkdir -p "$folder"
export HPCFSL_PROGRESS=0

# missing NAME: print why a data set cannot be used, or nothing.
missing() {
    local file
    case $1 in
        fashion-*)
            [ -d /usr/share/datasets/fashion-mnist ] || echo "install Debian's package dataset-fashion-mnist" ;;
        spoken-digits*)
            [ -d "${SPOKEN_DIGITS:-}" ] || echo "set SPOKEN_DIGITS to a folder of WAV files" ;;
        vowels* | vader-* | smartwatch*)
            file=${1%-new}
            file=${file%-forecast}
            file=${file/vader-domains/vader}
            [ -f "data/$file.npz" ] || hpcfsl data fetch "$file" >/dev/null 2>&1 || echo "hpcfsl data fetch $file failed" ;;
    esac
}

# overrides NAME: print the settings that only this machine knows.
overrides() {
    case $1 in spoken-digits*) printf '%s\n' --set "data.folder=$SPOKEN_DIGITS" ;; esac
}

# bounds NAME: ceiling, floor and naive baseline; one file. New speakers have a ceiling for each of them. With momentum,
# one party alone takes a quarter of the rate: nothing averages its steps, and with the whole of it some seeds diverge.
bounds() {
    local name=$1 owner parts=() options=()
    mapfile -t options < <(overrides "$name")
    case $name in
        spoken-digits-new)
            for owner in 0 1 2 3 4 5; do
                parts+=("$(hpcfsl bounds jobs/accuracy/spoken-digits.toml "${options[@]}" --json \
                    --set training.learning_rate=0.0025 --set "evaluation.held_out_owners=[$owner]")")
            done ;;
        spoken-digits)
            parts+=("$(hpcfsl bounds "jobs/accuracy/$name.toml" "${options[@]}" --seeds 3 --json \
                --set training.learning_rate=0.0025)") ;;
        vowels-new)
            parts+=("$(hpcfsl bounds jobs/accuracy/vowels.toml --seeds 3 --json \
                --set "evaluation.held_out_owners=[8,9,10,11,12,13,14]")") ;;
        fashion-iid) # a minute and a half a seed; some of the clients stand for all that train alone
            parts+=("$(hpcfsl bounds "jobs/accuracy/$name.toml" --clients 5 --json \
                --set training.learning_rate=0.005)") ;;
        fashion-dirichlet | docstrings)
            parts+=("$(hpcfsl bounds "jobs/accuracy/$name.toml" --clients 5 --json)") ;;
        vader-documents)
            parts+=("$(hpcfsl bounds "jobs/accuracy/$name.toml" --seeds 3 --clients 10 --json)") ;;
        *) parts+=("$(hpcfsl bounds "jobs/accuracy/$name.toml" "${options[@]}" --seeds 3 --json)") ;;
    esac
    local IFS=,
    printf '[%s]\n' "${parts[*]}" >"$folder/$name.json.partial"
    mv "$folder/$name.json.partial" "$folder/$name.json"
}

one() {
    local name=$1 reason options=()
    reason=$(missing "$name")
    if [ -n "$reason" ]; then
        say "skipped $name: $reason"
        return
    fi
    mapfile -t options < <(overrides "$name")
    hpcfsl sweep "jobs/accuracy/$name.sweep.toml" --out "$folder/$name" --local --no-check "${options[@]}" \
        >"$folder/$name.log" 2>&1 || say "$name: some runs did not finish, see $folder/$name.log"
    [ -f "$folder/$name.json" ] || bounds "$name"
}

for name in "${names[@]}"; do
    [ -f "jobs/accuracy/$name.sweep.toml" ] || fail "no data set $name"
done
one_a_core one "${names[@]}"

python analysis/accuracy.py "$folder" --into docs/results.md --figures docs
for name in "${names[@]}"; do
    if [ -d "$folder/$name" ]; then
        echo "$name"
        hpcfsl sweep-table "$folder/$name"
    fi
done
