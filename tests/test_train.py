"""train.py: streams, the loop, evaluation, the options that reach them."""

import argparse
import os
import pathlib
import re
import subprocess
import sys

import chainer
import numpy
import pytest

from support import checkpoint
import generate
import train
from conftest import TINY, arrays, entries, forge, run
from rnn import RNN

FROZEN = [*TINY, '--gradclip', 1e-30, '--dropout', 0]  # so short a gradient moves nothing
SMALL = pathlib.Path('result/small')


def ids_of(path, text):
    """The ids (list of int) that a checkpoint gives to the words of a text."""
    vocabulary = checkpoint.load(path).vocabulary
    return [vocabulary.index(word) for word in text.replace('\n', ' <eos> ').split()]


# Streams


def test_streams_are_those_of_the_docstring():
    letters = numpy.array([*'abcdefghijklmnopqrstuv'])
    x, t = train.streams(letters, 3)
    assert [''.join(stream) for stream in x] == ['abcdefg', 'hijklmn', 'opqrstu']
    assert [''.join(stream) for stream in t] == ['bcdefgh', 'ijklmno', 'pqrstuv']


@pytest.mark.parametrize(
    'n, batchsize', [(2, 1), (31, 3), (31, 30), (100, 7), (57, 8), (22, 3), (21, 4)]
)
def test_streams_hold_every_word_once_in_order(n, batchsize):
    ids = numpy.random.RandomState(n).permutation(n).astype('i')
    x, t = train.streams(ids, batchsize)
    used = (n - 1) // batchsize * batchsize
    assert x.shape == t.shape == (batchsize, used // batchsize)
    assert x.ravel().tolist() == ids[:used].tolist()
    assert t.ravel().tolist() == ids[1 : used + 1].tolist()


# Evaluation


def slowly(model, ids):
    """Loss in nats and "was the likeliest word the right one" of each word of ids but the first.

    Two LSTM layers from a fresh state, word by word, in float64 NumPy.
    """
    p = {name: param.array.astype('d') for name, param in model.namedparams()}
    c, h = numpy.zeros((2, model.n_units)), numpy.zeros((2, model.n_units))
    losses, hits = [], []
    for x, t in zip(ids, ids[1:]):
        below = p['/l0/W'][x]
        for k in (0, 1):
            gates = p[f'/l{k + 1}_x/W'] @ below + p[f'/l{k + 1}_x/b']
            gates += p[f'/l{k + 1}_h/W'] @ h[k] + p[f'/l{k + 1}_h/b']
            a, i, f, o = gates.reshape(-1, 4).T
            c[k] = c[k] / (1 + numpy.exp(-f)) + numpy.tanh(a) / (1 + numpy.exp(-i))
            h[k] = below = numpy.tanh(c[k]) / (1 + numpy.exp(-o))
        y = p['/l3/W'] @ below + p['/l3/b']
        losses.append(numpy.log(numpy.exp(y).sum()) - y[t])
        hits.append(y.argmax() == t)
    return losses, hits


@pytest.mark.parametrize('stepwise', [False, True])
@pytest.mark.parametrize('n, streams', [(50, 3), (13, 3), (12, 2), (2, 1)])
def test_evaluation_is_what_a_slow_computation_gives(stepwise, n, streams):
    """Of 3 streams and windows of 4 words; few words are read in fewer streams."""
    numpy.random.seed(n)
    model = RNN(7, 5)
    for param in model.params():  # so that memory and the right word make a difference
        param.array[...] = numpy.random.normal(size=param.shape)
    ids = numpy.random.randint(7, size=n).astype('i')
    for x in numpy.random.randint(7, size=(3, 2)):
        model.step(x)
    before = {name: variable.array.copy() for name, variable in model.state.items()}

    changed = {'batchsize': 3, 'bproplen': 4, 'stepwise': stepwise}
    args = argparse.Namespace(**train.DEFAULTS | changed)
    found = train.evaluate(model, ids, args)

    length = (n - 1) // streams
    parts = [slowly(model, ids[s * length :][: length + 1]) for s in range(streams)]
    losses, hits = (numpy.concatenate([part[which] for part in parts]) for which in (0, 1))
    assert found[2] == len(losses) == streams * length
    assert found[0] == pytest.approx(losses.mean(), rel=1e-5)
    assert found[1] == pytest.approx(hits.mean(), rel=1e-6)
    # its own state, and the mode of training, are as they were
    assert chainer.config.train and chainer.config.enable_backprop
    assert before.keys() == model.state.keys()
    for name, variable in model.state.items():
        numpy.testing.assert_array_equal(variable.array, before[name])


def test_validation_is_the_mean_over_all_its_words(small_text):
    """The model of a run gives the loss that the log says, computed word by word."""
    assert run(train, '--corpus', 'small.txt', *TINY, '--bproplen', 4) == 0
    ids = ids_of(SMALL / 'last.npz', small_text.read_text(encoding='utf-8'))
    n_val = int(len(ids) * 0.05)  # 24 words: 4 streams of 6, windows of four and of two
    model, losses = checkpoint.load(SMALL / 'last.npz').model, []
    for first in range(len(ids) - n_val, len(ids), 6):
        losses += slowly(model, ids[first - 1 : first + 6])[0]
    assert len(losses) == n_val
    entry = entries(SMALL)[-1]
    assert entry['validation/main/loss'] == pytest.approx(numpy.mean(losses), rel=1e-4)
    assert entry['val_perplexity'] == pytest.approx(numpy.exp(numpy.mean(losses)), rel=1e-4)


# The loop


HELLO = ['--corpus', 'hello.txt', '--level', 'char', '--unit', 16, '--layer', 1]
HELLO += ['--dropout', 0, '--lr', 0.03, '--sample-every', 0]


@pytest.mark.parametrize('cell', ['lstm', 'gru', 'rnn'])
def test_hello(folder, cell):
    """Karpathy's h: e, he: l, hel: l, hell: o. After one l comes l, after two comes o.

    Only memory can tell.
    """
    assert run(train, *HELLO, '--cell', cell, '--epoch', 12) == 0
    saved = checkpoint.load('result/hello/last.npz')
    model, vocabulary = saved.model, saved.vocabulary
    assert model.cell == cell
    model.step([vocabulary.index('<eos>')])
    said = [vocabulary[int(model.step([vocabulary.index(x)]).argmax())] for x in 'hello']
    assert said == ['e', 'l', 'l', 'o', '<eos>']


def test_bits_per_character(folder):
    assert run(train, *HELLO, '--epoch', 2) == 0
    log = entries('result/hello')
    assert len(log) == 2
    for entry in log:
        assert 2 ** entry['bpc'] == pytest.approx(numpy.exp(entry['main/loss']))
        assert 2 ** entry['val_bpc'] == pytest.approx(numpy.exp(entry['validation/main/loss']))


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
    """Of one window: the first step of each optimizer, and the default learning rate.

    With a decay, weights get smaller by its product with the learning rate, in proportion to what
    they were, not to gradients.
    """
    argv = ['--corpus', 'small.txt', *TINY, '--dropout', 0, '--bproplen', 1000, '--batchsize', 1]
    argv += ['--val-frac', 0, '--gradclip', 1e9, '--epoch', 1, '--optimizer', name]
    argv += ['--weight-decay', decay] if decay else []
    assert run(train, *argv, '--lr', 1e-30, '--out', 'before') == 0
    assert run(train, *argv, '--out', 'after') == 0
    before, after = (checkpoint.load(f'{out}/last.npz').model for out in ('before', 'after'))
    ids = ids_of('before/last.npz', small_text.read_text(encoding='utf-8'))
    before.cleargrads()
    loss = 0
    for x, t in zip(ids, ids[1:]):
        loss += before.forward(numpy.array([x], 'i'), numpy.array([t], 'i'), 0)[0]
    loss.backward()
    compared = 0
    for (key, param), (_, new) in zip(sorted(before.namedparams()), sorted(after.namedparams())):
        g = param.grad.astype('d')
        step = {
            'sgd': g,
            'rmsprop': g / (numpy.sqrt(0.01 * g * g) + 1e-8),
            'adam': g / (abs(g) + 1e-8 / 0.001**0.5),
        }[name]
        clear = abs(g) > 1e-4  # where rounding cannot turn the sign
        assert clear.any(), key
        compared += clear.sum()
        expected = (param.array - lr * step) * (1 - lr * decay) - param.array
        numpy.testing.assert_allclose(
            (new.array - param.array)[clear], expected[clear], rtol=1e-2, atol=1e-5, err_msg=key
        )
    assert compared > before.count_params() / 2


def test_gradient_is_clipped(small_text):
    """An update of sgd with a learning rate of 1 moves the weights by the largest norm."""
    argv = ['--corpus', 'small.txt', *TINY, '--bproplen', 1000, '--epoch', 1, '--dropout', 0]
    argv += ['--optimizer', 'sgd']
    for out, lr, norm in (('before', 1e-30, 5), ('clipped', 1, 0.25), ('whole', 1, 1e9)):
        assert run(train, *argv, '--lr', lr, '--gradclip', norm, '--out', out) == 0
    before = arrays('before/last.npz')
    moved = {}
    for out in ('clipped', 'whole'):
        after = arrays(f'{out}/last.npz')
        names = [name for name in before if name.startswith('model/')]
        moved[out] = numpy.concatenate([(after[n] - before[n]).ravel() for n in names])
    assert numpy.linalg.norm(moved['clipped']) == pytest.approx(0.25, rel=1e-4)
    ratio = numpy.linalg.norm(moved['whole']) / 0.25
    assert ratio > 2
    numpy.testing.assert_allclose(moved['clipped'] * ratio, moved['whole'], atol=1e-4)


def test_state_is_what_the_streams_leave_and_fresh_in_each_epoch(small_text):
    """Neither validation nor samples touch it."""
    assert run(train, '--corpus', 'small.txt', *FROZEN, '--sample-every', 1) == 0
    one, two = entries(SMALL)
    assert one['main/loss'] == two['main/loss']
    ids = ids_of(SMALL / 'last.npz', small_text.read_text(encoding='utf-8'))
    model = checkpoint.load(SMALL / 'last.npz').model
    for step in range(113):  # 456 - 1 words to read in 4 streams
        model.step([ids[113 * stream + step] for stream in range(4)])
    saved = checkpoint.load(SMALL / 'last.npz', training=True).training
    assert len(model.state) == 4
    for name, variable in model.state.items():
        numpy.testing.assert_allclose(saved['state/' + name], variable.array, atol=1e-6)


def test_the_articles_loop_learns_the_same(small_text):
    """Without dropout there is no chance in it; --stepwise is remembered."""
    argv = ['--corpus', 'small.txt', *TINY, '--dropout', 0]
    assert run(train, *argv) == 0
    assert run(train, *argv, '--stepwise', '--epoch', 1, '--out', 'steps') == 0
    assert run(train, '--resume', 'steps', '--epoch', 2) == 0
    assert checkpoint.load('steps/last.npz').options['stepwise'] is True
    assert len(entries(SMALL)) == len(entries('steps')) == 2
    for whole, step in zip(entries(SMALL), entries('steps')):
        for name in ('main/loss', 'main/accuracy', 'validation/main/loss'):
            assert whole[name] == pytest.approx(step[name], rel=1e-4)


def test_options_reach_the_loop(small_text):
    """Each changes the weights after one epoch; a learning rate of zero leaves them alone."""

    def weights(*options):
        assert run(train, '--corpus', 'small.txt', *TINY, '--epoch', 1, *options) == 0
        return arrays(SMALL / 'last.npz')['model/l1_x/W']

    usual = weights()
    for option, value in (
        ('--dropout', 0),
        ('--dropout-of', 'inputs'),
        ('--lr', 0.01),
        ('--gradclip', 1e-3),
        ('--bproplen', 3),
        ('--batchsize', 2),
        ('--val-frac', 0.2),
        ('--seed', 1),
        ('--weight-decay', 1),
        ('--schedule', 'linear'),
    ):
        assert not numpy.array_equal(weights(option, value), usual), option
    numpy.testing.assert_array_equal(weights('--lr', 1e-30), weights('--lr', 1e-30, '--epoch', 2))


def test_same_seed_same_files(small_text):
    for out, seed in (('a', 1), ('b', 1), ('c', 2)):
        assert run(train, '--corpus', 'small.txt', *TINY, '--out', out, '--seed', seed) == 0
    for name in ('last.npz', 'best.npz'):
        assert pathlib.Path('a', name).read_bytes() == pathlib.Path('b', name).read_bytes()
    a, c = (arrays(f'{out}/last.npz')['model/l0/W'] for out in 'ac')
    assert not numpy.array_equal(a, c)


def test_same_seed_same_files_in_another_process(trained):
    """Python's hash seed, new in each process, decides the order of sets."""
    for seed in '12':
        program = [sys.executable, train.__file__, '--corpus', 'small.txt', *TINY, '--out', 'again']
        environment = {**os.environ, 'PYTHONHASHSEED': seed}
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL, env=environment)
        for name in ('last.npz', 'best.npz'):
            assert pathlib.Path('again', name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.gpu
def test_gpu_learns_what_the_cpu_learns(small_text):
    argv = ['--corpus', 'small.txt', *TINY, '--dropout', 0, '--weight-decay', 1]
    assert run(train, *argv) == run(train, *argv, '--gpu', 0, '--out', 'gpu') == 0
    for cpu, gpu in zip(entries(SMALL), entries('gpu')):
        for name in ('main/loss', 'main/accuracy', 'validation/main/loss'):
            assert gpu[name] == pytest.approx(cpu[name], rel=1e-3)
    assert run(train, '--resume', 'gpu', '--epoch', 3, '--gpu', 0) == 0
    assert run(train, '--resume', 'gpu', '--epoch', 4) == 0  # and on the CPU
    assert len(entries('gpu')) == 4


def test_gpu_that_is_not_there(small_text, capsys):
    assert run(train, '--gpu', 99, '--corpus', 'small.txt', *TINY) == 0
    assert 'continuing on the CPU' in capsys.readouterr().err
    assert len(entries(SMALL)) == 2


def test_the_model_is_the_articles():
    names = {name for name, _ in RNN(3, 2).namedparams()}
    links = ('l1_x', 'l1_h', 'l2_x', 'l2_h', 'l3')
    assert names == {'/l0/W', *(f'/{link}/{array}' for link in links for array in 'Wb')}


# The learning rate, patience


def test_linear_schedule(small_text):
    """Update t of n has (1 - t / n) of the learning rate and of weight decay; the first is t = 0.

    A run that goes on for more epochs has a larger n, so its learning rate rises once.
    """
    argv = ['--corpus', 'small.txt', *TINY, '--dropout', 0, '--bproplen', 1000, '--batchsize', 1]
    argv += ['--val-frac', 0, '--gradclip', 1e9, '--optimizer', 'sgd', '--weight-decay', 100]
    assert run(train, *argv, '--lr', 1e-30, '--epoch', 1, '--out', 'before') == 0
    assert (
        run(train, *argv, '--lr', 0.001, '--schedule', 'linear', '--epoch', 2, '--out', 'run') == 0
    )
    assert run(train, '--resume', 'run', '--epoch', 5) == 0
    model = checkpoint.load('before/last.npz').model
    start = {name: param.array.copy() for name, param in model.namedparams()}
    ids = numpy.array(ids_of('before/last.npz', small_text.read_text()), 'i')
    for share in (1, 1 / 2, 3 / 5, 2 / 5, 1 / 5):  # an epoch is one window
        model.cleargrads()
        model.initialize_state(1)
        losses = [model.forward(x, t, 0)[0] for x, t in zip(ids[:-1, None], ids[1:, None])]
        sum(losses).backward()
        for param in model.params():
            moved = param.array.astype('d') - 0.001 * share * param.grad
            param.array[...] = moved * (1 - 0.001 * share * 100)
    after = arrays('run/last.npz')
    for name, param in model.namedparams():
        assert abs(param.array - start[name]).max() > 1e-3, name
        found = after['model' + name]
        numpy.testing.assert_allclose(found, param.array, rtol=1e-3, atol=2e-5, err_msg=name)


@pytest.mark.parametrize('optimizer', train.OPTIMIZERS)
def test_a_resumed_run_takes_the_learning_rate_that_is_given(small_text, optimizer):
    """With 0 nothing moves any more; with another one it moves elsewhere."""
    argv = ['--corpus', 'small.txt', *TINY, '--optimizer', optimizer]
    assert run(train, *argv, '--lr', 0.1, '--epoch', 1, '--out', 'run') == 0
    ends = []
    for lr in ([], ['--lr', 0.1], ['--lr', 0.05], ['--lr', 1e-30]):
        out = ''.join(map(str, ['end', *lr]))
        assert run(train, '--resume', 'run', '--out', out, '--epoch', 2, *lr) == 0
        ends.append(arrays(f'{out}/last.npz')['model/l1_x/W'])
    numpy.testing.assert_array_equal(ends[0], ends[1])
    assert not numpy.array_equal(ends[1], ends[2])
    numpy.testing.assert_array_equal(ends[3], arrays('run/last.npz')['model/l1_x/W'])


def test_patience(small_text, capsys):
    argv = ['--corpus', 'small.txt', *TINY, '--epoch', 200, '--lr', 0.1, '--patience', 3]
    assert run(train, *argv) == 0
    losses = [entry['validation/main/loss'] for entry in entries(SMALL)]
    assert len(losses) < 200 and losses.index(min(losses)) == len(losses) - 4
    best = checkpoint.load(SMALL / 'best.npz')
    assert best.epoch == best.best_epoch == len(losses) - 3
    assert best.best_loss == min(losses) == checkpoint.load(SMALL / 'last.npz').best_loss
    capsys.readouterr()
    argv = ['--resume', SMALL, '--epoch', 201, '--test', 'small.txt', '--out', 'elsewhere']
    assert run(train, *argv) == 0
    out = capsys.readouterr().out
    assert f'{len(losses)} epochs are done' in out and '--patience' in out
    assert not pathlib.Path('elsewhere').exists()
    assert 'under result/small/last.npz' in out and 'under result/small/best.npz' in out


def test_without_validation(small_text, capsys):
    argv = ['--corpus', 'small.txt', *TINY, '--val-frac', '0', '--patience', 1]
    assert run(train, *argv) == 0
    assert 'without validation' in ''.join(capsys.readouterr())
    assert not (SMALL / 'best.npz').exists()
    assert len(entries(SMALL)) == 2 and 'val_perplexity' not in entries(SMALL)[-1]


# --valid, --test, files that are cut already, folders


def loss_of(path, text):
    """Mean nats per word of a text, words and spaces, read from a line begin; and the words."""
    losses, _ = slowly(checkpoint.load(path).model, ids_of(path, '<eos> ' + text))
    return numpy.mean(losses), len(losses)


def test_valid_and_test(small_text, capsys, failed):
    text = 'the fish sat on a cat\nand ate\n'  # for one stream
    pathlib.Path('other.txt').write_text(text, encoding='utf-8')
    argv = ['--corpus', 'small.txt', *TINY, '--bproplen', 9]
    assert run(train, *argv, '--valid', 'other.txt', '--test', 'other.txt') == 0
    out = capsys.readouterr().out
    expected, n = loss_of(SMALL / 'last.npz', text)
    assert entries(SMALL)[-1]['validation/main/loss'] == pytest.approx(expected, rel=1e-4)
    numbers = (
        f'loss {expected:.4f} nats per word, perplexity {numpy.exp(expected):.4g}, '
        + f'{expected * n / numpy.log(2) / len(text):.4f} bits per character; {n} words'
    )
    assert numbers in out
    before = (SMALL / 'last.npz').read_bytes()
    assert run(train, '--resume', '--test', 'oth*.txt') == 0  # a pattern, as on Windows
    assert numbers in capsys.readouterr().out
    assert (SMALL / 'last.npz').read_bytes() == before
    assert run(train, '--resume', SMALL, '--out', 'elsewhere', '--test', 'other.txt') == 0
    assert numbers in capsys.readouterr().out and not pathlib.Path('elsewhere').exists()
    assert run(train, '--resume', '--epoch', 3) == 0
    pathlib.Path('other.txt').rename('the same.txt')
    assert run(train, '--resume', '--epoch', 4, '--valid', 'the same.txt') == 0
    assert run(train, '--resume', '--epoch', 5) == 0  # which has kept the name
    pathlib.Path('the same.txt').write_text('and ate\n', encoding='utf-8')
    assert 'not what' in failed(1, train, '--resume', '--epoch', 6)  # another validation


def test_words_that_the_model_does_not_know(failed, small_text, capsys):
    pathlib.Path('other.txt').write_text('the zebra sat\n', encoding='utf-8')
    assert run(train, '--corpus', 'small.txt', *TINY, '--test', 'other.txt') == 0
    loss, _ = loss_of(SMALL / 'last.npz', 'the sat\n')
    out = capsys.readouterr().out
    assert f'loss {loss:.4f}' in out and '1 more words that it does not know' in out
    small_text.write_text(
        'the zebra sat\n' + small_text.read_text(encoding='utf-8'), encoding='utf-8'
    )
    argv = ['--corpus', 'small.txt', *TINY, '--min-count', 2, '--test', 'other.txt']
    assert run(train, *argv) == 0
    loss, n = loss_of(SMALL / 'last.npz', 'the <unk> sat\n')
    out = capsys.readouterr().out
    assert f'loss {loss:.4f}' in out and '1 are <unk>' in out
    assert f'{n * loss / numpy.log(2) / len("the sat" + chr(10)):.4f} bits per character' in out
    for option in ('--test', '--valid'):
        argv = ['--corpus', 'small.txt', *TINY, option, 'none.txt']
        assert 'none.txt: no such' in failed(1, train, *argv)


def test_a_test_that_gives_no_number(failed, trained):
    """Weights that are finite, but so large that no loss comes out."""
    huge = {
        name: numpy.where(array > 0, 3e38, -3e38).astype('f')
        for name, array in arrays(trained / 'last.npz').items()
        if name.startswith('model/')
    }
    forge(trained / 'last.npz', changes=huge)
    assert 'so large that the loss is' in failed(1, train, '--resume', '--test', 'small.txt')


def test_penn_treebank_style_is_taken_as_it_is(folder, capsys):
    """One sentence a line, a space at both ends, rare words already <unk>, numbers already N."""
    lines = [
        ' mr. <unk> is chairman of <unk> n.v. the dutch group ',
        " it 's N years old & does n't rise N N \\/ N ",
    ]
    (folder / 'ptb.txt').write_text(''.join(line + '\n' for line in lines) * 20, encoding='utf-8')
    assert run(train, '--corpus', 'ptb.txt', *TINY, '--test', 'ptb.txt') == 0
    vocabulary = checkpoint.load('result/ptb/last.npz').vocabulary
    assert vocabulary == list(dict.fromkeys(' <eos> '.join([*lines, '']).split()))
    assert '; 500 words\n' in capsys.readouterr().out  # 20 times 10 and 13 words, two line ends
    assert run(generate, '--length', 200, '--seed', 0) == 0
    generated = capsys.readouterr().out
    assert '<unk>' not in generated and 'dutch' in generated


def test_a_folder_of_texts(small_text, capsys, failed):
    """It is learned as the text that its texts are together; what cannot be read is left out."""
    library = pathlib.Path('library')
    library.mkdir()
    lines = small_text.read_text(encoding='utf-8').splitlines(keepends=True)
    (library / 'a.txt').write_text(''.join(lines[:20]), encoding='utf-8')
    (library / 'b.txt').write_text(''.join(lines[20:]), encoding='utf-8')
    (library / 'c.txt').write_bytes(b'\0')
    for options in (
        [],
        ['--vocab-size', 5],
        ['--valid', 'small.txt', '--test', 'small.txt', '--level', 'char'],
    ):
        assert run(train, '--corpus', 'small.txt', *TINY, *options) == 0
        tested = capsys.readouterr().out.splitlines()[-2:]
        assert run(train, '--corpus', 'library', *TINY, *options) == 0
        out, err = capsys.readouterr()
        assert (out + err).count('left out') == 1 and 'library/c.txt' in out + err
        if '--test' in options:
            assert out.replace('library', 'small').splitlines()[-2:] == tested
        one, several = (arrays(f'result/{name}/last.npz') for name in ('small', 'library'))
        for name in one:
            if name != 'meta':
                numpy.testing.assert_array_equal(one[name], several[name], err_msg=name)
    assert run(train, '--resume', '--epoch', 3) == 0
    (library / 'b.txt').write_text('another', encoding='utf-8')
    assert 'not what' in failed(1, train, '--resume', '--epoch', 4)
    for name in 'ab':
        (library / f'{name}.txt').unlink()
    message = 'none of the 1 texts can be read'
    assert message in failed(1, train, '--corpus', 'library', *TINY)


def test_small_texts(folder, capsys):
    (folder / 'a.txt').write_text('one two three four five six\n', encoding='utf-8')
    assert run(train, '--corpus', 'a.txt', *TINY, '--batchsize', 50) == 0
    assert re.search('in 1 streams .*small.* 50', capsys.readouterr().out)
    (folder / 'a.txt').write_text('one\n', encoding='utf-8')
    assert run(train, '--corpus', 'a.txt', *TINY, '--out', 'two') == 0  # one and <eos>
    assert len(entries('result/a')) == len(entries('two')) == 2


# Wrong use


@pytest.mark.parametrize(
    'options, message',
    [
        (['--unit', '0'], '0 is not 1 or more'),
        (['--batchsize', 'x'], "invalid int value: 'x'"),
        (['--val-frac', '1'], '1 is not from 0 to 0.9'),
        (['--lr', 'nan'], 'nan is not 0 or more'),
        (['--dropout', '1'], '1 is not from 0 to 0.99'),
        (['--epoch', '-1'], '-1 is not 1 or more'),
        (['--level', 'line'], "invalid choice: 'line'"),
        (['--layer', '0'], '0 is not from 1 to 99'),
        (['--cell', 'tree'], "invalid choice: 'tree'"),
        (['--optimizer', 'x'], "invalid choice: 'x'"),
        (['--weight-decay', '-1'], '-1 is not 0 or more'),
        (['--seed', '-1'], '-1 is not from 0 to'),
        (['--corpora', 'x'], 'unrecognized arguments: --corpora'),
        (['--valid', ''], '--valid is empty'),
        (['--valid', 'other.txt', '--val-frac', '0.1'], '--valid or --val-frac'),
        (['--test', ''], '--test is empty'),
        (['--track', '1'], '--track is for --midi'),
        (['--optimizer', 'sgd', '--weight-decay', '1'], '--weight-decay times --lr'),
        (['--weight-decay', '500'], '--weight-decay times --lr'),
    ],
)
def test_wrong_use(failed, small_text, options, message):
    assert message in failed(2, train, '--corpus', 'small.txt', *options)


def test_nothing_to_learn(failed, folder):
    line = failed(2, train)
    assert '--corpus holmes.txt' in line and '--midi track1.mid' in line
    assert 'no run below result/' in failed(1, train, '--resume')


def test_bad_corpora(failed, folder):
    (folder / 'empty.txt').write_bytes(b'')
    (folder / 'picture.txt').write_bytes(b'\x89PNG\r\n\x1a\n\0')
    (folder / 'noise.txt').write_bytes(b'\xff\xfe\xfd')
    (folder / 'one.txt').write_text('one\n', encoding='utf-8')
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
        assert message in failed(1, train, '--corpus', *argv)
    assert not (folder / 'result').exists()
