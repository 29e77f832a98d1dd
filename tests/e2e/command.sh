#!/bin/bash
# Every verb of the command: formats that are fixed for scripts, exit codes, error texts.
. "$(dirname "$0")/lib_command.sh"

# ---- with no log, and with a log but no worker
expect 2 "there is no verb" "$perdure" frobnicate
expect 2 "\`fork\` is not in this version" "$perdure" fork
expect 0 "^verbs:" "$perdure" --help
expect 0 "^perdure [0-9]" "$perdure" version
for verb in dev worker start signal complete cancel terminate resume result describe list workers queues history export replay namespace check version; do
    expect 0 "^usage: perdure $verb" "$perdure" $verb --help
done
expect 0 "^usage: perdure start" "$perdure" help start
expect 2 "no verb" "$perdure" help frobnicate
expect 3 "there is no log" "$perdure" list
expect 3 "/nope" "$perdure" list --log sqlite:/nope/x.db
expect 3 "/nope" "$perdure" worker --module "$samples/hello.so" --log sqlite:/nope/x.db
expect 3 "there is no such log" "$perdure" verify "$PERDURE_LOG"
expect 3 "there is no such log" "$perdure" verify sqlite:/nope/x.db
expect 5 "" "$perdure" list --log kafka://127.0.0.1:1/shop
expect 2 "" "$perdure" list --log nonsense:x
expect 0 "1 partition" "$perdure" namespace create
expect 2 "power of two" "$perdure" namespace create --partitions 3
expect 3 "no job \"nobody\"" "$perdure" describe nobody
expect 0 "waits for a worker" "$perdure" start hello --id early --input '"Ada"'
expect 0 "queued" "$perdure" describe early
same queued "$(json 'o["state"]' "$perdure" describe early --json)"
same '"Ada"' "$(json 'json.dumps(o["input"])' "$perdure" describe early --json)"
expect 4 queued "$perdure" result early --wait 100ms

# ---- wrong usage
expect 2 "--id is missing" "$perdure" start hello
expect 2 "must not be empty" "$perdure" start hello --id ''
expect 2 "is no duration" "$perdure" result early --wait 10
expect 2 "cannot read .*/nothing: No such file" "$perdure" start hello --id x --input "@$here/nothing"
expect 2 "no option --nope" "$perdure" list --nope
expect 2 "no state" "$perdure" list --state asleep
expect 2 "is not listed; .*describe" "$perdure" list --state queued
expect 2 "--module is missing" "$perdure" worker
expect 2 "nothing.so" "$perdure" worker --module "$here/nothing.so"
echo "no module" >"$here/text.so"
expect 2 "text.so" "$perdure" worker --module "$here/text.so"

# ---- options of a worker that cannot be meant
run=("$perdure" worker --module "$samples/hello.so")
kafka=kafka://127.0.0.1:1/shop
for wrong in 1ms 1d 0s; do
    expect 2 "session-timeout: \"$wrong\" is not from 1s to 1h" "${run[@]}" --log $kafka --session-timeout $wrong
done
expect 2 "watchdog: \"1ms\" is not from 500ms to 30d" "${run[@]}" --watchdog 1ms
expect 2 "life: \"0s\" is not from 1s to 365d" "${run[@]}" --life 0s
expect 2 "drain-timeout: .* is not from 0s to 30d" "${run[@]}" --drain-timeout 1000000000d
expect 2 "keep: .* is not from 1s to 36500d" "${run[@]}" --keep 100000000d
expect 2 "keep: .* is not from 0s to 36500d" "$perdure" start hello --id x --input '"x"' --keep 100000000d
expect 2 "job rate of \"hello\" is given twice" "${run[@]}" --no-supervisor --job-rate hello=5/s,hello=6/s
expect 2 "1 to 127 bytes" "${run[@]}" --name "$(printf '%128s' x)"
expect 2 "1 to 127 bytes" "${run[@]}" --name ''
for option in "--standby 1" --leave "--queue-rate q=1/s" "--queue-limit q=5" "--session-timeout 6s"; do
    expect 2 "${option%% *} is for a worker on Kafka" "${run[@]}" $option
done

# ---- with a worker
worker_start "$samples/hello.so" "$samples/checkout.so" --data "$here/data"
expect 0 "Hello, Ada" "$perdure" result early --wait 20s
expect 0 "started" "$perdure" start hello/hello --id h1 --input '"Bob"'
same "completed" "$(json 'o["state"]' "$perdure" result h1 --wait 20s --json)"
same "id,type,state,result" "$(json '",".join(o)' "$perdure" result h1 --json)"
expect 0 "was started before" "$perdure" start hello --id h1 --input '"Bob"'
expect 2 "another input" "$perdure" start hello --id h1 --input '"Eve"'
expect 2 "is taken" "$perdure" start checkout --id h1 --input '{}'
expect 0 "started" "$perdure" start hello --id h1 --input '"Eve"' --again
expect 0 "Hello, Eve" "$perdure" result h1 --wait 20s
expect 2 "no job type \"nope\"; known: hello/hello, shop/checkout" "$perdure" start nope --id n --input '{}'
expect 2 "line 1, column 7" "$perdure" start checkout --id n --input '{"id":}'
expect 2 "cents: expected a whole number, not \"x\"" "$perdure" start checkout --id n --input '{"cents":"x"}'
expect 2 "prise: shop.Order has no such field" "$perdure" start checkout --id n --input '{"prise":1}'
expect 2 "bytes, at most" "$perdure" start hello --id n --input "@"<(head -c 1000000 /dev/zero | tr '\0' x | sed 's/.*/"&"/')
expect 3 "no job \"n\"" "$perdure" result n --wait 5s
expect 3 "n" "$perdure" signal n approved --input '{}'

