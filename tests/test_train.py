"""train.py: streams, the loop, what a run leaves behind, and what goes wrong."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types

import matplotlib.image
import numpy
import pytest

from support import checkpoint
import kill
import train
from conftest import TINY
from rnn import RNN


def arrays(path):
    with numpy.load(path) as npz:
        return dict(npz)


def entries(folder):
    return json.loads((folder / 'log').read_text())


def run(*argv):
    try:
        return train.main([str(arg) for arg in argv])
    except SystemExit as exit:
        return exit.code


# Streams


def test_streams_of_the_docstring():
    ids = numpy.arange(22, dtype='i')
    streams = train.Streams(ids, 3, 4)
    x, t = streams.next()
    assert x.T.tolist() == [[0, 1, 2, 3], [7, 8, 9, 10], [14, 15, 16, 17]]
    assert t.T.tolist() == [[1, 2, 3, 4], [8, 9, 10, 11], [15, 16, 17, 18]]
    assert streams.epoch_detail == pytest.approx(4 / 7) and not streams.is_new_epoch
    x, t = streams.next()
    assert x.T.tolist() == [[4, 5, 6], [11, 12, 13], [18, 19, 20]]  # the last window is short
    assert t[-1].tolist() == [7, 14, 21]
    assert streams.is_new_epoch and streams.epoch == 1 and streams.position == 0


@pytest.mark.parametrize(
    'n, batchsize, bproplen',
    [(2, 1, 1), (2, 1, 9), (31, 3, 7), (31, 30, 7), (100, 7, 100), (57, 8, 7)],
)
def test_an_epoch_reads_every_word_once_in_order(n, batchsize, bproplen):
    ids = numpy.random.RandomState(n).permutation(n).astype('i')
    windows = list(train.Streams(ids, batchsize, bproplen, repeat=False))
    x, t = numpy.concatenate(windows, axis=1)
    used = (n - 1) // batchsize * batchsize
    assert x.T.ravel().tolist() == ids[:used].tolist()
    assert t.T.ravel().tolist() == ids[1 : used + 1].tolist()


# The loop


def test_validation_is_the_mean_over_all_its_words(small_text):
    """The model of a run gives the loss that the log says, computed word by word."""
    run('--corpus', 'small.txt', *TINY, '--bproplen', 4)  # windows of four and of two
    model, meta = checkpoint.load('result/small/last.npz')
    words = pathlib.Path('small.txt').read_text().replace('\n', ' <eos> ').split()
    ids = [meta['vocabulary'].index(word) for word in words]
    n_val = int(len(ids) * 0.05)  # 24 words: 4 streams of 6
    losses = []
    for first in range(len(ids) - n_val, len(ids), 6):
        model.initialize_state(1)
        for x, t in zip(ids[first - 1 : first + 5], ids[first : first + 6]):
            y = model.step([x])[0].astype('d')
            losses.append(numpy.log(numpy.exp(y).sum()) - y[t])
    assert len(losses) == n_val
    entry = entries(pathlib.Path('result/small'))[-1]
    assert entry['validation/main/loss'] == pytest.approx(numpy.mean(losses), rel=1e-4)
    assert entry['val_perplexity'] == pytest.approx(numpy.exp(numpy.mean(losses)), rel=1e-4)


HELLO = [
    '--corpus',
    'hello.txt',
    '--level',
    'char',
    '--unit',
    16,
    '--layer',
    1,
    '--dropout',
    0,
    '--lr',
    0.03,
    '--sample-every',
    0,
]


@pytest.mark.parametrize('cell', ['lstm', 'gru', 'rnn'])
def test_hello(folder, cell):
    """Karpathy's h: e, he: l, hel: l, hell: o. After one l comes l, after two comes o: only memory can tell."""
    assert run(*HELLO, '--cell', cell, '--epoch', 12) == 0
    model, meta = checkpoint.load('result/hello/last.npz')
    assert model.cell == cell
    model.step([meta['vocabulary'].index('<eos>')])
    said = [
        meta['vocabulary'][int(model.step([meta['vocabulary'].index(x)]).argmax())] for x in 'hello'
    ]
    assert said == ['e', 'l', 'l', 'o', '<eos>']


def test_bits_per_character(folder):
    assert run(*HELLO, '--epoch', 2) == 0
    for entry in entries(folder / 'result' / 'hello'):
        assert 2 ** entry['bpc'] == pytest.approx(numpy.exp(entry['main/loss']))
        assert 2 ** entry['val_bpc'] == pytest.approx(numpy.exp(entry['validation/main/loss']))


# Cells, layers, optimizers


@pytest.mark.parametrize(
    'options',
    [
        ['--cell', 'gru', '--layer', 1],
        ['--cell', 'rnn', '--layer', 3, '--optimizer', 'sgd'],
        ['--layer', 3, '--optimizer', 'rmsprop', '--weight-decay', 0.1],
        ['--layer', 1, '--lr-decay', 0.1],
    ],
)
def test_they_are_trained_and_resumed(small_text, failed, options):
    """Two epochs and two more are four; what the run is made of cannot change."""
    argv = ['--corpus', 'small.txt', *TINY, *options, '--lr', 0.1]
    assert run(*argv, '--epoch', 4, '--out', 'four') == 0
    assert run(*argv, '--out', 'two') == 0
    assert run('--resume', 'two', '--epoch', 4) == 0
    one, other = arrays('four/last.npz'), arrays('two/last.npz')
    for name in one:
        numpy.testing.assert_array_equal(one[name], other[name], err_msg=name)
    for option in ('--layer=2', '--cell=lstm', '--optimizer=adam'):
        if option.split('=')[0] in options:
            assert 'cannot change' in failed(2, '--resume', 'two', option)


