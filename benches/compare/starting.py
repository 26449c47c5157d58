"""Start and memory: from nothing to the first result, and the most memory on the way.

frit: the wall clock of the whole process `frit run`, and how long of it is opening (`load_s` of `frit bench`: mapping,
checking every byte, planning). The first run is arithmetic that no engine can leave out. ONNX Runtime: opening its own optimised file and the first run,
timed inside the process after imports, so that Python's start does not count against it; its memory is the process's
peak less what it was before the session.
"""

import json
import subprocess
import sys
import time

from engines import frit_bench, onnxruntime_session
from prepare import compile_for_frit, prepare
from timing import alternate, ratios, spread, table

PEER = """
import json, sys, time
import numpy as np, onnxruntime
path, arrays, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
feeds = dict(np.load(arrays))
peak = lambda: next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
before, start = peak(), time.perf_counter()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
opened = time.perf_counter()
known = {i.name for i in session.get_inputs()}
session.run(None, {k: v for k, v in feeds.items() if k in known})
done = time.perf_counter()
print(json.dumps({"seconds": done - start, "open": opened - start, "bytes": peak() - before}))
"""


def ours(a, files, artifact):
    """Seconds of `frit run`; seconds of opening and peak memory as `frit bench` has them for one run."""
    command = [a.frit, "run", artifact, "--inputs", files.inputs, "--outputs", files.folder / "out.safetensors",
               "--threads", a.threads]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    said = frit_bench(a.frit, artifact, files.inputs, a.threads, 1)
    return {"seconds": seconds, "open": said["load_s"], "bytes": said["peak_rss_bytes"]}


def theirs(a, files, optimised):
    done = subprocess.run([sys.executable, "-c", PEER, optimised, files.arrays, str(a.threads)],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def start(a):
    rows = []
    for name in a.names or ["bert", "xlsr", "xlsr-second1"]:
        files = prepare(name, a.work)
        artifact = compile_for_frit(a.frit, files)
        optimised = files.folder / "optimised.onnx"
        if not optimised.exists():
            onnxruntime_session(files.onnx, a.threads, optimised)
        engines = {"frit": lambda: ours(a, files, artifact), "peer": lambda: theirs(a, files, optimised)}
        got = alternate(engines, max(3, a.rounds // 2))
        column = lambda engine, key: [r[key] for r in got[engine]]
        rows.append([name])
        for key in ("open", "seconds"):
            ours_, theirs_ = column("frit", key), column("peer", key)
            rows[-1] += [spread(ours_, digits=3), spread(theirs_, digits=3), spread(ratios(ours_, theirs_), digits=3)]
        rows[-1] += [
            spread(column("frit", "bytes"), 1e-6, 0), spread(column("peer", "bytes"), 1e-6, 0),
            spread(ratios(column("frit", "bytes"), column("peer", "bytes")), digits=2),
            f"{artifact.stat().st_size / 1e6:.0f}"]
        if a.clean:
            files.clean()
    print(f"\nProcess start to first result, files in the page cache, {a.threads} threads\n")
    print(table(["model", "frit opens, s", "ONNX Runtime opens, s", "ratio", "frit to the first result, s",
                 "ONNX Runtime, s", "ratio", "frit peak, MB",
                 "ONNX Runtime peak, MB", "ratio", "artifact, MB"], rows), flush=True)
