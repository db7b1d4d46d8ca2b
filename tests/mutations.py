"""Feeds damaged files to the programs: only their own errors, no hang, little memory.

    python tests/mutations.py midi 1000000
    python tests/mutations.py text 100000
    python tests/mutations.py checkpoint 4000

Each input is a small good file in which some bits were flipped, bytes cut out, put in, repeated
or overwritten with a length that lies. The same number gives the same inputs. An input that
makes trouble is printed in hex, and the exit code is 1.
"""

import argparse
import collections
import contextlib
import dataclasses
import getpass
import io
import json
import multiprocessing
import pathlib
import random
import signal
import sys
import tempfile
import time
import tracemalloc
import traceback
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from support.text import CorpusError, choose_tokenizer, detokenize, encode  # noqa: E402
from support.text import make_vocabulary, read, tokenize  # noqa: E402
from support import music  # noqa: E402
import generate  # noqa: E402
from support import checkpoint  # noqa: E402
import read_midi  # noqa: E402
import train  # noqa: E402
import write_midi  # noqa: E402

CORPORA = ROOT.parent / 'shared' / 'corpora'
HANG = 20  # seconds for one input
LENGTHS = [
    bytes.fromhex(length)
    for length in (  # of chunks and zip members, of events
        'ffffffff',
        '7fffffff',
        '80000000',
        '00000000',
        '00000001',
        '0fffffff',
        '00100000',
        'feffffff',
        'ffffff7f',
        'ffffffff7f',
        '8080808000',
        '80808000',
        '00',
        '7f',
        'ff7f',
        '8100',
    )
]


class Hang(Exception):
    """An input took longer than HANG."""


def mutated(rng, data, others):
    """bytes: `data` with one to four changes.

    rng: random.Random; others: where foreign pieces come from.
    """
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + int(rng.expovariate(1 / 12)) + 1)
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : rng.choice((end, len(data)))]
        elif kind == 2:
            length = rng.choice(LENGTHS)
            data[at : at + len(length)] = length
        elif kind == 3:  # where a length stands, in MIDI, RIFF and zip
            marks = [
                data.find(mark, rng.randrange(len(data) + 1))
                for mark in (
                    b'MThd',
                    b'MTrk',
                    b'RIFF',
                    b'data',
                    b'PK\1\2',
                    b'PK\3\4',
                    b'\xff',
                    b'\xf0',
                )
            ]
            at = rng.choice([mark for mark in marks if mark >= 0] or [at]) + rng.choice(
                (1, 2, 4, 18, 22, 24)
            )
            length = rng.choice(LENGTHS)
            data[at : at + len(length)] = length
        elif kind == 4:
            data[at:at] = data[at:end] * rng.choice((1, 1, 1, 300))
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            data[at:end] = other[start : start + rng.randint(1, 60)]
        else:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(data)


# What is fed to which program: the good files, and what to do with one input


def midi_seeds():
    """Small MIDI files (bytes): two made of our own, then the real ones that are here."""
    data = read_midi.read_midi(ROOT / 'data' / 'track1.mid')
    for track in data['tracks']:
        del track['chunks'][40:-1]
    raw = write_midi.to_bytes(data)
    rmid = (
        b'RIFF'
        + (12 + len(raw)).to_bytes(4, 'little')
        + b'RMIDdata'
        + len(raw).to_bytes(4, 'little')
        + raw
    )
    real = [path for path in sorted(CORPORA.rglob('*.mid')) if path.stat().st_size <= 1200]
    return [raw, rmid] + [path.read_bytes() for path in real]


def feed_midi(raw):
    """'read' or 'refused'; what is read is written back as it was, and its music read, too."""
    try:
        data = read_midi.from_bytes(raw)
    except read_midi.MidiError:
        return 'refused'
    if raw[:4] == b'MThd':
        assert write_midi.to_bytes(data) == raw, 'not written back as it was'
    try:
        track = read_midi.choose_track(data)
        channel = read_midi.choose_channel(data, track)
        words = read_midi.to_words(data, track, 'performance', channel)
        setup = read_midi.setup_of(data, track, channel)
        assert read_midi.Setup.from_dict(dataclasses.asdict(setup)) == setup
        write_midi.to_bytes(write_midi.to_data(words, setup, composed=True))
        music.on_grid(data, track, channel, 'performance', 12)
    except read_midi.MusicError:
        pass
    return 'read'