@pytest.mark.parametrize(
    'name, lr, decay',
    [
        ('adam', 0.002, 0),
        ('rmsprop', 0.002, 0),
        ('sgd', 1, 0),
        ('adam', 0.002, 30),
        ('sgd', 1, 0.2),
    ],
)
def test_one_update_is_the_optimizers_formula(small_text, name, lr, decay):
    """Of one window: the first step of each optimizer, and the default step size.

    With a decay, weights get smaller by its product with the step size, in proportion to what they were, not to gradients.
    """
    argv = [
        '--corpus',
        'small.txt',
        *TINY,
        '--dropout',
        0,
        '--bproplen',
        1000,
        '--batchsize',
        1,
        '--val-frac',
        0,
        '--gradclip',
        1e9,
        '--epoch',
        1,
        '--optimizer',
        name,
    ]
    argv += ['--weight-decay', decay] if decay else []
    assert run(*argv, '--lr', 0, '--out', 'before') == 0 and run(*argv, '--out', 'after') == 0
    model, meta = checkpoint.load('before/last.npz')
    after, _ = checkpoint.load('after/last.npz')
    ids = [
        meta['vocabulary'].index(word)
        for word in pathlib.Path('small.txt').read_text().replace('\n', ' <eos> ').split()
    ]
    x, t = numpy.array([[ids[:-1]], [ids[1:]]], 'i').transpose(0, 2, 1)
    model.cleargrads()
    train.stepwise(model, x, t, 0)[0].backward()
    for (key, param), (_, new) in zip(sorted(model.namedparams()), sorted(after.namedparams())):
        g = param.grad.astype('d')
        step = {
            'sgd': g,
            'rmsprop': g / (numpy.sqrt(0.01 * g * g) + 1e-8),
            'adam': g / (abs(g) + 1e-8 / 0.001**0.5),
        }[name]
        clear = abs(g) > 1e-4  # where rounding cannot turn the sign
        expected = (param.array - lr * step) * (1 - lr * decay) - param.array
        numpy.testing.assert_allclose(
            (new.array - param.array)[clear], expected[clear], rtol=1e-2, atol=1e-5, err_msg=key
        )


def test_the_step_size_decays_when_validation_gets_no_better(small_text):
    """Of a frozen model it never does, from the second epoch on; --lr of a resumed run is a new one."""

    def lr(out):
        return float(arrays(f'{out}/last.npz')['trainer/updater/lr'])

    argv = ['--corpus', 'small.txt', *FROZEN, '--lr', 0.1, '--lr-decay', 0.5]
    assert run(*argv, '--epoch', 3, '--out', 'run') == 0
    assert lr('run') == pytest.approx(0.1 * 0.5**2)
    assert run('--resume', 'run', '--epoch', 4) == 0
    assert lr('run') == pytest.approx(0.1 * 0.5**3)
    assert run('--resume', 'run', '--epoch', 5, '--lr', 0.8) == 0
    assert lr('run') == pytest.approx(0.4)
    assert (
        run('--resume', 'run', '--epoch', 6, '--lr', 0.8) == 0
    )  # the option that it had, but not the step size
    assert lr('run') == pytest.approx(0.4)
    old = {
        name: array for name, array in arrays('run/last.npz').items() if not name.endswith('/lr')
    }
    numpy.savez('run/last.npz', **old)  # from before step sizes decayed
    assert run('--resume', 'run', '--epoch', 7) == 0
    assert lr('run') == pytest.approx(0.4)
    assert run(*argv, '--epoch', 3, '--out', 'none', '--val-frac', 0) == 0
    assert lr('none') == 0.1


# --valid, --test, files that are cut already


def loss_of(path, text):
    """Mean nats per word of a text, words and spaces, read from a line begin, computed word by word."""
    model, meta = checkpoint.load(path)
    ids = [
        meta['vocabulary'].index(word)
        for word in ('<eos> ' + text.replace('\n', ' <eos> ')).split()
    ]
    losses = []
    model.initialize_state(1)
    for x, t in zip(ids, ids[1:]):
        y = model.step([x])[0].astype('d')
        losses.append(numpy.log(numpy.exp(y).sum()) - y[t])
    return numpy.mean(losses), len(losses)


def test_valid_and_test(small_text, capsys):
    text = 'the fish sat on a cat\nand ate\n'  # for one stream
    pathlib.Path('other.txt').write_text(text)
    argv = [
        '--corpus',
        'small.txt',
        *TINY,
        '--bproplen',
        9,
        '--valid',
        'other.txt',
        '--test',
        'other.txt',
    ]
    assert run(*argv) == 0
    out = capsys.readouterr().out
    expected, n = loss_of('result/small/last.npz', text)
    entry = entries(pathlib.Path('result/small'))[-1]
    assert entry['validation/main/loss'] == pytest.approx(expected, rel=1e-4)
    numbers = (
        f'loss {expected:.4f} nats per word, perplexity {numpy.exp(expected):.4g}, '
        + f'{expected * n / numpy.log(2) / len(text):.4f} bits per character; {n} words'
    )
    assert numbers in out
    before = whole(pathlib.Path('result/small'))
    assert run('--resume', '--test', 'other.txt') == 0
    assert numbers in capsys.readouterr().out
    assert whole(pathlib.Path('result/small'))['last.npz'] == before['last.npz']
    assert run('--resume', 'result/small', '--out', 'elsewhere', '--test', 'other.txt') == 0
    assert numbers in capsys.readouterr().out and not pathlib.Path('elsewhere').exists()
    assert run('--resume', '--epoch', 3) == 0
    pathlib.Path('other.txt').write_text('and ate\n')
    assert run('--resume', '--epoch', 4) == 1  # another validation


