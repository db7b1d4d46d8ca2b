"""How fast it is: training, generation, MIDI and memory against named peers.

    make bench                       # into .venv, with PyTorch and mido
    make bench GPU=0                 # training on a GPU, too
    python bench/speed.py [--isa avx2] [--gpu 0] [--threads 1 0] [--midi FOLDER] [--rounds 15]
        [--out FILE.json]
    python bench/speed.py --table FILE.json

--isa avx2 lets a newer processor compute as one without AVX-512 does; the kernels that NumPy's
BLAS and PyTorch really use are told in any case. Each measurement takes all contestants in turn in
one process. --only training (generation, memory, midi) measures a part.

Training: one window of the article's network (forwards, backwards, clip, Adam; dropout 0.5,
float32, the state carried on) against PyTorch, eager, with nn.LSTM of two layers, and against
the article's step loop with this project's Adam. Ids are uniformly random; a text repeats its words
more often, which favours this project. The best and the median. Generation is one text, word by
word, softmax and draw included. Memory is the peak of a fresh process that trains 20 windows.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHAPES = {
    'words': (7000, 128, 50, 50),
    'MIDI words': (1000, 256, 50, 50),
    'characters': (100, 512, 50, 50),
    'PTB medium': (10000, 650, 20, 35),
    "train.py's defaults": (7000, 256, 20, 35),
}  # V, n, B, T
AVX2 = {
    'OPENBLAS_CORETYPE': 'Haswell',  # NumPy
    'ATEN_CPU_CAPABILITY': 'avx2',  # PyTorch, and two libraries that it calls
    'MKL_ENABLE_INSTRUCTIONS': 'AVX2',
    'ONEDNN_MAX_CPU_ISA': 'AVX2',
}
OWN_MIDI = str(ROOT / 'data')
THREADS = {0: 'all', 'gpu': 'GPU'}  # numbers stand for themselves
PARTS = ['training', 'generation', 'memory', 'midi']
NAMES = {'this': 'window', 'torch': 'PyTorch', 'steps': 'step loop', 'mido': 'mido'}


# The measurements, each in a process of its own


def trainers(shape, gpu, who):
    """{name: function that trains one window} of those named in `who`."""
    import numpy

    n_vocab, n_units, batchsize, bproplen = shape
    random = numpy.random.RandomState(0)

    def window():
        return random.randint(n_vocab, size=(2, bproplen, batchsize)).astype('i')

    def chainers(forward):
        model = RNN(n_vocab, n_units)
        model.to_device('@numpy' if gpu < 0 else f'@cupy:{gpu}')
        model.device.use()
        model.initialize_state(batchsize)
        optimizer = optimizers.Adam().setup(model)
        optimizer.add_hook(optimizers.GradientClipping(5))

        def train_window():
            x, t = model.device.send(window())
            start = time.perf_counter()
            accum_loss, _ = forward(model, x, t, 0.5)
            model.cleargrads()
            accum_loss.backward()
            accum_loss.unchain_backward()
            optimizer.update()
            if gpu >= 0:
                model.xp.cuda.Device().synchronize()
            return time.perf_counter() - start

        return train_window

    def pytorchs():
        import torch

        device = 'cpu' if gpu < 0 else f'cuda:{gpu}'
        torch.backends.cudnn.allow_tf32 = False  # float32, as CuPy computes
        model = torch_model(n_vocab, n_units).to(device)
        optimizer = torch.optim.Adam(model.parameters())
        loss_of = torch.nn.CrossEntropyLoss()
        state = None

        def train_window():
            nonlocal state
            x, t = torch.from_numpy(window()).long().to(device)
            start = time.perf_counter()
            y, state = model(x, state)
            state = tuple(array.detach() for array in state)
            loss = loss_of(y.view(-1, n_vocab), t.reshape(-1)) * bproplen
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5)
            optimizer.step()
            if gpu >= 0:
                torch.cuda.synchronize()
            return time.perf_counter() - start

        return train_window

    if 'this' in who or 'steps' in who:
        from support import modern_chainer  # noqa: F401  prepares chainer's import

        from support import fused, optimizers
        import train
        from rnn import RNN
    makers = {
        'this': lambda: chainers(fused.forward),
        'torch': pytorchs,
        'steps': lambda: chainers(train.stepwise),
    }
    return {name: makers[name]() for name in who}


def torch_model(n_vocab, n_units):
    import torch

    class Peer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = torch.nn.Embedding(n_vocab, n_units)
            self.lstm = torch.nn.LSTM(n_units, n_units, 2, dropout=0.5)
            self.linear = torch.nn.Linear(n_units, n_vocab)

        def forward(self, x, state=None):
            h, state = self.lstm(self.embedding(x), state)
            return self.linear(h), state

    return Peer()


def in_turn(functions, rounds):
    """{name: [seconds of each round]}; two more rounds come first and do not count.

    A pause before each: threads of the one before, which wait for work, would be in the way.
    """
    times = {name: [] for name in functions}
    for number in range(rounds + 2):
        for name, function in functions.items():
            time.sleep(0.05)
            seconds = function()
            if number >= 2:
                times[name].append(seconds)
    return times


def training(args):
    """{shape: {name: [seconds of each window]}}: this project, PyTorch and the article's loop."""
    return {
        name: in_turn(trainers(shape, args.gpu, ('this', 'torch', 'steps')), args.rounds)
        for name, shape in SHAPES.items()
    }