# ---- a job that waits
echo '{"id":"o1","article":"lamp","cents":500,"address":"Main St 1"}' >"$here/order.json"
expect 0 '"existed":false' "$perdure" start checkout --id c1 --input "@$here/order.json" --json
for _ in $(seq 50); do
    [ "$(json 'o["state"] + str(len(o["waiting"]))' "$perdure" describe c1 --json)" = waiting1 ] && break
    sleep 0.1
done
same "signal approved" "$(json 'o["waiting"][0]["kind"] + " " + o["waiting"][0]["name"]' "$perdure" describe c1 --json)"
same "['id', 'type', 'state', 'created', 'updated', 'events', 'worker', 'build', 'input', 'waiting']" \
    "$(json '[k for k in "id type state created updated events worker build input waiting".split() if k in o]' \
        "$perdure" describe c1 --json)"
same "['file', 'function', 'line']" "$(json 'sorted(o["waiting"][0]["site"])' "$perdure" describe c1 --json)"
expect 0 "signal approved at .*checkout.c:[0-9]+" "$perdure" describe c1
expect 4 "has not ended" "$perdure" result c1
expect 0 "c1 .*waiting" "$perdure" list --state waiting
same "['c1']" "$(json '[j["id"] for j in rows]' "$perdure" list --state waiting --json)"
same "['c1']" "$(json '[j["id"] for j in rows]' "$perdure" list --type checkout --json)"

# describe with no worker alive
expect 0 "" grep -q "means nothing on an embedded log" "$here/worker.out"
worker_stop KILL
same "waiting" "$(json 'o["state"]' "$perdure" describe c1 --json)"
expect 0 "waits for a worker" "$perdure" signal c1 approved --input '{"ok":true,"by":"me"}'
worker_start "$samples/hello.so" "$samples/checkout.so"
expect 0 '"state":"completed"' "$perdure" result c1 --wait 20s --json
same "True" "$(json '[e["seq"] for e in rows] == list(range(1, len(rows) + 1))' "$perdure" history c1 --json)"
same "True" "$(json 'all(k in e for e in rows for k in ["seq", "time", "type", "name", "site"])' "$perdure" history c1 --json)"
same "started completed" "$(json 'rows[0]["type"] + " " + rows[-1]["type"]' "$perdure" history c1 --json)"
expect 0 "^SEQ +TIME +EVENT" "$perdure" history c1

# ---- ends that are not good
expect 0 "started" "$perdure" start checkout --id c2 --input "@$here/order.json"
expect 0 "asked to stop" "$perdure" cancel c2 --reason "changed my mind"
expect 1 '"state":"cancelled"' "$perdure" result c2 --wait 20s --json
same "Cancelled: changed my mind" "$(json 'o["error"]["type"] + ": " + o["error"]["message"]' "$perdure" result c2 --json)"
expect 0 "^c2 .* changed my mind$" "$perdure" list --state cancelled
expect 0 "started" "$perdure" start checkout --id c3 --input "@$here/order.json"
expect 0 "terminated" "$perdure" terminate c3
expect 1 '"state":"terminated"' "$perdure" result c3 --wait 20s --json
same None "$(json 'o["error"]' "$perdure" result c3 --json)"
expect 2 "has ended" "$perdure" signal c3 approved --input '{"ok":true}'
expect 1 '"error":' "$perdure" start checkout --id c4 --input '{"id":"o4"}' --wait 20s --json

# ---- a request is one job's
expect 0 "started" "$perdure" start hello --id q1 --input '"x"' --request R
expect 0 "was started before" "$perdure" start hello --id q1 --input '"y"' --request R
expect 0 "started" "$perdure" start hello --id q2 --input '"y"' --request R
expect 0 "Hello, y" "$perdure" result q2 --wait 20s

# ---- one start of many at once
for _ in $(seq 16); do
    "$perdure" start hello --id many --input '"x"' >>"$here/many" &
    starts+=($!)
done
for start in "${starts[@]}"; do wait "$start" || fail "one of 16 equal starts failed"; done
same 1 "$(grep -c ': started' "$here/many")"
expect 0 "Hello, x" "$perdure" result many --wait 20s

# ---- the worker ends well
kill -TERM "$worker"
wait "$worker" || fail "the worker's exit code is $?"
worker=
[ -x "$PERDURE_BUILD/perdure-verify" ] && expect 0 "" "$perdure" verify "$PERDURE_LOG"
echo "all verbs do what they should"