def test_words_that_the_model_does_not_know(failed, small_text, capsys):
    pathlib.Path('other.txt').write_text('the zebra sat\n')
    assert run('--corpus', 'small.txt', *TINY, '--test', 'other.txt') == 0
    loss, _ = loss_of('result/small/last.npz', 'the sat\n')
    out = capsys.readouterr().out
    assert f'loss {loss:.4f}' in out and '1 more words that it does not know' in out
    text = 'the zebra sat\n' + small_text.read_text()
    pathlib.Path('small.txt').write_text(text)
    assert run('--corpus', 'small.txt', *TINY, '--min-count', 2, '--test', 'other.txt') == 0
    loss, n = loss_of('result/small/last.npz', 'the <unk> sat\n')
    out = capsys.readouterr().out
    assert f'loss {loss:.4f}' in out and '1 are <unk>' in out
    assert f'{n * loss / numpy.log(2) / len("the sat" + chr(10)):.4f} bits per character' in out
    assert 'no such' in failed(1, '--corpus', 'small.txt', *TINY, '--test', 'none.txt')
    assert 'no such' in failed(1, '--corpus', 'small.txt', *TINY, '--valid', 'none.txt')


def test_penn_treebank_style_is_taken_as_it_is(folder, capsys):
    """One sentence a line, a space at both ends, rare words already <unk>, numbers already N."""
    lines = [
        ' mr. <unk> is chairman of <unk> n.v. the dutch group ',
        " it 's N years old & does n't rise N N \\/ N ",
    ]
    (folder / 'ptb.txt').write_text(''.join(line + '\n' for line in lines) * 20)
    assert run('--corpus', 'ptb.txt', *TINY, '--test', 'ptb.txt') == 0
    vocabulary = checkpoint.load('result/ptb/last.npz')[1]['vocabulary']
    assert vocabulary == list(dict.fromkeys(' <eos> '.join([*lines, '']).split()))
    assert '; 500 words\n' in capsys.readouterr().out  # 20 times 10 and 13 words and two line ends
    generated = subprocess.run(
        [sys.executable, pathlib.Path(train.__file__).with_name('generate.py'), '--length', '200'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '<unk>' not in generated and 'dutch' in generated


def test_a_folder_of_texts(small_text, capsys, failed):
    """It is learned as the text that its texts are together; what cannot be read is left out."""
    library = pathlib.Path('library')
    library.mkdir()
    lines = small_text.read_text().splitlines(keepends=True)
    (library / 'a.txt').write_text(''.join(lines[:20]))
    (library / 'b.txt').write_text(''.join(lines[20:]))
    (library / 'c.txt').write_bytes(b'\0')
    for options in (
        [],
        ['--vocab-size', 5],
        ['--valid', 'small.txt', '--test', 'small.txt', '--level', 'char'],
    ):
        assert run('--corpus', 'small.txt', *TINY, *options) == 0
        capsys.readouterr()
        assert run('--corpus', 'library', *TINY, *options) == 0
        out, err = capsys.readouterr()
        assert err.count('left out') == 1 and 'library/c.txt' in err
        one, several = (checkpoint.load(f'result/{name}/last.npz') for name in ('small', 'library'))
        assert (
            one[1]['history'] == several[1]['history']
            and one[1]['vocabulary'] == several[1]['vocabulary']
        )
    assert run('--resume', '--epoch', 3) == 0
    (library / 'b.txt').write_text('another')
    assert run('--resume', '--epoch', 4) == 1
    assert 'not what' in capsys.readouterr().err
    for name in 'ab':
        (library / f'{name}.txt').unlink()
    assert 'none of the 1 texts can be read' in failed(1, '--corpus', 'library', *TINY)


def test_the_articles_loop_learns_the_same(small_text, monkeypatch):
    """Without dropout there is no chance in it; --stepwise is remembered."""
    run('--corpus', 'small.txt', *TINY, '--dropout', 0)
    run(
        '--corpus', 'small.txt', *TINY, '--dropout', 0, '--stepwise', '--epoch', 1, '--out', 'steps'
    )
    monkeypatch.setattr(train.fused, 'forward', None)
    assert run('--resume', 'steps', '--epoch', 2) == 0
    _, meta = checkpoint.load('steps/last.npz')
    assert meta['options']['stepwise'] is True
    for whole, step in zip(entries(pathlib.Path('result/small')), entries(pathlib.Path('steps'))):
        for name in ('main/loss', 'main/accuracy', 'validation/main/loss'):
            assert whole[name] == pytest.approx(step[name], rel=1e-4)


FROZEN = [*TINY, '--gradclip', 0, '--dropout', 0]  # a gradient of norm 0 moves nothing


def test_gradient_is_clipped(small_text):
    run('--corpus', 'small.txt', *FROZEN, '--epoch', 1)
    run('--corpus', 'small.txt', *FROZEN, '--epoch', 2, '--out', 'two')
    first, second = arrays('result/small/last.npz'), arrays('two/last.npz')
    for name in first:
        if name.startswith('model/'):
            numpy.testing.assert_array_equal(first[name], second[name])


def test_state_is_what_the_streams_leave_and_fresh_in_each_epoch(small_text):
    """Neither validation nor samples touch it."""
    run('--corpus', 'small.txt', *FROZEN, '--sample-every', 1)
    one, two = entries(pathlib.Path('result/small'))
    assert one['main/loss'] == two['main/loss']
    model, meta = checkpoint.load('result/small/last.npz')
    ids = [
        meta['vocabulary'].index(word)
        for word in pathlib.Path('small.txt').read_text().replace('\n', ' <eos> ').split()
    ]
    for step in range(113):  # 456 - 1 words to read in 4 streams
        model.step([ids[113 * stream + step] for stream in range(4)])
    saved = arrays('result/small/last.npz')
    for name, variable in model.state.items():
        numpy.testing.assert_allclose(
            saved['trainer/updater/state/' + name], variable.array, atol=1e-6
        )


def test_options_reach_the_loop(small_text):
    """Each changes the weights after one epoch; a step of size zero leaves them alone."""

    def weights(*options):
        assert run('--corpus', 'small.txt', *TINY, '--epoch', 1, *options) == 0
        return arrays('result/small/last.npz')['model/l1_x/W']

    usual = weights()
    for option, value in (
        ('--dropout', 0),
        ('--lr', 0.01),
        ('--gradclip', 1e-3),
        ('--bproplen', 3),
        ('--batchsize', 2),
        ('--val-frac', 0.2),
        ('--seed', 1),
    ):
        assert not numpy.array_equal(weights(option, value), usual), option
    numpy.testing.assert_array_equal(weights('--lr', 0), weights('--lr', 0, '--epoch', 2))


def test_same_seed_same_files(small_text):
    for out, seed in (('a', 1), ('b', 1), ('c', 2)):
        run('--corpus', 'small.txt', *TINY, '--out', out, '--seed', seed)
    for name in ('last.npz', 'best.npz'):
        a, b, c = (pathlib.Path(out, name).read_bytes() for out in 'abc')
        assert a == b
    assert not numpy.array_equal(
        arrays('a/last.npz')['model/l0/W'], arrays('c/last.npz')['model/l0/W']
    )


def test_same_seed_same_files_in_another_process(trained):
    """Python's hash seed, new in each process, decides the order of sets."""
    for seed in '12':
        program = [sys.executable, train.__file__, '--corpus', 'small.txt', *TINY, '--out', 'again']
        subprocess.run(
            program,
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, 'PYTHONHASHSEED': seed},
        )
        for name in ('last.npz', 'best.npz'):
            assert pathlib.Path('again', name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.gpu
def test_gpu_learns_what_the_cpu_learns(small_text):
    run('--corpus', 'small.txt', *TINY, '--dropout', 0, '--weight-decay', 1)
    run(
        '--corpus',
        'small.txt',
        *TINY,
        '--dropout',
        0,
        '--weight-decay',
        1,
        '--gpu',
        0,
        '--out',
        'gpu',
    )
    for cpu, gpu in zip(entries(pathlib.Path('result/small')), entries(pathlib.Path('gpu'))):
        for name in ('main/loss', 'main/accuracy', 'validation/main/loss'):
            assert gpu[name] == pytest.approx(cpu[name], rel=1e-3)
    assert run('--resume', 'gpu', '--epoch', 3, '--gpu', 0) == 0
    assert run('--resume', 'gpu', '--epoch', 4) == 0  # and on the CPU
    assert len(entries(pathlib.Path('gpu'))) == 4


# Stop and resume


@pytest.fixture
def interrupted(monkeypatch):
    """interrupted(n, number): makes the process receive a signal during the nth window."""

    def arm(n, number=signal.SIGINT):
        windows = []
        forward = train.fused.forward

        def count(*args):
            windows.append(1)
            if len(windows) == n:
                os.kill(os.getpid(), number)
            return forward(*args)

        monkeypatch.setattr(train.fused, 'forward', count)
        return lambda: monkeypatch.setattr(train.fused, 'forward', forward)

    return arm


@pytest.mark.parametrize('window', [1, 5, 19, 20, 27])  # 19 windows an epoch, then one validates
def test_split_run_is_unbroken_run(small_text, interrupted, capsys, window):
    run('--corpus', 'small.txt', *TINY, '--epoch', 3, '--out', 'unbroken')
    disarm = interrupted(window)
    assert run('--corpus', 'small.txt', *TINY, '--epoch', 3, '--out', 'split') == 130
    assert '--resume' in capsys.readouterr().err
    disarm()
    assert run('--resume', 'split') == 0

    for name in ('last.npz', 'best.npz'):
        assert (
            pathlib.Path('split', name).read_bytes() == pathlib.Path('unbroken', name).read_bytes()
        )
    unbroken, split = entries(pathlib.Path('unbroken')), entries(pathlib.Path('split'))
    assert train.untimed(unbroken) == train.untimed(split)
    elapsed = [entry['elapsed_time'] for entry in split]
    assert elapsed == sorted(elapsed) and all(entry['tokens/s'] > 0 for entry in split)


def test_resume_with_more_epochs(trained, capsys):
    before = arrays(trained / 'last.npz')
    assert run('--corpus', 'small.txt', '--resume') == 0  # both epochs are done already
    for name, array in arrays(trained / 'last.npz').items():
        numpy.testing.assert_array_equal(array, before[name])
    assert run('--resume', '--epoch', '4', '--lr', '0.01', '--sample-every', 1) == 0
    assert [entry['epoch'] for entry in entries(trained)] == [1, 2, 3, 4]
    assert not (trained / 'old-1').exists()
    _, meta = checkpoint.load(trained / 'last.npz')
    assert meta['options']['lr'] == 0.01 and meta['epoch'] == 4 and len(meta['history']) == 4


def test_autosave_inside_an_epoch(small_text, monkeypatch):
    monkeypatch.setattr(train, 'AUTOSAVE', 0)  # seconds
    saved = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        'save',
        lambda path, model, meta, *trainer: (
            saved.append((path.name, meta['epoch'])),
            save(path, model, meta, *trainer),
        ),
    )
    run('--corpus', 'small.txt', *TINY, '--epoch', 1)
    assert saved[:18] == [('last.npz', 0)] * 18  # 19 windows, the last ends the epoch
    assert set(saved[18:]) == {('best.npz', 1), ('last.npz', 1)}


def test_a_signal_before_the_first_window(small_text, monkeypatch, capsys):
    make_trainer = train.make_trainer

    def interrupted(*args):
        trainer = make_trainer(*args)
        trainer.stop_trigger.signals.append(signal.SIGTERM)
        return trainer

    monkeypatch.setattr(train, 'make_trainer', interrupted)
    assert run('--corpus', 'small.txt', *TINY) == 143
    assert (
        'nothing to save' in capsys.readouterr().err
        and not pathlib.Path('result/small/last.npz').exists()
    )


def test_second_signal_stops_at_once(small_text, monkeypatch, capsys):
    forward = train.fused.forward

    def impatient(*args):
        os.kill(os.getpid(), signal.SIGINT)
        return forward(*args)

    monkeypatch.setattr(
        train.fused, 'forward', lambda *args: (impatient(*args), impatient(*args))[0]
    )
    assert run('--corpus', 'small.txt', *TINY) == 130
    assert 'stopped at once; nothing was saved yet' in capsys.readouterr().err
    assert entries(pathlib.Path('result/small')) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_background_job_ignores_ctrl_c(small_text, interrupted):
    interrupted(3)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a shell does for "command &"
    assert run('--corpus', 'small.txt', *TINY) == 0


def test_resume_into_another_folder(trained):
    best = (trained / 'best.npz').read_bytes()
    assert run('--resume', trained, '--out', 'other') == 0  # nothing left to do
    assert not pathlib.Path('other').exists()
    assert run('--resume', trained, '--out', 'other', '--epoch', 3, '--lr', 0) == 0
    assert pathlib.Path('other/best.npz').read_bytes() == best
    assert run('--resume', trained, '--out', 'result/../result/small', '--epoch', 3) == 0
    assert not (trained / 'old-1').exists()


@pytest.mark.parametrize('both', [False, True])
def test_a_reader_that_goes_away_does_not_end_the_training(trained, both):
    """| head, and 2>&1 | head with something to say on stderr."""
    program = [
        sys.executable,
        train.__file__,
        '--resume',
        '--epoch',
        '5',
        '--sample-every',
        '1',
        '--lr',
        '20',
    ]
    with subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if both else subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert both or 'the loss jumped' in process.stderr.read()
    assert process.returncode == 0
    _, meta = checkpoint.load(trained / 'last.npz')
    assert meta['epoch'] == 5


@pytest.mark.parametrize('name, code', [('SIGTERM', 143), ('SIGHUP', 129)])
def test_other_signals(small_text, interrupted, name, code):
    number = getattr(signal, name)
    interrupted(3, number)
    assert run('--corpus', 'small.txt', *TINY) == code
    _, meta = checkpoint.load('result/small/last.npz')
    assert meta['epoch'] == 0
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_closed_terminal_says_so_twice_and_is_saved(small_text, monkeypatch):
    forward = train.fused.forward

    def closed(*args):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        return forward(*args)

    monkeypatch.setattr(train.fused, 'forward', closed)
    assert run('--corpus', 'small.txt', *TINY) == 129
    assert run('--resume') == 129
    assert checkpoint.load_run('result/small/last.npz')[2][checkpoint.STATE + 'iteration'] == 2


def test_patience(small_text, capsys):
    assert run('--corpus', 'small.txt', *TINY, '--epoch', 200, '--lr', 0.1, '--patience', 3) == 0
    losses = [entry['validation/main/loss'] for entry in entries(pathlib.Path('result/small'))]
    assert len(losses) < 200 and losses.index(min(losses)) == len(losses) - 4
    _, meta = checkpoint.load('result/small/best.npz')
    assert meta['epoch'] == len(losses) - 3
    assert min(losses) == meta['history'][-1]['validation/main/loss']
    capsys.readouterr()
    assert (
        run('--resume', 'result/small', '--epoch', 201, '--test', 'small.txt', '--out', 'elsewhere')
        == 0
    )
    out = capsys.readouterr().out
    assert (
        f'{len(losses)} epochs are done' in out
        and '--patience' in out
        and not pathlib.Path('elsewhere').exists()
    )
    assert 'under result/small/last.npz' in out and 'under result/small/best.npz' in out


# What a run leaves behind


def test_files_of_a_run(trained):
    assert sorted(path.name for path in trained.iterdir()) == [
        '.lock',
        'best.npz',
        'last.npz',
        'log',
        'loss.png',
    ]
    assert (trained / 'loss.png').read_bytes().startswith(b'\x89PNG')


def test_an_old_run_moves_aside(trained, capsys):
    before = (trained / 'last.npz').read_bytes()
    (trained / 'notes.txt').write_text('mine')
    for n in (1, 2):
        assert run('--corpus', 'small.txt', *TINY, '--seed', n) == 0
        assert f'old-{n}' in capsys.readouterr().out
    assert (trained / 'old-1' / 'last.npz').read_bytes() == before
    assert (trained / 'notes.txt').read_text() == 'mine'


@pytest.mark.parametrize('option', ['--patience=1', '--lr-decay=0.5'])
def test_without_validation(small_text, option, capsys):
    assert run('--corpus', 'small.txt', *TINY, '--val-frac', '0', option) == 0
    assert 'without validation' in capsys.readouterr().err
    assert not pathlib.Path('result/small/best.npz').exists()
    assert 'val_perplexity' not in entries(pathlib.Path('result/small'))[-1]


def test_samples_and_cursor_codes(small_text, capsys):
    assert run('--corpus', 'small.txt', *TINY, '--sample-every', 1) == 0
    out = capsys.readouterr().out
    assert out.count('it writes') == 2 and '\033' not in out


def test_samples_never_contain_unk(small_text, capsys):
    run('--corpus', 'small.txt', *TINY, '--sample-every', 1, '--min-count', 45)
    out = capsys.readouterr().out
    assert 'it writes' in out and '<unk>' not in out


def test_progress_bar_on_a_screen(small_text, capsys, monkeypatch):
    monkeypatch.setattr(train.sys.stdout, 'isatty', lambda: True)
    assert run('--corpus', 'small.txt', *TINY, '--sample-every', 1) == 0
    out = capsys.readouterr().out
    assert 'Estimated time to finish' in out and out.count('it writes') == 2


def test_small_texts(folder, capsys):
    (folder / 'a.txt').write_text('one two three four five six\n')
    assert run('--corpus', 'a.txt', *TINY, '--batchsize', 50) == 0
    assert '1 streams instead of 50' in capsys.readouterr().out
    (folder / 'a.txt').write_text('one\n')
    assert run('--corpus', 'a.txt', *TINY, '--out', 'two') == 0  # one and <eos>


# What goes wrong


@pytest.fixture
def failed(capsys):
    """failed(code, argv...): the last line on stderr; nothing but it, no traceback."""

    def check(code, *argv):
        capsys.readouterr()
        assert run(*argv) == code
        err = capsys.readouterr().err
        assert 'Traceback' not in err
        if code == 1:
            assert err.count('\n') == 1
        return err

    return check


def test_wrong_use(failed, trained):
    assert 'usage: train.py' in failed(2)
    for options in (
        ['--unit', '0'],
        ['--batchsize', 'x'],
        ['--val-frac', '1'],
        ['--lr', 'nan'],
        ['--dropout', '1'],
        ['--epoch', '-1'],
        ['--level', 'line'],
        ['--layer', '0'],
        ['--cell', 'tree'],
        ['--optimizer', 'x'],
        ['--lr-decay', '2'],
        ['--weight-decay', '-1'],
        ['--seed', '-1'],
        ['--corpora', 'x'],
    ):
        assert 'error: ' in failed(2, '--corpus', 'small.txt', *options)
    for option in ('--valid', '--test'):
        assert f'{option} is empty' in failed(2, '--corpus', 'small.txt', option, '')
    assert '--unit is 8' in failed(2, '--resume', '--unit', '9')


def test_bad_corpora(failed, folder):
    (folder / 'empty.txt').write_bytes(b'')
    (folder / 'picture.txt').write_bytes(b'\x89PNG\r\n\x1a\n\0')
    (folder / 'noise.txt').write_bytes(b'\xff\xfe\xfd')
    (folder / 'one.txt').write_text('one\n')
    (folder / 'none').mkdir()
    for argv, message in [
        (['nothing.txt'], 'nothing.txt: no such'),
        (['empty.txt'], 'no text'),
        (['picture.txt'], 'binary'),
        (['noise.txt'], 'noise.txt: byte 0xfd at'),
        (['none'], 'no .txt'),
        (['one.txt', '--encoding', 'x'], 'x: not a text'),
        (['one.txt', '--val-frac', '0.9'], '1 word'),
    ]:
        assert message in failed(1, '--corpus', *argv)
    assert not (folder / 'result').exists()


def test_bad_places(failed, small_text, folder):
    (folder / 'file').write_text('')
    assert 'file' in failed(1, '--corpus', 'small.txt', *TINY, '--out', 'file')
    assert 'file' in failed(1, '--corpus', 'small.txt', *TINY, '--out', 'file/deeper')


def test_bad_resumes(failed, trained, folder):
    (folder / 'foreign.npz').write_bytes(b'PK\x03\x04')
    assert 'damaged' in failed(1, '--resume', 'foreign.npz')
    assert 'no such file' in failed(1, '--resume', 'nowhere.npz')
    assert 'last.npz' in failed(1, '--resume', trained / 'best.npz')
    (folder / 'small.txt').write_text('quite another text\n' * 60)
    assert 'not what' in failed(1, '--resume', trained)


def test_killed_runs_resume_to_the_same_end(small_text, monkeypatch):
    monkeypatch.setattr(
        kill, 'RUNS', {'text': ['--corpus', str(small_text), *TINY, '--epoch', '5']}
    )
    assert kill.main(['3']) == 0


def test_what_a_killed_run_leaves_is_cleared(trained):
    for name in train.FILES:
        (trained / f'.{name}.part').write_bytes(b'half')
    assert run('--resume', '--epoch', 3) == 0
    assert sorted(path.name for path in trained.iterdir()) == [
        '.lock',
        'best.npz',
        'last.npz',
        'log',
        'loss.png',
    ]


def test_two_runs_in_one_folder(failed, small_text):
    """The second is refused, resumed or new, until the first is gone, however it went."""
    program = [sys.executable, train.__file__, '--corpus', 'small.txt', *TINY, '--epoch', '1000000']
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert any(
            line.startswith('2 ') for line in process.stdout
        )  # the second epoch: the first is saved
        try:
            for argv in (['--corpus', 'small.txt', *TINY], ['--resume']):
                assert 'another training is going on' in failed(1, *argv)
        finally:
            process.kill()
    assert not pathlib.Path('result/small/old-1').exists()
    assert run('--corpus', 'small.txt', *TINY, '--out', 'other') == 0
    assert run('--corpus', 'small.txt', *TINY) == 0
    assert pathlib.Path('result/small/old-1').exists()


def test_a_checkpoint_that_another_run_replaces_meanwhile(failed, trained, monkeypatch):
    """The other run has done more, and ends before this one has the lock."""
    cut_streams = train.cut_streams

    def slowly(*args):
        monkeypatch.setattr(train, 'cut_streams', cut_streams)
        assert run('--resume', trained, '--epoch', 9) == 0
        return cut_streams(*args)

    monkeypatch.setattr(train, 'cut_streams', slowly)
    assert 'another training has just written it' in failed(1, '--resume', trained, '--epoch', 3)
    assert checkpoint.load(trained / 'last.npz')[1]['epoch'] == 9


# Numbers that are none


@pytest.mark.parametrize('options', [[], ['--stepwise']])
def test_a_loss_that_is_no_number_stops(failed, trained, options):
    before = {name: (trained / name).read_bytes() for name in train.FILES}
    line = failed(1, '--resume', '--epoch', 9, '--lr', 1e38, *options)
    # 38 windows were read; the 39th makes the weights infinite, the 40th shows it
    assert 'the loss is nan at step 40 (epoch 2.' in line and '--resume' in line
    for name in ('last.npz', 'best.npz', 'log', 'loss.png'):
        assert name == 'log' or (trained / name).read_bytes() == before[name]
    assert len(entries(trained)) == 2
    assert run('--resume', '--epoch', 3) == 0
    assert 'nothing was saved yet' in failed(1, '--corpus', 'small.txt', *TINY, '--lr', 1e38)


@pytest.mark.parametrize('loss', ['inf', '-inf', 'nan'])
def test_the_step_is_named(failed, small_text, monkeypatch, loss):
    forward, windows = train.fused.forward, []

    def broken(*args):
        windows.append(1)
        accum_loss, accuracy = forward(*args)
        return accum_loss * float(loss) if len(windows) == 27 else accum_loss, accuracy

    monkeypatch.setattr(train.fused, 'forward', broken)
    # 19 windows to learn, one to validate, and the seventh of the second epoch
    assert f'the loss is {loss} at step 26 (epoch 1.3' in failed(1, '--corpus', 'small.txt', *TINY)
    assert checkpoint.load('result/small/last.npz')[1]['epoch'] == 1


@pytest.mark.parametrize('val_frac', [0, 0.05])
def test_weights_that_are_no_numbers_are_not_saved(failed, small_text, val_frac):
    """One window is an epoch, so that no later loss shows what its update has done."""
    options = ['--corpus', 'small.txt', *TINY, '--bproplen', 480, '--val-frac', val_frac]
    assert run(*options, '--epoch', 1) == 0
    before = pathlib.Path('result/small/last.npz').read_bytes()
    assert 'no numbers any more after step 2' in failed(1, '--resume', '--epoch', 2, '--lr', 1e38)
    assert pathlib.Path('result/small/last.npz').read_bytes() == before


def test_a_jump_is_only_told(small_text, capsys):
    assert run('--corpus', 'small.txt', *TINY, '--epoch', 4) == 0
    assert run('--resume', '--epoch', 6, '--lr', 0) == 0
    assert capsys.readouterr().err == ''
    assert run('--resume', '--epoch', 9, '--lr', 20) == 0
    assert 'the loss jumped from 2.' in capsys.readouterr().err


@pytest.mark.parametrize(
    'losses, warnings',
    [
        ([4.0, 7.9], 0),
        ([4.0, 8.1], 1),
        ([0.1, 1.0], 0),
        ([0.1, 1.2], 1),
        ([4.0, 8.1, 8.0, 9.0], 1),
        ([4.0, 8.1, 17.0], 2),
        ([4.0, 2.0, 1.0, 0.5, 0.2, 0.1], 0),
        ([2.0, 2.5, 3.0, 3.5, 4.0], 0),
        ([3.0] * 5 + [1.0] * 100 + [2.5], 1),
    ],
)
def test_what_a_jump_is(capsys, losses, warnings):
    updater = types.SimpleNamespace(iteration=0, epoch_detail=0.0, recent=numpy.zeros(2), usual=0.0)
    for loss in losses:
        for _ in range(5):
            train.Updater.watch(updater, loss, 100)
    assert capsys.readouterr().err.count('the loss jumped') == warnings


def test_windows_of_few_words_are_not_taken_for_jumps(folder, capsys):
    """Every fourth of the windows, each a word, is one that nobody can guess."""
    noise = numpy.random.RandomState(0).randint(500, size=200)
    (folder / 'noise.txt').write_text(' '.join(f'a b c {n}' for n in noise))
    assert (
        run(
            '--corpus',
            'noise.txt',
            *TINY,
            '--batchsize',
            1,
            '--bproplen',
            1,
            '--lr',
            0.02,
            '--val-frac',
            0,
        )
        == 0
    )
    assert entries(folder / 'result' / 'noise')[-1]['main/loss'] < 4
    assert capsys.readouterr().err == ''


# State from a stranger


def changed(path, **changes):
    """Replaces arrays of the training state, or entries of meta, and saves the checkpoint again."""
    found = arrays(path)
    meta = json.loads(found['meta'].tobytes())
    for name, value in changes.items():
        if name in meta:
            meta[name] = value
        else:
            name = 'trainer/updater/' + name.replace('__', '/')
            assert name in found
            found[name] = value(found[name]) if callable(value) else value
    found['meta'] = numpy.frombuffer(json.dumps(meta).encode(), 'u1')
    numpy.savez(path, **{name: value for name, value in found.items() if value is not None})


@pytest.mark.parametrize(
    'changes',
    [
        {'sums': None},
        {'iteration': -5},
        {'iteration': 39},
        {'iteration': 38.0},
        {'iteration': [38, 38]},
        {'streams__epoch': 10**9},
        {'streams__epoch': -1},
        {'streams__position': 5},
        {'streams__position': 6, 'streams__is_new_epoch': False},
        {'streams__is_new_epoch': False},
        {'optimizer__l0__W__t': -38},
        {'optimizer__l0__W__m': numpy.zeros(1, 'f')},
        {'optimizer__l0__W__v': None},
        {'optimizer__l0__W__m': lambda m: m.astype('d')},
        {'optimizer__l0__W__v': lambda v: -v - 1},
        {'optimizer__l0__W__m': lambda m: m * numpy.nan},
        {'state__c1': numpy.zeros((1, 1), 'f')},
        {'state__h2': lambda h: h[:2]},
        {'state__c1': lambda c: c * numpy.inf},
        {'random__position': 10**6},
        {'random__position': -1},
        {'random__keys': lambda keys: keys[:9]},
        {'random__keys': lambda keys: keys.astype('u8')},
        {'sums': numpy.zeros(4)},
        {'sums': lambda sums: sums * numpy.nan},
        {'epoch': 1, 'history': [{'epoch': 1, 'main/loss': 1.0}]},
        {'options': {}},
        {'options': {'corpus': ''}},
        {'options': {'corpus': ['small.txt']}},
        {'options': {'corpus': 'small.txt', 'midi': ['small.txt']}},
    ],
)
def test_a_state_that_cannot_be_is_refused(failed, trained, changes):
    changed(trained / 'last.npz', **changes)
    before = (trained / 'last.npz').read_bytes()
    assert str(failed(1, '--resume', '--epoch', 3)).startswith('train.py: ')
    assert (trained / 'last.npz').read_bytes() == before


def test_a_history_without_validation_is_gone_on_with(trained):
    changed(trained / 'last.npz', history=[{'epoch': n, 'main/loss': 1.0} for n in (1, 2)])
    assert run('--resume', '--epoch', 3, '--patience', 2) == 0


@pytest.mark.parametrize(
    'options',
    [{'unit': 'x'}, {'lr': 'nan'}, {'stepwise': 1}, {'level': 'line'}, {'epoch': 10**400}],
)
def test_options_that_cannot_be_are_refused(failed, trained, options):
    _, meta = checkpoint.load(trained / 'last.npz')
    changed(trained / 'last.npz', options={**meta['options'], **options})
    assert 'options' in failed(1, '--resume')


def test_what_is_saved_can_be_loaded(small_text):
    """A loss of hundreds of nats gives a perplexity near the largest float."""
    assert run('--corpus', 'small.txt', *TINY, '--lr', 300) == 0
    assert max(entry['main/loss'] for entry in entries(pathlib.Path('result/small'))) > 700
    assert run('--resume', '--epoch', 3, '--lr', 0) == 0


def test_a_log_that_is_none_is_replaced(trained):
    history = train.untimed(entries(trained))
    bad = [{**entry, 'elapsed_time': 'x', 'tokens/s': None} for entry in history]
    for text in (
        '',
        '[',
        '{}',
        json.dumps(bad),
        '[1, 2]',
        '[' * 100000,
        '\xff',
        json.dumps([{**entry, 'main/loss': 0} for entry in history]),
    ):
        (trained / 'log').write_text(text, encoding='latin-1')
        assert run('--resume') == 0
        (trained / 'log').write_text(text, encoding='latin-1')
        assert run('--resume', trained, '--epoch', 3, '--out', 'third') == 0
        assert train.untimed(entries(pathlib.Path('third')))[:2] == history


# Where it cannot write


def whole(folder):
    """Asserts that all the files of a run are whole; returns their checksums."""
    checkpoint.load_run(folder / 'last.npz')
    checkpoint.load(folder / 'best.npz')
    entries(folder)
    matplotlib.image.imread(folder / 'loss.png')
    assert not list(folder.glob('.*.part'))
    return {name: hashlib.sha256((folder / name).read_bytes()).digest() for name in train.FILES}


@pytest.mark.skipif(not hasattr(signal, 'SIGXFSZ'), reason='no file size limit here')
def test_full_disk(failed, trained, folder):
    """Limits on the size of a file, from none of a run to all of them fit below; what does not leaves the old one."""
    import resource

    sizes = {name: (trained / name).stat().st_size for name in train.FILES}
    before = whole(trained)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    failing = []
    for limit in [0, 100, *range(1000, max(sizes.values()) + 4000, 1500)]:
        shutil.copytree(trained, folder / str(limit))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, unlimited[1]))
        try:
            code = run('--resume', limit, '--epoch', 3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        after = whole(folder / str(limit))
        if code:
            failing.append(limit)
            if limit < sizes['last.npz']:
                assert after['last.npz'] == before['last.npz']
        else:
            assert all(after[name] != before[name] for name in ('last.npz', 'log', 'loss.png'))
    assert len(failing) > 10 and failing[-1] >= max(sizes['last.npz'], sizes['loss.png']) - 1500
    resource.setrlimit(resource.RLIMIT_FSIZE, (sizes['last.npz'] - 1000, unlimited[1]))
    try:
        line = failed(1, '--resume', '--epoch', 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert 'File too large' in line and '.npz' in line


@pytest.mark.skipif(
    not hasattr(os, 'geteuid') or not os.geteuid() and not shutil.which('setpriv'),
    reason='permissions bind nobody here',
)
def test_a_folder_that_cannot_be_written(small_text):
    without_privileges = (
        [] if os.geteuid() else ['setpriv', '--bounding-set=-all', '--inh-caps=-all']
    )
    argv = ['--corpus', 'small.txt', *TINY, '--out', 'run']

    def fails(code, *argv):
        process = subprocess.run(
            [*without_privileges, sys.executable, '-c', code, *map(str, argv)],
            text=True,
            capture_output=True,
            env={**os.environ, 'PYTHONPATH': str(pathlib.Path(train.__file__).parent)},
        )
        assert process.returncode == 1 and process.stderr.count('\n') == 1
        assert process.stderr.startswith('train.py: ') and 'Permission denied' in process.stderr

    normal = 'import train; raise SystemExit(train.main())'
    fails(
        'import os, train\n'
        'check = train.check_finite\n'
        'train.check_finite = lambda updater, log: (check(updater, log), updater.epoch == 2 and os.chmod("run", 0o555))\n'
        'raise SystemExit(train.main())',
        *argv,
        '--epoch',
        3,
    )  # it becomes so before the second epoch is saved
    before = whole(pathlib.Path('run'))
    assert checkpoint.load('run/last.npz')[1]['epoch'] == 1
    fails(normal, '--resume', 'run')
    fails(normal, *argv)
    assert whole(pathlib.Path('run')) == before
    os.chmod('run', 0o755)
    os.chmod('.', 0o555)
    fails(normal, *argv, '--out', 'new')
    os.chmod('.', 0o755)
    assert not pathlib.Path('new').exists()


def test_gpu_that_is_not_there(small_text, capsys):
    assert run('--gpu', 99, '--corpus', 'small.txt', *TINY) == 0
    assert 'going on on the CPU' in capsys.readouterr().err


def test_the_model_is_the_articles():
    names = sorted(name for name, _ in RNN(3, 2).namedparams())
    assert names == sorted(
        [
            '/l0/W',
            '/l1_x/W',
            '/l1_x/b',
            '/l1_h/W',
            '/l1_h/b',
            '/l2_x/W',
            '/l2_x/b',
            '/l2_h/W',
            '/l2_h/b',
            '/l3/W',
            '/l3/b',
        ]
    )


def test_a_test_that_gives_no_number(failed, trained):
    """Weights that are finite, but so large that no loss comes out."""
    changed = {
        name: numpy.where(array > 0, 3e38, -3e38).astype('f')
        if name.startswith('model/')
        else array
        for name, array in arrays(trained / 'last.npz').items()
    }
    numpy.savez(trained / 'last.npz', **changed)
    assert 'so large that the loss is' in failed(1, '--resume', '--test', 'small.txt')