def generation(args, n_vocab=7000, n_units=256, length=100):
    """Seconds for `length` words."""
    import numpy
    import torch

    from generate import generate
    from rnn import RNN

    model, peer = RNN(n_vocab, n_units), torch_model(n_vocab, n_units).eval()
    random = numpy.random.RandomState(0)

    def this():
        start = time.perf_counter()
        for _ in generate(model, [0], length, rng=random):
            pass
        return time.perf_counter() - start

    @torch.inference_mode()
    def torchs():
        start = time.perf_counter()
        x, state = torch.zeros((1, 1), dtype=torch.long), None
        for _ in range(length):
            y, state = peer(x, state)
            x = torch.multinomial(torch.softmax(y[0], dim=-1), 1)
        return time.perf_counter() - start

    return in_turn({'this': this, 'torch': torchs}, args.rounds)


def memory(shape, who):
    """Bytes at the peak of this process, after 20 windows."""
    import resource

    (train_window,) = trainers(SHAPES[shape], -1, [who]).values()
    for _ in range(20):
        train_window()
    return {
        who: [
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == 'darwin' else 1024)
        ]
    }


def midi(args):
    import midi  # the file beside this one

    return midi.measure(args.midi, min(args.rounds, 7))


def versions():
    import chainer
    import mido
    import numpy
    import threadpoolctl
    import torch

    found = {
        'Python': platform.python_version(),
        'chainer': chainer.__version__,
        'numpy': numpy.__version__,
        'torch': torch.__version__,
        'mido': str(mido.version_info),
        'PyTorch kernels': torch.backends.cpu.get_cpu_capability(),
        'BLAS': ', '.join(
            sorted(
                {
                    f'{lib["internal_api"]} {lib["version"]} {lib.get("architecture")}'
                    for lib in threadpoolctl.threadpool_info()
                    if lib['user_api'] == 'blas'
                }
            )
        ),
    }
    if torch.cuda.is_available():
        import cupy

        found.update(
            GPU=torch.cuda.get_device_name(),
            cupy=cupy.__version__,
            CUDA=str(cupy.cuda.runtime.runtimeGetVersion()),
        )
    return found


# All of them


