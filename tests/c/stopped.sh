#!/bin/bash
# Starts a program that says when it is working, sends it SIGTERM, and shows what it says until it has ended well:
# stopped.sh PROGRAM...
set -euo pipefail

coproc SERVICE { exec "$@"; }
exec {said}<&"${SERVICE[0]}"
pid=$SERVICE_PID
line=""
until [[ $line == working ]]; do
    read -r -t 60 -u "$said" line
    echo "$line"
done
kill -TERM "$pid"
while read -r -t 60 -u "$said" line; do echo "$line"; done
wait "$pid"
