#!/usr/bin/env python3
"""Checks the built programs against other implementations, under a stock wasmtime that is not Tally's own host.

    pip install wasmtime==48.0.0
    check.py [--programs FOLDER] [--bench]

gaussian-blur is compared with its reference (portable.rs, compiled natively by the rustc on the path) on random tiles, and
tiles are compared with the whole image; wordcount with GNU wc; prime-count with a sieve in Python. --bench also prints how
long the metered blur takes beside native code, best of several runs, all in this process.
"""

import argparse
import ctypes
import math
import pathlib
import random
import struct
import subprocess
import tempfile
import time

import wasmtime

HERE = pathlib.Path(__file__).resolve().parent
SLACK = 128  # simd::SLACK
FUEL = 10**12


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, default=HERE.parent / "prebuilt")
    parser.add_argument("--bench", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        guests = Guests(options.programs, pathlib.Path(folder))
        native = Native(pathlib.Path(folder))
        checks = [check_blur_tiles, check_blur_weights, check_blur_refusals]
        for check in checks:
            check(guests, native)
        check_wordcount(guests)
        check_prime_count(guests)
        if options.bench:
            bench_blur(guests, native)


class Guests:
    """Runs the programs metered and with canonical NaNs, as Tally does."""

    def __init__(self, programs, folder):
        config = wasmtime.Config()
        config.consume_fuel = True
        config.cranelift_nan_canonicalization = True
        config.wasm_relaxed_simd = False
        self.engine = wasmtime.Engine(config)
        self.programs = programs
        self.folder = folder
        self.modules = {}

    def module(self, name):
        if name not in self.modules:
            self.modules[name] = wasmtime.Module.from_file(self.engine, str(self.programs / f"{name}.wasm"))
        return self.modules[name]

    def kernel(self, name, arguments, parameters, pixels, repeats=1):
        """Returns (output, fuel of the first run, seconds of the best)."""
        store = wasmtime.Store(self.engine)
        store.set_fuel(FUEL)
        instance = wasmtime.Instance(store, self.module(name), []).exports(store)
        text = b"\0".join(word.encode() for word in arguments + ([parameters] if parameters else []))
        data = struct.pack("<I", len(text)) + text + pixels
        address = instance["alloc"](store, len(data))
        instance["memory"].write(store, data, address)
        best, fuel = math.inf, None
        for _ in range(repeats):
            before, start = store.get_fuel(), time.perf_counter()
            packed = instance["run"](store, address, len(data))
            best = min(best, time.perf_counter() - start)
            fuel = fuel or before - store.get_fuel()
        start, length = (packed >> 32) & 0xFFFFFFFF, packed & 0xFFFFFFFF
        return bytes(instance["memory"].read(store, start, start + length)), fuel, best

    def command(self, name, arguments=(), environment=(), stdin=b""):
        """Returns (exit code, stdout, stderr, fuel)."""
        paths = [self.folder / stream for stream in ("stdin", "stdout", "stderr")]
        paths[0].write_bytes(stdin)
        store = wasmtime.Store(self.engine)
        store.set_fuel(FUEL)
        wasi = wasmtime.WasiConfig()
        wasi.argv = ["unit", *arguments]
        wasi.env = list(environment)
        wasi.stdin_file, wasi.stdout_file, wasi.stderr_file = map(str, paths)
        store.set_wasi(wasi)
        linker = wasmtime.Linker(self.engine)
        linker.define_wasi()
        code = 0
        try:
            linker.instantiate(store, self.module(name)).exports(store)["_start"](store)
        except wasmtime.ExitTrap as exit_trap:
            code = exit_trap.code
        return code, paths[1].read_bytes(), paths[2].read_bytes(), FUEL - store.get_fuel()


class Native:
    """blur_native.rs as a library."""

    def __init__(self, folder):
        library = folder / "libblur_native.so"
        source = HERE / "blur_native.rs"
        command = ["rustc", "--edition", "2021", "-C", "opt-level=3", "--crate-type", "cdylib", "-o", library, source]
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(library))

    def blur(self, function, radius, sigma_milli, geometry, pixels, repeats=1):
        """Returns (output, seconds of the best run)."""
        function = getattr(self.library, function)
        function.restype = ctypes.c_bool
        length = geometry[4] * geometry[5] * 4
        source = ctypes.create_string_buffer(pixels, len(pixels) + SLACK)
        output = ctypes.create_string_buffer(length + SLACK)
        best = math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            fine = function(source, (ctypes.c_uint32 * 8)(radius, sigma_milli, *geometry), output)
            best = min(best, time.perf_counter() - start)
            assert fine, "the native blur refused its arguments"
        return output.raw[:length], best

    def weights(self, radius, sigma_milli):
        half = (ctypes.c_int16 * (radius + 1))()
        assert self.library.blur_weights(radius, sigma_milli, half)
        return list(half)


