"""How fast a folder of texts becomes ids, and how much memory that takes, and training on it.

    python bench/library.py                 # folders of 50 and 500 MB, made and removed again
    python bench/library.py --mb 100

Makes a folder of texts in Aozora Bunko's layout, a third of a megabyte each, from the sentences of
data/holmes.txt with invented words in them, few often and many seldom (Zipf): the vocabulary grows
with the size. Runs train.py on it twice: the first time it encodes the folder, and both times it
learns for a while. Memory is what the processes have to themselves (RssAnon of /proc, Linux only),
without files such as that of the ids.
"""

import argparse
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
HEADER = """{title}
作り物

-------------------------------------------------------
【テキスト中に現れる記号について】

《》：ルビ
（例）霧《きり》
-------------------------------------------------------

"""
FOOTER = '\n\n底本：なし\n青空文庫の形に似せて作ったもの\n'
OPTIONS = '--vocab-size 10000 --unit 128 --sample-every 0 --epoch 1'.split()
KATAKANA = (
    'アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワ'
)


def invented(n):
    """The n-th of many words in katakana, which MeCab takes as one word each."""
    word = ''
    while n or len(word) < 3:
        n, letter = divmod(n, len(KATAKANA))
        word += KATAKANA[letter]
    return word


def make(folder, size):
    """Fills a folder with about `size` bytes of texts: (bytes, number of texts)."""
    rng = random.Random(0)
    story = (ROOT / 'data' / 'holmes.txt').read_text(encoding='utf-8')
    sentences = [sentence for sentence in re.findall('[^。\n]+。', story) if len(sentence) < 100]
    written = n = 0
    while written < size:
        lines = []
        while sum(map(len, lines)) < 110000:
            line = '　' + ''.join(rng.choices(sentences, k=rng.randint(1, 5)))
            for _ in range(len(line) // 40):
                at = rng.randrange(1, len(line))
                word = invented(int(rng.paretovariate(0.7))) + '《るび》' * (rng.random() < 0.3)
                line = line[:at] + word + line[at:]
            lines.append(line)
        data = (HEADER.format(title=n) + '\n'.join(lines) + FOOTER).encode()
        (folder / f'{n // 100:03}').mkdir(exist_ok=True)
        (folder / f'{n // 100:03}' / f'{n:05}.txt').write_bytes(data)
        written, n = written + len(data), n + 1
    return written, n


def own_memory(pid):
    """Bytes that a process and its children have to themselves, now."""
    total = 0
    try:
        status = pathlib.Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
        total += int(re.search(r'RssAnon:\s*(\d+)', status)[1]) << 10
        for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
            children = (task / 'children').read_text(encoding='utf-8').split()
            total += sum(map(own_memory, children))
    except (OSError, TypeError):
        pass  # it has just ended
    return total


def run(folder, cwd, seconds):
    """Starts train.py on a folder and stops it after some `seconds` of training.

    Returns (seconds until it knew the ids, most memory until then, most memory after), bytes.
    """
    began, known = time.perf_counter(), None
    with subprocess.Popen(
        [sys.executable, '-u', ROOT / 'train.py', '--corpus', folder, *OPTIONS],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        encoding='utf-8',
    ) as process:
        most, ended = [0, 0], threading.Event()

        def watch():
            while not ended.wait(0.1):
                phase = known is not None
                most[phase] = max(most[phase], own_memory(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        for line in process.stdout:
            print(' ', line, end='', flush=True)
            if 'tokens,' in line and 'types' in line:
                known = time.perf_counter() - began
            if 'words to learn' in line:
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGTERM)
        process.wait()
        ended.set()
        watcher.join()
    return known, *most


def main():
    """Runs the command."""
    parser = argparse.ArgumentParser(description='How fast a folder of texts becomes ids.')
    option, sizes = parser.add_argument, 'sizes of the folders (default: 50 500)'
    option('--mb', type=int, nargs='+', default=[50, 500], help=sizes)
    option('--seconds', type=float, default=30, help='how long each run learns (default: 30)')
    args = parser.parse_args()
    rows = []
    for mb in args.mb:
        with tempfile.TemporaryDirectory(prefix='library-') as place:
            folder = pathlib.Path(place) / 'texts'
            folder.mkdir()
            size, count = make(folder, mb * 10**6)
            print(f'{count:,} texts, {size / 1e6:.0f} MB', flush=True)
            first, encoding, training = run(folder, place, args.seconds)
            second, _, again = run(folder, place, args.seconds)
            made, most = size / 1e6, max(training, again) / 2**20
            rows.append((made, count, first, made / first, encoding / 2**20, most, second))
    memory = 'memory then, MiB | memory in training, MiB'
    print(f'| MB | texts | encoded in, s | MB/s | {memory} | second start, s |')
    print('| --- | --- | --- | --- | --- | --- | --- |')
    for row in rows:
        print('| {:.0f} | {:,} | {:.0f} | {:.1f} | {:.0f} | {:.0f} | {:.1f} |'.format(*row))


if __name__ == '__main__':
    main()
