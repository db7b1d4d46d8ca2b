"""Kills training (SIGKILL) at random moments and resumes it: nothing may be lost.

    python tests/kill.py 60

The runs save after every window, so that many kills come while a file is being written. After
each kill every checkpoint is, byte for byte, one that an unbroken run wrote, and log and picture
are whole; a run that has come to its end leaves the files of the unbroken one. Exit code 1 if not.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

import matplotlib.image

ROOT = pathlib.Path(__file__).resolve().parents[1]
RUNS = {
    'text': ['--corpus', 'holmes.txt', '--epoch', '5'],
    'steps': ['--corpus', 'holmes.txt', '--epoch', '3', '--stepwise'],
    'music': ['--midi', 'track1.mid', '--epoch', '5', '--track', 'all'],
}
PROGRAM = """
import hashlib, sys
import train
from support import checkpoint, progress

notes, save = open(sys.argv.pop(1), 'a'), checkpoint.save

def noted(path, *rest):
    save(path, *rest)
    print(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), file=notes, flush=True)

checkpoint.save, progress.AUTOSAVE = noted, 0  # seconds
sys.exit(train.main())
"""


def start(notes, *argv):
    """A training (subprocess.Popen) that notes the checksum of each checkpoint it has written."""
    return subprocess.Popen(
        [sys.executable, '-c', PROGRAM, notes, *map(str, argv)],
        stdout=subprocess.DEVNULL,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )


def untimed(log):
    return [
        {name: value for name, value in entry.items() if name not in ('elapsed_time', 'tokens/s')}
        for entry in map(json.loads, log.read_bytes().splitlines())
    ]


def look(out, written, log):
    """Asserts that what a killed run left in `out` is whole, and what the unbroken run wrote."""
    for name in ('last.npz', 'best.npz'):
        if (out / name).exists():
            assert f'{name} {hashlib.sha256((out / name).read_bytes()).hexdigest()}' in written, (
                name
            )
    if (out / 'log.jsonl').exists():
        entries = untimed(out / 'log.jsonl')
        assert entries == log[: len(entries)], 'log.jsonl'
    if (out / 'loss.png').exists():
        matplotlib.image.imread(out / 'loss.png')


def main(argv=None):
    """Runs the command; returns its exit code, 0: AssertionError if anything was lost."""
    parser = argparse.ArgumentParser(description='Kills training at random moments and resumes it.')
    parser.add_argument('kills', type=int)
    args = parser.parse_args(argv)
    rng = random.Random(0)
    kills = saving = early = finished = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        unbroken = {}
        while kills < args.kills:
            name = rng.choice(list(RUNS))
            options = ['--unit', '64', '--sample-every', '2', *RUNS[name]]
            whole, out, notes = folder / name, folder / 'killed', folder / 'notes'
            if name not in unbroken:
                began = time.perf_counter()
                assert start(folder / f'{name}.notes', *options, '--out', whole).wait() == 0
                unbroken[name] = (
                    time.perf_counter() - began,
                    set((folder / f'{name}.notes').read_text(encoding='utf-8').splitlines()),
                    untimed(whole / 'log.jsonl'),
                )
            duration, written, log = unbroken[name]
            shutil.rmtree(out, ignore_errors=True)
            code = None
            while code is None:
                resumable = (out / 'last.npz').exists()
                process = start(
                    notes, *(['--resume', out] if resumable else [*options, '--out', out])
                )
                try:
                    code = process.wait(rng.uniform(0, duration) if kills < args.kills else None)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    kills += 1
                    saving += any(out.glob('.*.part'))
                    early += not (out / 'last.npz').exists()
                    look(out, written, log)
            assert code == 0, code
            for file in ('last.npz', 'best.npz', 'loss.png'):
                assert (out / file).read_bytes() == (whole / file).read_bytes(), file
            look(out, written, log)
            assert untimed(out / 'log.jsonl') == log and not any(out.glob('.*.part'))
            finished += 1
    print(
        f'{kills} kills, {saving} of them while a file was being written, {early} before the '
        f'first was; {finished} runs came to their end, with the very files of the unbroken runs'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
