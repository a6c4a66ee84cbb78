"""Measures what Ray, Dask and Pillow do on this machine, for the benchmarks that compare Tally with them.

    peers.sh NAME [--json] [--units N] [--image FILE [--out FILE]]

dispatch    units that return their 1 KiB of input: units per second, submit of the first to result of the last
latency     one such unit at a time, warm: submit to result
efficiency  units of 100 ms of processor time: share of the cores' time that was spent in units
kernels     nothing to compare with
image       Gaussian blur of a PNG file into a PNG file: seconds, and how they are shared

Ray and Dask get two workers of one core each, on loopback. They have nothing signed, checked by a second worker or
kept on disk, as Tally's units are. The one JSON object on the last line of the output has a member for each peer.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time

WORKERS = 2
UNIT_BYTES = 1024
# Submitted before anything is measured: starts processes, fills caches.
WARM_UNITS = 200
UNITS = {"dispatch": 20_000, "latency": 300, "efficiency": 200, "kernels": 0, "image": 3}
UNITS_MAX = 200_000
BUSY_SECONDS = 0.1
BLUR_RADIUS = 3
# Pillow's own default.
COMPRESS_LEVEL = 6


def echo(payload: bytes) -> bytes:
    return payload


def busy(_: int) -> float:
    """Computes for a tenth of a second and returns the processor time that it took."""
    start = time.thread_time()
    while (spent := time.thread_time() - start) < BUSY_SECONDS:
        pass
    return spent


class Ray:
    """Ray as its users start it on one machine, without its dashboard and telemetry."""

    def __init__(self, folder: str):
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self.ray = ray
        ray.init(
            num_cpus=WORKERS,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=256 << 20,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
        )
        self.remote = {function: ray.remote(function) for function in (echo, busy)}

    def map(self, function, inputs: list) -> list:
        remote = self.remote[function]
        return self.ray.get([remote.remote(item) for item in inputs])

    def close(self):
        self.ray.shutdown()


class Dask:
    """Dask's distributed scheduler with two worker processes."""

    def __init__(self, folder: str):
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"temporary-directory": folder})
        self.cluster = LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=folder,
            silence_logs="ERROR",
        )
        self.client = Client(self.cluster)

    def map(self, function, inputs: list) -> list:
        # Not pure: equal inputs are computed again, as the other does.
        return self.client.gather(self.client.map(function, inputs, pure=False))

    def close(self):
        self.client.close()
        self.cluster.close()


def payloads(count: int) -> list:
    return [index.to_bytes(8, "little") * (UNIT_BYTES // 8) for index in range(count)]


def dispatch(peer, count: int) -> dict:
    inputs = payloads(count)
    start = time.perf_counter()
    outputs = peer.map(echo, inputs)
    seconds = time.perf_counter() - start
    assert outputs == inputs
    return {"units": count, "seconds": seconds, "units_per_s": count / seconds}


def latency(peer, count: int) -> dict:
    millis = []
    for payload in payloads(count):
        start = time.perf_counter()
        peer.map(echo, [payload])
        millis.append((time.perf_counter() - start) * 1e3)
    tenths = statistics.quantiles(millis, n=10)
    return {"units": count, "median_ms": statistics.median(millis), "p90_ms": tenths[8]}


def efficiency(peer, count: int) -> dict:
    start = time.perf_counter()
    spent = sum(peer.map(busy, list(range(count))))
    seconds = time.perf_counter() - start
    return {"units": count, "seconds": seconds, "efficiency": spent / (WORKERS * seconds)}


def image(source: str, target: str, count: int) -> dict:
    from PIL import Image, ImageFilter, __version__

    runs = []
    for _ in range(count):
        start = time.perf_counter()
        with Image.open(source) as picture:
            picture.load()
            decoded = time.perf_counter()
            # The radius is the standard deviation; Pillow comes near to it with three box blurs.
            result = picture.filter(ImageFilter.GaussianBlur(BLUR_RADIUS))
            blurred = time.perf_counter()
            result.save(target, compress_level=COMPRESS_LEVEL)
            encoded = time.perf_counter()
        runs.append((encoded - start, decoded - start, blurred - decoded, encoded - blurred))
    # The run in the middle as a whole, so that its parts add up.
    total, decode, blur, encode = sorted(runs)[len(runs) // 2]
    return {
        "version": __version__,
        "runs": count,
        "size": [result.width, result.height],
        "mode": result.mode,
        "radius": BLUR_RADIUS,
        "compress_level": COMPRESS_LEVEL,
        "seconds": total,
        "decode_s": decode,
        "blur_s": blur,
        "encode_s": encode,
        "input_bytes": os.path.getsize(source),
        "output_bytes": os.path.getsize(target),
    }


def measure(arguments, folder: str) -> dict:
    count = arguments.units or UNITS[arguments.name]
    if arguments.name == "kernels":
        return {}
    if arguments.name == "image":
        target = arguments.out or os.path.join(folder, "blurred.png")
        return {"pillow": image(arguments.image, target, count)}
    measured = {}
    for name, start in (("ray", Ray), ("dask", Dask)):
        # One after the other, so that each has the machine for itself.
        with contextlib.closing(start(folder)) as peer:
            peer.map(echo, payloads(WARM_UNITS))
            measured[name] = globals()[arguments.name](peer, count)
    return measured


def show(measured: dict):
    for peer, figures in measured.items():
        for figure, value in figures.items():
            text = f"{value:,.3f}" if isinstance(value, float) else str(value)
            print(f"{peer:8} {figure:16} {text}")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=UNITS)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--units", type=int, help="units (runs, for image) to measure")
    parser.add_argument("--image", help="the PNG file to blur, e.g. from make_image.py")
    parser.add_argument("--out", help="where the blurred file is to stay; else it is deleted")
    arguments = parser.parse_args()
    if arguments.units is not None and not 2 <= arguments.units <= UNITS_MAX:
        parser.error(f"--units must be 2 to {UNITS_MAX}")
    if arguments.name == "image" and not arguments.image:
        parser.error("image needs --image FILE")
    return arguments


def main():
    arguments = parse_arguments()
    # An end from outside also goes through the clean-up below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        # Short, because Ray's sockets lie in it and their paths are limited to 107 bytes.
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="tb", ignore_cleanup_errors=True)
        )
        # What the peers print goes to stderr; stdout is for the figures.
        with contextlib.redirect_stdout(sys.stderr):
            measured = measure(arguments, folder)
    if arguments.json:
        print(json.dumps(measured))
    else:
        show(measured)


if __name__ == "__main__":
    main()
