"""
What a stranger sees of the first command: the demo in a terminal, recorded by `script`. A progress bar that moves, the
kill, `replayed N events`, the result, and the manifest byte for byte that of sha256sum.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from harness import BUILD, check

FILES = 300


def main():
    if shutil.which("script") is None:
        print("skipped: no script")
        sys.exit(77)
    folder = tempfile.mkdtemp(prefix="perdure-e2e-")
    tree = os.path.join(folder, "tree")
    for i in range(FILES):
        path = os.path.join(tree, "d %d" % (i % 7), "file-%d" % i)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write("%d\n" % i * i)
    demo = os.path.join(os.environ["PERDURE_SOURCE"], "workers", "samples", "demo")
    recording = os.path.join(folder, "recording")
    work = os.path.join(folder, "work")
    os.mkdir(work)
    environment = dict(os.environ, TERM="xterm", PERDURE_BUILD=BUILD, PERDURE_DEMO=work, PERDURE_STEP_DELAY_MS="60")
    environment.pop("PERDURE_LOG", None)
    done = subprocess.run(["script", "-q", "-e", "-c", "bash '%s' '%s'" % (demo, tree), recording], env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    with open(recording, errors="replace", newline="") as file:
        seen = file.read()
    print(seen)
    check(done.returncode == 0, "the demo ended with %d" % done.returncode)

    # The bar is drawn again and again on one line, and grows.
    bars = [(len(match.group(1)), int(match.group(2)))
            for match in re.finditer(r"\r\s*\[(#*)\.*\] (\d+) of %d files" % FILES, seen)]
    counts = [count for width, count in bars]
    check(len(set(counts)) >= 4 and counts == sorted(counts), "the progress bar shows %s" % counts)
    check(bars[-1] == (40, FILES), "the progress bar ends at %s" % (bars[-1],))
    killed = seen.index("kill -9")
    replayed = re.search(r"replayed (\d+) events in [\d.]+ ms, going on at (\S+):(\d+)", seen)
    check(replayed is not None and replayed.start() > killed, "no replay after the kill")
    check(FILES // 5 < int(replayed.group(1)) < FILES, "replayed %s events" % replayed.group(1))
    check(replayed.group(2).endswith("manifest.c"), "going on at " + replayed.group(2))
    check(seen.index("Result:") > replayed.start() and '"files":%d' % FILES in seen.replace(" ", ""), "no result")
    check("perdure describe demo" in seen and "perdure history demo" in seen, "it does not say how to look at it")

    expected = subprocess.run("find . -type f | sed 's#^\\./##' | LC_ALL=C sort | xargs -d '\\n' sha256sum", shell=True,
                              cwd=tree, stdout=subprocess.PIPE, check=True).stdout
    with open(os.path.join(work, "SHA256SUMS"), "rb") as file:
        check(file.read() == expected, "the manifest differs from sha256sum's")
    # What it says to look at can be looked at.
    for line in re.findall(r"^  (\S*perdure (?:describe|history|replay) .*?)\r?$", seen, re.M):
        look = subprocess.run(line, shell=True, text=True, capture_output=True,
                              env=dict(environment, PERDURE_LOG="sqlite:" + os.path.join(work, "perdure.db")))
        check(look.returncode == 0, "%s: exit %d %s" % (line, look.returncode, look.stderr))
    shutil.rmtree(folder)


main()
