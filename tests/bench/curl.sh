#!/usr/bin/env bash
# The same job with curl and sha256sum: reads lines "GET_URL KEY", downloads all, hashes all, stores all.
set -euo pipefail

usage() {
    echo 'usage: tests/bench/curl.sh (--put URL_PREFIX | --folder DIR) WORK_DIR <LINES, each "GET_URL KEY"' >&2
    exit 2
}

[[ $# -eq 3 && $1 == --@(put|folder) ]] || usage
mode=$1 target=$2 work=$(realpath -m -- "$3")
bodies=$work/bodies
rm -rf -- "$bodies"
mkdir -p -- "$bodies"

# curl_all CONFIG: the first answer that is no success ends it.
curl_all() { curl --disable --parallel --parallel-max 32 --no-progress-meter --fail-early --config "$1"; }

# In a configuration a new operation begins with `next`, and has nothing of the one before it.
awk -v bodies="$bodies" 'NF != 2 { print "curl.sh: line " NR " is no \"GET_URL KEY\": " $0 >"/dev/stderr"; exit 1 }
    { printf "%surl = \"%s\"\noutput = \"%s/%s\"\ncreate-dirs\nnoproxy = *\nfail\n", (NR > 1 ? "next\n" : ""), $1, bodies, $2 }' >"$work/get.config"
[[ -s $work/get.config ]] || exit 0
curl_all "$work/get.config"

(cd -- "$bodies" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum) | tee -- "$work/sums"

case $mode in
--put)
    awk -v bodies="$bodies" -v prefix="$target" '
        { printf "%surl = \"%s/%s\"\nupload-file = \"%s/%s\"\n", (NR > 1 ? "next\n" : ""), prefix, $2, bodies, $2
          printf "header = \"x-amz-meta-sha256: %s\"\nheader = \"Expect:\"\noutput = \"/dev/null\"\nnoproxy = *\nfail\n", $1 }' \
        "$work/sums" >"$work/put.config"
    curl_all "$work/put.config"
    ;;
--folder)
    mkdir -p -- "$target"
    target=$(realpath -- "$target")
    cd -- "$bodies"
    find . -type f -print0 | xargs -0 cp --parents -t "$target"
    find . -type f -print0 | (cd -- "$target" && xargs -0 sync)
    ;;
esac
rm -rf -- "$bodies"
