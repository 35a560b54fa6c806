#!/bin/bash
# Starts a program that accepts orders by line and delivers them, kills it as soon as it has accepted one, three
# times, and sees that a fourth delivers all of them: killed.sh PROGRAM ARGUMENT
set -euo pipefail

delivered=""
note() { # a line of the program
    if [[ $1 == delivered* ]]; then delivered+=" ${1#delivered }"; fi
}

for order in one two three; do
    coproc SERVICE { exec "$@"; }
    exec {said}<&"${SERVICE[0]}" {orders}>&"${SERVICE[1]}"
    pid=$SERVICE_PID
    echo "$order" >&"$orders"
    line=""
    until [[ $line == "accepted $order" ]]; do
        read -r -t 60 -u "$said" line
        note "$line"
    done
    kill -KILL "$pid"
    while read -r -t 60 -u "$said" line; do note "$line"; done
    wait "$pid" 2>/dev/null && exit 1 || test $? -eq 137
    exec {said}<&- {orders}>&-
done

coproc SERVICE { exec "$@"; }
exec {said}<&"${SERVICE[0]}" {orders}>&"${SERVICE[1]}"
pid=$SERVICE_PID
echo four >&"$orders"
until [[ $delivered == *one* && $delivered == *two* && $delivered == *three* && $delivered == *four* ]]; do
    read -r -t 60 -u "$said" line
    note "$line"
done
exec {orders}>&-
eval "exec ${SERVICE[1]}>&-"
kill -TERM "$pid"
wait "$pid"
echo "delivered, though it was killed three times:$delivered"
