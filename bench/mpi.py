"""Training in 1, 2 and 4 processes: the same numbers? how fast? And, computed, in a cluster.

    python bench/mpi.py                   # needs what requirements/mpi.txt lists
    python bench/mpi.py --cluster         # only the computed table

Speed: all defaults on data/holmes.txt; each number of processes in turn, several rounds; each
process takes its share of the cores. Equality: 480 characters of it, dropout 0, four streams; the
largest difference of a weight, relative to the largest weight of its array, and of a loss, after
1 update of SGD and after 200 of Adam.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import numpy

from support import checkpoint

EQUAL = '--corpus small.txt --level char --unit 64 --batchsize 4 --dropout 0 --sample-every 0'
UPDATES = {
    '1 of SGD': '--bproplen 113 --epoch 1 --optimizer sgd --lr 1',  # one window in an epoch
    '200 of Adam': '--bproplen 12 --epoch 20',  # ten
}
# (processes, bytes that a link carries in a second, seconds that a message takes at least)
LINKS = {
    '8 GPUs of a machine, PCIe 4': (8, 20e9, 10e-6),
    '64 GPUs, 100 Gbit/s': (64, 12.5e9, 10e-6),
    '64 GPUs, 10 Gbit/s': (64, 1.25e9, 30e-6),
}
MODELS = {
    'the article (6,927 words, 256 units)': (6927, 256),
    'large (50,000 words, 1,024 units)': (50000, 1024),
}


def train(n, out, *options):
    """Trains in n processes, without MPI if n is 0.

    Returns the log (list of dict) and the weights (dict of name to float32 array).
    """
    program = [sys.executable, str(ROOT / 'train.py'), '--out', str(out), *options]
    if n:
        path = f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
        program = [shutil.which('mpiexec', path=path) or 'mpiexec', '-n', str(n), *program, '--mpi']
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL, cwd=out.parent)
    log = [
        json.loads(line) for line in (out / 'log.jsonl').read_text(encoding='utf-8').splitlines()
    ]
    model = checkpoint.load(out / 'last.npz').model
    return log, {name: param.array for name, param in model.namedparams()}


def equality(folder):
    """Prints the largest differences from one process."""
    story = (ROOT / 'data' / 'holmes.txt').read_text(encoding='utf-8')
    (folder / 'small.txt').write_text(story.replace('\n', '')[:479] + '\n', encoding='utf-8')
    print('| updates | processes | weights | losses |\n| --- | --- | --- | --- |')
    for name, options in UPDATES.items():
        options = f'{EQUAL} {options}'.split()
        log, weights = train(0, folder / 'one', *options)
        for n in (2, 4):
            other_log, others = train(n, folder / 'several', *options)
            differences = [
                abs(others[key] - array).max() / abs(array).max() for key, array in weights.items()
            ]
            losses = [
                abs(other[key] / entry[key] - 1)
                for entry, other in zip(log, other_log)
                for key in ('main/loss', 'validation/main/loss')
            ]
            print(f'| {name} | {n} | {max(differences):.1e} | {max(losses):.1e} |', flush=True)


def speed(folder, rounds):
    """Prints words per second."""
    found = {0: [], 1: [], 2: [], 4: []}
    for _ in range(rounds):
        for n, speeds in found.items():
            options = '--corpus holmes.txt --epoch 3 --sample-every 0'.split()
            log, _ = train(n, folder / 'speed', *options)
            speeds += [entry['tokens/s'] for entry in log[1:]]
    best = max(found[0])
    print('\n| processes | words/s, best | median | against one without --mpi |')
    print('| --- | --- | --- | --- |')
    for n, speeds in found.items():
        fastest, median = max(speeds), statistics.median(speeds)
        figures = f'{fastest:,.0f} | {median:,.0f} | {fastest / best:.2f}'
        print(f'| {n or "1, without --mpi"} | {figures} |')


def cluster():
    """Prints what an update exchanges, and how long a ring (Allreduce) needs for it at least."""
    print('\n| network | exchanged per update | ' + ' | '.join(LINKS) + ' |')
    print('| --- | --- |' + ' --- |' * len(LINKS))
    for name, (n_vocab, n) in MODELS.items():
        params = 2 * n_vocab * n + n_vocab + 4 * (4 * n * n + 4 * n)
        times = [
            2 * (size - 1) * (latency + 4 * params / size / bandwidth)
            for size, bandwidth, latency in LINKS.values()
        ]
        cells = [f'{4 * params / 1e6:.0f} MB', *(f'{seconds * 1e3:.1f} ms' for seconds in times)]
        print(f'| {name} | {" | ".join(cells)} |')


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description='Training in several processes.')
    parser.add_argument('--cluster', action='store_true', help='only what is computed')
    parser.add_argument('--rounds', type=int, default=3, help='of the speed (default: 3)')
    args = parser.parse_args()
    if not args.cluster:
        print(f'{len(os.sched_getaffinity(0))} cores, NumPy {numpy.__version__}\n')
        with tempfile.TemporaryDirectory(prefix='mpi-') as folder:
            equality(pathlib.Path(folder))
            speed(pathlib.Path(folder), args.rounds)
    cluster()


if __name__ == '__main__':
    main()
