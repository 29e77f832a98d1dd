#!/bin/sh
# What must not compile does not, in every compiler that is here, also where perdure.h is a system header and warnings
# are off; and what must, does.
set -eu
source=${PERDURE_SOURCE:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
protoc-c -I "$source/workers/samples/checkout" -I /usr/include --c_out="$work" shop.proto
cat >"$work/head.h" <<'END'
#include "shop.h"
int body(pdr_job *job, const Order *order);
END
failed=0
compilers=all

# compile KIND COMPILER FLAGS...: the body in $work/body
compile() {
    compiler=$1
    shift
    "$compiler" "$@" -w -fsyntax-only -isystem "$source/runtime/include" -I "$work" -I "$source/workers/samples/checkout" \
        "$work/case.c" >"$work/out" 2>&1
}

try() { # try WANTED(ok|error) NAME CODE
    printf '#include "head.h"\nint body(pdr_job *job, const Order *order)\n{\n%s\n return PDR_OK;\n}\n%s\n' \
        "    Receipt *receipt; Reservation *reservation; Approval *approval; Approval no = pdr_init(Approval);
    (void)receipt; (void)reservation; (void)approval; (void)no; (void)job; (void)order;
$3" "${4:-}" >"$work/case.c"
    for how in "gcc -std=gnu11" "gcc -std=gnu2x" "clang-14 -std=gnu11" "g++ -x c++ -std=c++17" "g++ -x c++ -std=c++20" \
        "clang-14 -x c++ -std=c++17"; do
        command -v "${how%% *}" >/dev/null || continue
        case $compilers/$how in c/*c++*) continue ;; esac
        # shellcheck disable=SC2086
        if compile $how; then got=ok; else got=error; fi
        if [ "$got" != "$1" ]; then
            echo "$how: '$2' gave $got, not $1"
            cat "$work/out"
            failed=1
        fi
    done
}

try ok "the right types" 'PDR_TRY(pdr_await(job, charge, order, &receipt, .max_attempts = 2));
    PDR_TRY(pdr_await(job, charge, order, NULL)); pdr_compensate(job, refund, receipt);
    PDR_TRY(pdr_receive(job, approved, &approval)); PDR_TRY(pdr_send(job, approved, "x", &no));
    pdr_future(charge) f = pdr_start(job, charge, order); pdr_future t = pdr_timer(job, 5);
    PDR_TRY(pdr_any(job, f.any, t)); PDR_TRY(pdr_join(job, charge, f, &receipt));'
try error "wrong input" 'PDR_TRY(pdr_await(job, charge, &no, &receipt));'
try error "wrong result" 'PDR_TRY(pdr_await(job, charge, order, &reservation));'
try error "no input" 'void *nothing = 0; PDR_TRY(pdr_await(job, charge, nothing, &receipt));'
try error "wrong input of a compensation" 'pdr_compensate(job, refund, order);'
try error "wrong signal" 'PDR_TRY(pdr_receive(job, approved, &receipt));'
try error "wrong message to another job" 'PDR_TRY(pdr_send(job, approved, "x", order));'
try error "wrong future" 'pdr_future(charge) f = pdr_start(job, reserve, order);'
try error "wrong result of a join" 'pdr_future(charge) f = pdr_start(job, charge, order);
    PDR_TRY(pdr_join(job, charge, f, &approval));'
try error "a future where .any is meant" 'pdr_future(charge) f = pdr_start(job, charge, order); PDR_TRY(pdr_any(job, f));'
try error "misspelled name" 'PDR_TRY(pdr_await(job, chrage, order, &receipt));'
try error "misspelled option" 'PDR_TRY(pdr_await(job, charge, order, &receipt, .max_attempt = 5));'
try error "option of another verb" 'PDR_TRY(pdr_receive(job, approved, &approval, .max_attempts = 5));'
compilers=c # in C++ it would be an overload, which the linker misses
try error "body unlike its declaration" '' \
    'int reserve(pdr_attempt *attempt, const Receipt *in, Reservation *out) { return attempt && in && out; }'
[ $failed = 0 ] && echo "wrong types are errors, right ones are not"
exit $failed
