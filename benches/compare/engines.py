"""The engines that are timed, each as a function that gives the seconds of one run. How often and in which order they
are called is in timing.py.
"""

import json
import subprocess
import time


def frit_bench(frit, model, inputs, threads, runs, *more):
    """What `frit bench --json` says."""
    command = [frit, "bench", model, "--threads", threads, "--runs", runs, "--json", *more]
    if inputs is not None:
        command += ["--inputs", inputs]
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def onnxruntime_session(path, threads, optimised=None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnxruntime_run(path, feeds, threads):
    session = onnxruntime_session(path, threads)
    known = {i.name for i in session.get_inputs()}
    feeds = {k: v for k, v in feeds.items() if k in known}
    return lambda: session.run(None, feeds)


def openvino_run(path, feeds, threads, precision="f32"):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    core = openvino.Core()
    request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()
    known = {name for i in request.model_inputs for name in i.names}
    feeds = {k: v for k, v in feeds.items() if k in known}
    return lambda: list(request.infer(feeds).values())


def torch_run(name, threads):
    import torch
    from models import MODELS

    torch.set_num_threads(threads)
    net, inputs, _ = MODELS[name].build()

    def run():
        with torch.no_grad():
            net(**inputs)

    return run


def seconds(run, runs):
    """Seconds of each of `runs` runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