def text_seeds():
    """Small texts (bytes) in several encodings and in zips, some in Aozora Bunko's layout."""
    story = (ROOT / 'data' / 'holmes.txt').read_text(encoding='utf-8')
    texts = [
        story[:1500] + story[-400:],
        story[3000:3600],
        'It is 3 miles.\n' * 20,
        "〔Ve'ra〕／＼※［＃「木＋世」、U+6830、1-2］\n" * 9,
    ]
    for path in sorted(CORPORA.glob('aozora/*.txt')):
        real = path.read_bytes().decode('cp932')
        texts.append(real[:700] + real[-500:])
    seeds = [
        text.encode(encoding, 'ignore')
        for text in texts
        for encoding in ('utf-8', 'cp932', 'utf-16')
    ]
    for text in texts[:3]:
        file = io.BytesIO()
        with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.writestr('a.txt', text.encode('cp932', 'ignore'))
        seeds.append(file.getvalue())
    return seeds + [bytes(range(256))]


def feed_text(raw):
    """'read' or 'refused', from the file to ids and back to text."""
    with tempfile.NamedTemporaryFile(buffering=0) as file:
        file.write(raw)
        try:
            text = read(file.name)
        except CorpusError as error:
            assert '\n' not in str(error), 'more than a line'
            return 'refused'
    for level in ('word', 'char'):
        tokenizer = choose_tokenizer(text, level)
        words = tokenize(text, tokenizer)
        ids = encode(words, make_vocabulary(words, 2))
        assert len(ids) == len(words) and all(words)
        back = detokenize(words, tokenizer)
        assert level == 'word' or back == text, 'other characters'
    return 'read'