def blur(guests, radius, sigma_milli, geometry, pixels):
    arguments = ["--radius", str(radius), "--sigma", f"{sigma_milli // 1000}.{sigma_milli % 1000:03}"]
    return guests.kernel("gaussian-blur", arguments, " ".join(map(str, geometry)), pixels)[0]


def check_blur_tiles(guests, native):
    """Whole images against the reference, then each image again from tiles with halos."""
    chance = random.Random(1)
    tiles = 0
    for case in range(100):
        radius = case % 32 + 1
        width, height = chance.choice([1, 2, 3, 7, 8, 9, 40, 97]), chance.choice([1, 2, 5, 33, 64])
        sigma = chance.choice([radius * 500, chance.randint(1, 64_000)])
        pixels = chance.randbytes(width * height * 4)
        whole, _ = native.blur("blur_portable", radius, sigma, (width, height, 0, 0, width, height), pixels)
        assert blur(guests, radius, sigma, (width, height, 0, 0, width, height), pixels) == whole
        assert native.blur("blur_sse2", radius, sigma, (width, height, 0, 0, width, height), pixels)[0] == whole
        core, halo = chance.randint(5, 60), radius + chance.choice([0, 3])
        stitched = bytearray(len(whole))
        for y in range(0, height, core):
            for x in range(0, width, core):
                geometry, tile = cut(pixels, width, height, (x, y), core, halo)
                output = blur(guests, radius, sigma, geometry, tile)
                for row in range(geometry[5]):
                    at = ((y + row) * width + x) * 4
                    stitched[at : at + geometry[4] * 4] = output[row * geometry[4] * 4 :][: geometry[4] * 4]
                tiles += 1
        assert stitched == whole, (radius, sigma, width, height, core, halo)
    for value in (0, 1, 127, 254, 255):
        flat = bytes([value]) * (50 * 50 * 4)
        assert blur(guests, 32, 16_000, (50, 50, 0, 0, 50, 50), flat) == flat
    print(f"gaussian-blur: 100 images and {tiles} tiles are bit for bit the reference; even areas stay as they are")


def cut(pixels, width, height, corner, core, halo):
    """Returns (geometry, pixels) of the tile at a corner."""
    x, y = corner
    left, top = min(halo, x), min(halo, y)
    core_width, core_height = min(core, width - x), min(core, height - y)
    right, bottom = min(x + core_width + halo, width), min(y + core_height + halo, height)
    rows = [pixels[(row * width + x - left) * 4 : (row * width + right) * 4] for row in range(y - top, bottom)]
    geometry = (right - x + left, bottom - y + top, left, top, core_width, core_height)
    return geometry, b"".join(rows)


def check_blur_weights(_, native):
    worst = 0
    for radius in range(1, 33):
        for sigma in {1, 300, 849, radius * 500, 12_345, 64_000}:
            half = native.weights(radius, sigma)
            assert half[0] + 2 * sum(half[1:]) == 1 << 14 and min(half) >= 0
            bell = [math.exp(-(t**2) / (2 * (sigma / 1000) ** 2)) for t in range(radius + 1)]
            total = bell[0] + 2 * sum(bell[1:])
            worst = max(worst, *(abs(a - (1 << 14) * b / total) for a, b in zip(half, bell)))
    assert worst < 1.01
    print(f"gaussian-blur: weights sum to 2^14 and are at most {worst:.3f} steps from the true ones")


def check_blur_refusals(guests, _):
    good = (["--radius", "1"], "2 2 0 0 2 2", bytes(16))
    bad = [
        ([], good[1], good[2]),
        (["--radius", "0"], good[1], good[2]),
        (["--radius", "33"], good[1], good[2]),
        (["--radius", "1", "--sigma", "0"], good[1], good[2]),
        (["--radius", "1", "--sigma", "64.001"], good[1], good[2]),
        (["--radius", "1", "--sigma", "1.2345"], good[1], good[2]),
        (["--radius", "1", "--blur"], good[1], good[2]),
        (good[0], "", good[2]),
        (good[0], "2 2 0 0 2", good[2]),
        (good[0], "2 2 0 0 2 2 2", good[2]),
        (good[0], "2 2 1 0 2 2", good[2]),
        (good[0], "2 2 0 0 0 2", good[2]),
        (good[0], "4294967295 2 0 0 2 2", good[2]),
        (good[0], good[1], bytes(15)),
        (good[0], good[1], bytes(20)),
    ]
    guests.kernel("gaussian-blur", *good)
    for arguments, parameters, pixels in bad:
        try:
            guests.kernel("gaussian-blur", arguments, parameters, pixels)
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            continue
        raise AssertionError(("not refused", arguments, parameters, len(pixels)))
    print(f"gaussian-blur: {len(bad)} malformed inputs trap")