def in_process(threads, args, *call):
    """What `--call CALL` prints as JSON, in a new process with so many threads (0: all)."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith('OPENBLAS_')
    }
    if args.isa == 'avx2':
        environment.update(AVX2)
    if threads:
        environment.update(
            OMP_NUM_THREADS=str(threads),
            OPENBLAS_NUM_THREADS=str(threads),
            MKL_NUM_THREADS=str(threads),
        )
    command = [
        sys.executable,
        __file__,
        '--gpu',
        str(args.gpu),
        '--midi',
        args.midi,
        '--rounds',
        str(args.rounds),
        '--call',
        *call,
    ]
    return json.loads(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )


def run(args):
    """All measurements, as a dict for JSON."""
    removed = [name for name in os.environ if name.startswith('OPENBLAS_')]
    print(
        'started without ' + ', '.join(removed) if removed else 'no OPENBLAS_ variable is set',
        file=sys.stderr,
    )
    gpu, args.gpu = args.gpu, -1
    result = {
        'date': datetime.date.today().isoformat(),
        'command': ' '.join(['python', 'bench/speed.py', *sys.argv[1:]])
        .replace(f'--midi {args.midi}', '--midi FOLDER')
        .replace(f' --out {args.out}', ''),
        'machine': f'{cpu()}, {os.cpu_count()} cores',
        'without': removed,
        'versions': in_process(0, args, 'versions'),
        'rows': [],
    }
    print(*(f'{name} {version}' for name, version in result['versions'].items()), sep=', ')

    def measure(threads, *call):
        print(*call, 'threads:', THREADS.get(threads, threads), file=sys.stderr)
        return in_process(0 if threads == 'gpu' else threads, args, *call)

    def add(what, threads, values):
        result['rows'].append({'what': what, 'threads': threads, **values})

    def measure_training(threads):
        for shape, values in measure(threads, 'training').items():
            add(f'training, {shape}', threads, values)

    if 'training' in args.only:
        for threads in args.threads:
            measure_training(threads)
    if 'generation' in args.only:
        add('generation', 1, measure(1, 'generation'))
    if 'memory' in args.only:
        for shape in SHAPES:
            this, torch = (measure(0, 'memory', shape, who) for who in ('this', 'torch'))
            add(f'memory, {shape}', 0, this | torch)
    if 'midi' in args.only:
        for kind, values in measure(0, 'midi').items():
            add(f'MIDI, {kind}', 0, values)
    if gpu >= 0:
        args.gpu = gpu
        measure_training('gpu')
    return result


def cpu():
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
        return next(line.split(':')[1].strip() for line in lines if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(result):
    """The lines (list of str) of a Markdown table of what `run` has measured."""
    lines = [
        f'`{result["command"]}`, {result["date"]}, {result["machine"]}; '
        + ', '.join(f'{name} {version}' for name, version in result['versions'].items()),
        '',
        '| | threads | this project | peer | times as good: best, median |',
        '| --- | --- | --- | --- | --- |',
    ]
    for row in result['rows']:
        threads = THREADS.get(row['threads'], row['threads'])
        ours = row['this']
        for peer in [name for name in NAMES if name in row and name != 'this']:
            theirs = row[peer]
            best, median = (f(theirs) / f(ours) for f in (min, statistics.median))
            if row['what'].startswith('memory'):
                cells = [f'{sum(value) / 2**20:.0f} MiB' for value in (ours, theirs)]
            else:
                cells = [f'{statistics.median(value) * 1000:.1f} ms' for value in (ours, theirs)]
            lines.append(
                f'| {row["what"]} | {threads} | {cells[0]} | {NAMES[peer]} {cells[1]} | '
                f'{best:.2f}, {median:.2f} |'
            )
    return lines


def main():
    parser = argparse.ArgumentParser(description='Speed and memory against PyTorch and mido.')
    parser.add_argument('--gpu', type=int, default=-1)
    parser.add_argument('--isa', choices=['avx2'], help='instructions to keep to')
    parser.add_argument('--threads', type=int, nargs='*', default=[1, 0], help='0: all')
    parser.add_argument('--midi', default=OWN_MIDI, help='folder of .mid files')
    parser.add_argument('--only', nargs='+', choices=PARTS, default=PARTS)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--out', type=pathlib.Path)
    parser.add_argument('--table', type=pathlib.Path)
    parser.add_argument('--call', nargs='+', help=argparse.SUPPRESS)
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if args.call:
        name, *rest = args.call
        call = {
            'versions': versions,
            'memory': memory,
            'training': lambda: training(args),
            'generation': lambda: generation(args),
            'midi': lambda: midi(args),
        }[name]
        from support import modern_chainer  # noqa: F401  prepares chainer's import

        print(json.dumps(call(*rest)))
        return
    result = json.loads(args.table.read_text(encoding='utf-8')) if args.table else run(args)
    if args.out:
        args.out.parent.mkdir(exist_ok=True)
        args.out.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    print(*table(result), sep='\n')


if __name__ == '__main__':
    main()
