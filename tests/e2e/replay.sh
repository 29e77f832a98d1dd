#!/bin/bash
# Histories from a log and from files, run against the module that made them and against one that differs.
. "$(dirname "$0")/lib_command.sh"

# module FILE STEPS: a module of one job, whose function makes these calls
module() {
    cat >"$here/$1.c" <<END
#include <perdure/perdure.h>
PDR_STEP(one, pdr_text, pdr_text, .in_place = true)
PDR_STEP(two, pdr_text, pdr_text, .in_place = true)
PDR_JOB(walk, pdr_text, pdr_text)
int one(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    *out = *in;
    return attempt ? PDR_OK : PDR_FAILED;
}
int two(pdr_attempt *attempt, const pdr_text *in, pdr_text *out)
{
    *out = *in;
    return attempt ? PDR_OK : PDR_FAILED;
}
int walk(pdr_job *job, const pdr_text *in, pdr_text *out)
{
    pdr_text *got;
    $2
    *out = *got;
    return PDR_OK;
}
PDR_MODULE(trail, PDR_RUNS(walk), PDR_RUNS(one), PDR_RUNS(two));
END
    cc -std=gnu11 -shared -fPIC -Wl,--build-id -I"$PERDURE_SOURCE/runtime/include" -o "$here/$1.so" "$here/$1.c"
}
module same 'PDR_TRY(pdr_await(job, one, in, &got)); PDR_TRY(pdr_await(job, two, got, &got));'
module other 'PDR_TRY(pdr_await(job, one, in, &got)); PDR_TRY(pdr_await(job, one, got, &got));'

worker_start "$here/same.so"
expect 0 '"value"' "$perdure" start walk --id w1 --input '"value"' --wait 20s
expect 0 '"other"' "$perdure" start walk --id w2 --input '"other"' --wait 20s

# while the worker lives, and after it
expect 0 "same: all 4 events agreed; the job has ended" "$perdure" replay --module "$here/same.so" w1
worker_stop TERM
before=$(sha256sum "$here/perdure.db")
expect 0 "same: all 4 events agreed" "$perdure" replay --module "$here/same.so" w1 w2
expect 0 "2 of 2 histories are the same" "$perdure" replay --module "$here/same.so" w1 w2
expect 0 'step_completed +trail/two .*"value"' "$perdure" replay --module "$here/same.so" w1
expect 1 "DIFFERENT after 2 of 4 events" "$perdure" replay --module "$here/other.so" w1
expect 1 "recorded.*trail/two" "$perdure" replay --module "$here/other.so" w1
expect 1 "attempted.*trail/one" "$perdure" replay --module "$here/other.so" w1
same "diverged 2" "$(json 'o["verdict"] + " " + str(o["agreed"])' \
    sh -c '"$0" "$@" || test $? = 1' "$perdure" replay --json --module "$here/other.so" w1)"
same "same" "$(json 'o["verdict"]' "$perdure" replay --json --module "$here/same.so" w1)"
same "$before" "$(sha256sum "$here/perdure.db")"

# files
mkdir "$here/histories"
expect 0 "4 events in" "$perdure" export w1 -o "$here/histories/w1"
expect 0 '"events":4' "$perdure" export w2 -o "$here/histories/w2" --json
expect 3 "no events" "$perdure" export nobody -o "$here/none"
expect 2 "cannot write" "$perdure" export w1 -o "$here/no/folder"
rm "$here"/perdure.db*
expect 0 "2 of 2 histories are the same" "$perdure" replay --quiet --module "$here/same.so" "$here/histories"
expect 1 "0 of 2 histories are the same" "$perdure" replay --quiet --module "$here/other.so" "$here/histories"
expect 2 "they have: hello/hello" "$perdure" replay --module "$samples/hello.so" "$here/histories/w1"
printf x | dd of="$here/histories/w1" bs=1 seek=100 conv=notrunc status=none
expect 2 "w1: the file is damaged" "$perdure" replay --quiet --module "$here/same.so" "$here/histories"
echo nonsense >"$here/text"
expect 2 "no exported history" "$perdure" replay --module "$here/same.so" "$here/text"
expect 2 "nothing.so" "$perdure" replay --module "$here/nothing.so" "$here/text"

# the code that replays knows no log, no client and no step
object=$(find "$PERDURE_BUILD" -path '*perdure.dir/replay/replayer.c.o' | head -1)
[ -n "$object" ] || fail "the object file of replay/replayer.c is not there"
if nm -u "$object" | grep -E ' (log_|client_|attempt_|engine_|store_|kafka_|sqlite)'; then
    fail "replay/replayer.c calls what it must not know"
fi
echo "replay agrees, differs and touches nothing, as it should"