def check_wordcount(guests):
    chance = random.Random(2)
    inputs = [b"", b" ", b"a", b"\x01", b"a\x01b \x80 c\xffd", b"a" * 65_536 + b"b", b" " * 65_535 + b"ab"]
    for _ in range(150):
        alphabet = chance.choice([bytes(range(256)), b"ab \n", b"a\x00 ", b"a\x80\xff\t", b"\x01\x02 a"])
        inputs.append(bytes(chance.choices(alphabet, k=chance.choice([3, 63, 64, 65, 1000, 65_535, 65_537, 200_000]))))
    for data in inputs:
        expected = subprocess.run(["wc", "-w"], input=data, env={"LC_ALL": "C"}, capture_output=True, check=True).stdout
        code, output, errors, _ = guests.command("wordcount", stdin=data)
        assert (code, output, errors) == (0, b"%d\n" % int(expected), b""), (data[:80], expected, output)
    code, output, errors, _ = guests.command("wordcount", ["x"])
    assert code == 2 and not output and errors
    text = bytes(chance.choices(b"etaoin shrdlu\n", k=1 << 20))
    fuel = guests.command("wordcount", stdin=text)[3]
    print(f"wordcount: {len(inputs)} inputs count as wc -w does; {fuel / len(text):.2f} fuel a byte")


def check_prime_count(guests):
    limit = 3_000_000
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit, number)))

    def run(arguments=(), environment=(), stdin=b""):
        code, output, errors, _ = guests.command("prime-count", list(map(str, arguments)), environment, stdin)
        assert code == 0, errors
        return int(output)

    chance = random.Random(3)
    ranges = [(lo, hi) for lo in range(12) for hi in range(lo, 30)]
    ranges += [sorted(chance.choices(range(limit), k=2)) for _ in range(60)] + [(0, limit)]
    for lo, hi in ranges:
        assert run((lo, hi)) == sum(sieve[lo:hi]), (lo, hi)
    for count in (1, 2, 7, 1000):
        shares = [run((5, 100_000), [("UNIT_INDEX", str(i)), ("UNIT_COUNT", str(count))]) for i in range(count)]
        assert sum(shares) == sum(sieve[5:100_000])
    assert run((5, 100_000), [("UNIT_PARAMS", "10 30"), ("UNIT_INDEX", "1"), ("UNIT_COUNT", "2")]) == 6
    lines = "".join(f"{lo} {hi}\n" for lo, hi in ranges).encode()
    assert run(stdin=lines) == run(stdin=lines[:-1]) == sum(sum(sieve[lo:hi]) for lo, hi in ranges)
    assert run() == 0 and run(stdin=b" 1 10\r\n\n") == 4
    for hi in (2**32 + 5_000, 10**12, 10**15):
        assert run((hi - 10_000, hi)) == sum(map(is_prime, range(hi - 10_000, hi))), hi
    for bad in [(1,), (1, 2, 3), (2, 1), ("x", 2), (0, 10**15 + 1), ("", 1), (-1, 1)]:
        assert guests.command("prime-count", list(map(str, bad)))[0] == 2, bad
    assert guests.command("prime-count", stdin=b"1 2 3\n")[0] == 2
    fuel = guests.command("prime-count", ["0", "10000000"])[3]
    print(f"prime-count: {len(ranges)} ranges, shares and lines count right; {fuel / 10**7:.2f} fuel a number to 10^7")


def is_prime(number):
    """Miller and Rabin's test; these bases make it exact below 3.8 * 10^18."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23)
    if any(number % base == 0 for base in bases):
        return number in bases
    twos = (number - 1 & 1 - number).bit_length() - 1
    for base in bases:
        power = pow(base, number - 1 >> twos, number)
        if power != 1 and not any(pow(power, 1 << k, number) == number - 1 for k in range(twos)):
            return False
    return True


def bench_blur(guests, native):
    print("gaussian-blur, a 512 x 512 core with its halo, best of 40 runs:")
    print("radius  wasm ms  fuel/pixel  / native portable  / native SSE2 by hand")
    chance = random.Random(4)
    for radius in (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32):
        side = 512 + 2 * radius
        geometry, pixels = (side, side, radius, radius, 512, 512), chance.randbytes(side * side * 4)
        seconds = [math.inf] * 3
        for _ in range(8):
            _, fuel, wasm = guests.kernel("gaussian-blur", ["--radius", str(radius)], " ".join(map(str, geometry)), pixels, 5)
            portable = native.blur("blur_portable", radius, radius * 500, geometry, pixels, 5)[1]
            sse2 = native.blur("blur_sse2", radius, radius * 500, geometry, pixels, 5)[1]
            seconds = [min(pair) for pair in zip(seconds, (wasm, portable, sse2))]
        wasm, portable, sse2 = seconds
        print(f"{radius:6}  {wasm * 1e3:7.2f}  {fuel / 512**2:10.1f}  {wasm / portable:17.2f}  {wasm / sse2:21.2f}")


if __name__ == "__main__":
    main()