def checkpoint_seeds():
    """The checkpoints (bytes) of two small runs; their sources stay in a temporary folder."""
    folder = pathlib.Path(tempfile.gettempdir()) / f'mutations-{getpass.getuser()}'
    folder.mkdir(exist_ok=True)
    (folder / 'small.txt').write_text(
        'the cat sat on a mat and ate one fish\n' * 30, encoding='utf-8'
    )
    (folder / 'small.mid').write_bytes(midi_seeds()[0])
    seeds = []
    for source in (['--corpus', folder / 'small.txt'], ['--midi', folder / 'small.mid']):
        argv = [
            *source,
            '--unit',
            4,
            '--batchsize',
            2,
            '--bproplen',
            9,
            '--epoch',
            1,
            '--sample-every',
            0,
            '--out',
            folder / 'run',
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            train.main([*map(str, argv)])
        seeds.append((folder / 'run' / 'last.npz').read_bytes())
    return seeds


def repacked(rng, raw):
    """A checkpoint in which one array was changed and its checksum is right again."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(file, 'w') as new:
        chosen = rng.choice([name for name in old.namelist()] + 9 * ['meta.npy'])
        for name in old.namelist():
            data = old.read(name)
            if name == chosen == 'meta.npy':
                meta = json.loads(data[data.index(b'\n') :])
                field = rng.choice(list(meta))
                values = [
                    None,
                    -1,
                    0,
                    10**9,
                    1e999,
                    '',
                    'x\n',
                    [],
                    {},
                    [[]],
                    [None],
                    True,
                    {'a': 1},
                ]
                if isinstance(meta[field], dict) and rng.random() < 0.8:
                    meta[field][rng.choice([*meta[field], 'x'])] = rng.choice(values)
                elif isinstance(meta[field], list) and meta[field] and rng.random() < 0.8:
                    meta[field][rng.randrange(len(meta[field]))] = rng.choice(values)
                else:
                    meta[field] = rng.choice(values)
                text = json.dumps(meta).encode()
                data = (
                    data[: data.index(b'\n') + 1].replace(
                        b'(%d,)' % (len(data) - data.index(b'\n') - 1), b'(%d,)' % len(text)
                    )
                    + text
                )
            elif name == chosen and rng.random() < 0.3:
                data = mutated(rng, data, [data])
            elif name == chosen:  # other numbers, where the header tells of some
                at = rng.randrange(min(128, len(data) - 1), len(data))
                number = rng.choice(
                    [
                        b'\xff\xff\x7f\x7f',
                        b'\xff\xff\x7f\xff',
                        b'\0\0\x80\x7f',
                        b'\xff\xff\xff\xff',
                        b'\1\0\0\0',
                        b'\0\0\0\x80',
                        rng.randbytes(4),
                    ]
                )
                data = data[: at // 4 * 4] + number + data[at // 4 * 4 + 4 :]
            new.writestr(name, data)
    return file.getvalue()


def feed_checkpoint(raw):
    """'used' by generate.py, or 'refused'; what cannot be loaded is refused by --resume, too.

    What a run does that goes on with a stranger's numbers is not looked at.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'run', 'last.npz')
        path.parent.mkdir()
        path.write_bytes(raw)
        codes = []
        writing = ['--model', path, '--length', '4', '--seed', '1']
        commands = [
            (generate.main, writing),
            (generate.main, [*writing, '--midi', f'{folder}/out.mid']),
        ]
        try:
            checkpoint.load(path, training=True)
        except checkpoint.CheckpointError:
            commands.append((train.main, ['--resume', path]))
        for main, argv in commands:
            err = io.StringIO()
            with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
                try:
                    codes.append(main([*map(str, argv)]))
                except SystemExit as error:
                    codes.append(error.code)
            lines = [
                line
                for line in err.getvalue().splitlines()
                if not line.startswith('the loss jumped')
            ]
            assert codes[-1] in (0, 2) or codes[-1] == 1 and 1 <= len(lines) <= 2, err.getvalue()
        return 'refused' if all(codes) else 'used'


KINDS = {
    'midi': (midi_seeds, feed_midi),
    'text': (text_seeds, feed_text),
    'checkpoint': (checkpoint_seeds, feed_checkpoint),
}
BATCH = 500


def batch(kind, number, seeds=None):
    """Feeds BATCH inputs.

    Returns (Counter of results, slowest seconds, most bytes of memory per byte, troubles).

    Memory is looked at in every 25th input, since looking takes longer than reading, if that has
    500 bytes or more. The buffer of one open file does not count: it is Python's, and of one size
    whatever the file holds (8 KiB, since Python 3.14 128 KiB).
    """
    make_seeds, feed = KINDS[kind]
    seeds = seeds or make_seeds()
    rng = random.Random(f'{kind} {number}')
    results, slowest, largest, troubles = collections.Counter(), 0, 0, []

    def hang(*args):
        raise Hang

    signal.signal(signal.SIGALRM, hang)
    feed(seeds[0])  # MeCab's dictionary and the like, which are loaded once
    for n in range(BATCH):
        raw = rng.choice(seeds)
        raw = repacked(rng, raw) if kind == 'checkpoint' and n % 2 else mutated(rng, raw, seeds)
        if n % 25 == 0:
            tracemalloc.start()
        start = time.perf_counter()
        signal.alarm(HANG)
        try:
            results[feed(raw)] += 1
        except Exception:
            troubles.append((raw.hex(), traceback.format_exc()))
        signal.alarm(0)
        if n % 25:
            slowest = max(slowest, time.perf_counter() - start)
        else:
            if len(raw) >= 500:
                peak = tracemalloc.get_traced_memory()[1]
                largest = max(largest, (peak - io.DEFAULT_BUFFER_SIZE) / len(raw))
            tracemalloc.stop()
    return results, slowest, largest, troubles


def main(argv=None):
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description='Feeds damaged files to the programs.')
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('inputs', type=int)
    args = parser.parse_args(argv)
    seeds = KINDS[args.kind][0]()
    results, slowest, largest = collections.Counter(), 0, 0
    start = time.perf_counter()
    batches = ((args.kind, number, seeds) for number in range(-(-args.inputs // BATCH)))
    with multiprocessing.get_context('spawn').Pool() as pool:
        for found, seconds, memory, troubles in pool.imap_unordered(star_batch, batches):
            for raw, trouble in troubles:
                print(raw, trouble, sep='\n')
                results['in trouble'] += 1
            results += found
            slowest, largest = max(slowest, seconds), max(largest, memory)
    print(
        f'{args.kind}: {sum(results.values()):,} inputs made of {len(seeds)} files, '
        + ', '.join(f'{count:,} {result}' for result, count in sorted(results.items()))
        + f'; slowest {slowest * 1000:.0f} ms, at most {largest:.0f} bytes of memory per byte; '
        f'{time.perf_counter() - start:.0f} s'
    )
    return 1 if results['in trouble'] else 0


def star_batch(arguments):
    return batch(*arguments)


if __name__ == '__main__':
    sys.exit(main())
