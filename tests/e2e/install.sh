#!/bin/bash
# What `cmake --install` puts in place is enough for users: a module and a program of their own, by pkg-config and by
# find_package, from a folder that knows nothing of the checkout.
set -euo pipefail
: "${PERDURE_BUILD:?}" "${PERDURE_SOURCE:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "install: $*" >&2; exit 1; }

cmake --install "$PERDURE_BUILD" --prefix "$work/prefix" >"$work/log" || { cat "$work/log" >&2; exit 1; }
lib=$(dirname "$(find "$work/prefix" -name libperdure.so)")

# Only the public functions are seen, and the checker has nothing of the library.
others=$(nm -D --defined-only "$lib/libperdure.so" | awk '$2 != "A" { print $3 }' | grep -v '^pdr_' || true)
[ -z "$others" ] || fail "symbols that are not public: $others"
nm -D --defined-only "$lib/libperdure.so" | grep -q ' pdr_version$' || fail "pdr_version is not exported"
readelf -d "$lib/libperdure.so" | grep -q 'SONAME.*\[libperdure\.so\.0\]' || fail "wrong SONAME"
if readelf -d "$work/prefix/bin/perdure-verify" | grep -q 'NEEDED.*libperdure' ||
    nm "$work/prefix/bin/perdure-verify" | grep -q ' pdr_'; then
    fail "perdure-verify has parts of libperdure in it"
fi

mkdir "$work/user"
cd "$work/user"
cp "$PERDURE_SOURCE/workers/samples/hello/hello.c" .
cat >version.c <<'END'
#include <perdure/perdure.h>
#include <stdio.h>
int main(void) { return puts(pdr_version()) < 0; }
END

export PKG_CONFIG_PATH=$lib/pkgconfig
flags=$(pkg-config --cflags --libs perdure)
# shellcheck disable=SC2086
cc -std=gnu11 -Wall -Wextra -Werror version.c -o version $flags "-Wl,-rpath,$lib"
[ "$(./version)" = "$(pkg-config --modversion perdure)" ] || fail "pkg-config and pdr_version differ"
# shellcheck disable=SC2086
cc -std=gnu11 -Wall -Wextra -Werror -shared -fPIC hello.c -o hello.so $(pkg-config --cflags perdure)

cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.24)
project(user C)
find_package(perdure 0.1 REQUIRED)
perdure_module(hello hello.c)
add_executable(version version.c)
target_link_libraries(version PRIVATE perdure::perdure)
END
cmake -G Ninja -B build -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 && cmake --build build >>"$work/log" 2>&1 ||
    { cat "$work/log" >&2; fail "find_package build failed"; }
build/version >/dev/null
readelf -n build/hello.so | grep -q 'Build ID' || fail "a module without build id"
if nm -D --defined-only "$work/prefix/bin/perdure" | grep -q ' pdr_version$'; then
    echo "install: ok"
else
    fail "perdure does not offer pdr_ functions to modules"
fi
