"""Modules that are none: each is refused at the worker's start, by name and reason, and the worker does not start."""
import os
import shutil
import subprocess

from harness import Log, Worker, check, module

SOURCE = os.environ["PERDURE_SOURCE"]


def compile(log, name, text):
    path = os.path.join(log.folder, name)
    with open(path + ".c", "w") as file:
        file.write(text)
    done = subprocess.run(["cc", "-shared", "-fPIC", "-std=gnu11", "-I", os.path.join(SOURCE, "runtime/include"),
                           "-Wl,--build-id", "-o", path + ".so", path + ".c"], text=True, capture_output=True)
    check(done.returncode == 0, done.stderr)
    return path + ".so"


JOB = """
#include <perdure/perdure.h>
%s
PDR_JOB(nothing, pdr_none, pdr_none)
int nothing(pdr_job *job, const pdr_none *in, pdr_none *out) { (void)job, (void)in, (void)out; return PDR_OK; }
%s
"""


def refused(log, words, *modules):
    worker = Worker(log, *modules)
    worker.wait_ended(2, words[0], seconds=60)
    for word in words:
        check(word in worker.text(), "%r is not in what the worker said:\n%s" % (word, worker.text()))


def main():
    log = Log("sqlite")
    text = os.path.join(log.folder, "text.so")
    with open(text, "w") as file:
        file.write("no shared object")
    refused(log, ["/nowhere/at-all.so", "No such file"], "/nowhere/at-all.so")
    refused(log, ["text.so", "does not load"], text)
    refused(log, ["none.so", "PDR_MODULE"], compile(log, "none", "int x;"))
    refused(log, ["unresolved.so", "does not load", "nobody_has_this"],
            compile(log, "unresolved", "int nobody_has_this(void); int x(void) { return nobody_has_this(); }"))
    refused(log, ["old.so", "version 999", "build it again"],
            compile(log, "old", JOB % ("#undef PDR_HEADER_VERSION\n#define PDR_HEADER_VERSION 999",
                                       "PDR_MODULE(old, PDR_RUNS(nothing));")))
    refused(log, ["twice.so", "'nothing' twice"],
            compile(log, "twice", JOB % ("", "PDR_MODULE(twice, PDR_RUNS(nothing), PDR_RUNS(nothing));")))
    copy = os.path.join(log.folder, "copy.so")
    shutil.copy(module("checkout"), copy)
    refused(log, ["copy.so", "'shop'", "already"], module("checkout"), copy)

    # A job whose step no module has: the job says so, the worker goes on.
    lonely = compile(log, "lonely", """
#include <perdure/perdure.h>
PDR_JOB(lonely, pdr_none, pdr_text)
PDR_STEP(elsewhere, pdr_none, pdr_text)
int lonely(pdr_job *job, const pdr_none *in, pdr_text *out)
{
    (void)in, (void)out;
    return pdr_await(job, elsewhere, PDR_NONE, NULL);
}
PDR_MODULE(lonely, PDR_RUNS(lonely));
""")
    worker = Worker(log, lonely, "hello")
    worker.wait_for("is ours")
    done = log.run("start", "lonely", "--id", "l", "--wait", "5s", "--json")
    check("elsewhere" in done.stdout or "elsewhere" in log.run("describe", "l").stdout,
          "nothing names the missing step: %s%s" % (done.stdout, log.run("describe", "l").stdout))
    check(log.run("start", "hello", "--id", "h", "--input", '"Ann"', "--wait", "10s").returncode == 0, "a good job")
    check(worker.stop() == 0, "the worker failed: " + worker.text())
    log.remove()


main()
