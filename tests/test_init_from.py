"""train.py --init-from: a new run that begins with the weights and the words of a model."""

import pathlib
import shutil

import numpy
import pytest

import generate
import train
from conftest import TINY, arrays, entries, forge, run, untimed
from read_midi import Setup
from support import checkpoint
from support.text import EOS, make_vocabulary
from test_compose import composer, melody, tune  # noqa: F401  two are fixtures
from write_midi import to_data, write_midi

OLD = pathlib.Path('result/small/last.npz')
# float32 weights do not feel such steps: what is saved is what the run began with
UNMOVED = [*TINY, '--epoch', '1', '--optimizer', 'sgd', '--lr', '1e-30']


def begin(*argv, corpus='new.txt'):
    """The Checkpoint of a run that begins with result/small and does not learn."""
    kept = [arg for arg in UNMOVED if arg not in ('--unit', '8')]  # the model knows its width
    assert run(train, '--init-from', 'result/small', '--corpus', corpus, *kept, *argv) == 0
    return checkpoint.load(pathlib.Path('result', pathlib.Path(corpus).stem, 'last.npz'))


@pytest.fixture
def new_text(trained):
    """A file new.txt: words of small.txt, and a hundred times four new ones."""
    new = ' '.join(f'cat {n}a the {n}b {n}c mat {n}d\n' for n in range(100))
    pathlib.Path('new.txt').write_text(new, encoding='utf-8')
    return new.split()


def logits_of(weights, words):
    """(n, n_vocab) the logits after each word id, float64, by the formulas of the LSTM."""

    def sigmoid(x):
        return 1 / (1 + numpy.exp(-x))

    W = {name: array.astype('d') for name, array in weights.items() if name.startswith('model/')}
    h, c, logits = [numpy.zeros(8)] * 3, [numpy.zeros(8)] * 3, []
    for word in words:
        below = W['model/l0/W'][word]
        for k in (1, 2):
            gates = W[f'model/l{k}_x/W'] @ below + W[f'model/l{k}_x/b']
            gates += W[f'model/l{k}_h/W'] @ h[k] + W[f'model/l{k}_h/b']
            a, i, f, o = gates.reshape(8, 4).T
            c[k] = sigmoid(f) * c[k] + sigmoid(i) * numpy.tanh(a)
            below = h[k] = sigmoid(o) * numpy.tanh(c[k])
        logits.append(W['model/l3/W'] @ below + W['model/l3/b'])
    return numpy.array(logits)


def test_old_words_keep_ids_rows_and_logits(new_text, capsys):
    old = checkpoint.load(OLD)
    capsys.readouterr()
    new = begin()
    n = len(old.vocabulary)
    assert new.vocabulary[:n] == old.vocabulary
    assert new.vocabulary[n:] == [word for word in new_text if word not in old.vocabulary]
    words = [old.vocabulary.index(word) for word in 'the cat <eos> fish sat on the mat'.split()]
    expected = logits_of(arrays(OLD), words)
    new.model.initialize_state(1)
    for word, logits in zip(words, expected):
        numpy.testing.assert_allclose(new.model.step([word])[0, :n], logits, atol=1e-5)
    known = {'cat', 'the', 'mat', EOS}
    assert f'begins with {OLD}: 400 of {400 + len(known)} words are new' in capsys.readouterr().out


def test_new_rows_are_chainers_and_old_ones_the_models(new_text):
    begin()
    old, new = arrays(OLD), arrays('result/new/last.npz')
    n = len(old['model/l0/W'])
    for name, array in old.items():
        if name.startswith('model/'):
            numpy.testing.assert_array_equal(new[name][: len(array)], array, err_msg=name)
    for name, std in (('l0/W', 1), ('l3/W', 1 / numpy.sqrt(8))):  # LeCun: of 8 inputs
        rows = new[f'model/{name}'][n:]
        assert rows.shape == (400, 8) and abs(rows.mean()) < 0.08 * std
        assert rows.std() == pytest.approx(std, rel=0.05) and len(numpy.unique(rows)) > 3000
    assert len(new['model/l3/b']) == n + 400
    assert abs(new['model/l3/b'][n:]).max() < 1e-25  # 0, but for such steps


def test_adam_and_epochs_begin_anew(new_text):
    old = checkpoint.load(OLD, training=True)
    options = [option for option in TINY if option not in ('--unit', '8')]
    assert run(train, '--init-from', OLD, '--corpus', 'new.txt', *options) == 0
    new = checkpoint.load('result/new/last.npz', training=True)
    assert new.epoch == old.epoch == 2 and [e['epoch'] for e in entries('result/new')] == [1, 2]
    assert new.training['optimizer/t'] == entries('result/new')[-1]['iteration']
    assert new.options['init_from'] == str(OLD) and new.sources != old.sources
    assert checkpoint.load(OLD).vocabulary == old.vocabulary


def test_the_seed_draws_the_new_rows(new_text):
    first, again, other = (
        (begin('--seed', seed), arrays('result/new/last.npz'))[1] for seed in (1, 1, 2)
    )
    n = len(checkpoint.load(OLD).vocabulary)
    for name in ('model/l0/W', 'model/l3/W'):
        numpy.testing.assert_array_equal(first[name], again[name])
        numpy.testing.assert_array_equal(first[name][:n], other[name][:n])
        assert not (first[name][n:] == other[name][n:]).any()


def test_a_text_without_a_new_word(trained, capsys):
    lines = pathlib.Path('small.txt').read_text(encoding='utf-8').splitlines(keepends=True)
    pathlib.Path('new.txt').write_text(''.join(lines[::-1]), encoding='utf-8')
    old, new = checkpoint.load(OLD), begin()
    assert new.vocabulary == old.vocabulary
    assert '0 of 11 words are new to it' in capsys.readouterr().out


def test_a_folder_is_what_its_text_is(new_text, capsys):
    """Encoded with the model's words, and only then the file in result/encoded/ is used."""
    pathlib.Path('library').mkdir()
    shutil.copy('new.txt', 'library/new.txt')
    assert run(train, '--corpus', 'library', *TINY) == 0
    one, several = begin(), begin(corpus='library')
    assert one.vocabulary == several.vocabulary and one.crc == several.crc
    assert len(list(pathlib.Path('result/encoded').glob('*.ids'))) == 2
    assert run(train, '--resume', 'result/library', '--epoch', 2) == 0
    assert len(list(pathlib.Path('result/encoded').glob('*.ids'))) == 2


@pytest.mark.parametrize('options', [[], ['--min-count', '2'], ['--vocab-size', '50']])
def test_such_a_run_can_be_resumed(new_text, options):
    kept = [option for option in TINY if option not in ('--unit', '8')]
    argv = ['--init-from', 'result/small', '--corpus', 'new.txt', *kept, *options]
    assert run(train, *argv, '--out', 'unbroken') == 0
    assert run(train, *argv, '--epoch', 1) == 0
    shutil.rmtree('result/small')  # it needs the model no more
    assert run(train, '--resume', 'result/new', '--epoch', 2) == 0
    assert untimed(entries('unbroken')) == untimed(entries('result/new'))
    for name, array in arrays('unbroken/last.npz').items():
        if name != 'meta':
            numpy.testing.assert_array_equal(arrays('result/new/last.npz')[name], array)


def test_the_run_that_it_begins_with_moves_aside(trained, capsys):
    """The same text again, into the same folder: nothing is lost."""
    before = OLD.read_bytes()
    begin(corpus='small.txt')
    assert 'is now in' in capsys.readouterr().out
    assert pathlib.Path('result/small/old-1/last.npz').read_bytes() == before


# Words


def test_rare_words():
    known, words = ['b', '<eos>', 'z'], 'a b b c c c d a <eos>'.split()
    for options, vocabulary in [
        ({}, [*known, 'a', 'c', 'd']),
        ({'min_count': 2}, [*known, 'a', 'c', '<unk>']),
        ({'min_count': 9}, [*known, '<unk>']),
        ({'vocab_size': 4}, [*known, 'c', '<unk>']),
        ({'vocab_size': 5, 'min_count': 3}, [*known, 'c', '<unk>']),
        ({'vocab_size': 1}, [*known, '<unk>']),
        ({'vocab_size': 6}, [*known, 'a', 'c', 'd']),
    ]:
        assert make_vocabulary(words, **options, known=known) == vocabulary
    assert make_vocabulary(words, 9, known=['<unk>', 'b']) == ['<unk>', 'b', '<eos>']
    assert make_vocabulary('b <eos>'.split(), 9, known=known) == known


def test_unk_stays_and_is_only_made_if_it_is_needed(small_text):
    pathlib.Path('rare.txt').write_text(small_text.read_text() + 'once\n', encoding='utf-8')
    assert run(train, '--corpus', 'rare.txt', *TINY, '--min-count', 2, '--out', 'result/small') == 0
    old = checkpoint.load(OLD).vocabulary
    assert old[-1] == '<unk>'
    pathlib.Path('new.txt').write_text(
        'the twice cat twice sat once\n' * 40 + 'seldom\n', encoding='utf-8'
    )
    assert begin().vocabulary == [*old, 'twice', 'once', 'seldom']
    assert begin('--min-count', 2).vocabulary == [*old, 'twice', 'once']
    assert begin('--vocab-size', len(old) + 1).vocabulary == [*old, 'twice']


def test_characters(folder):
    pathlib.Path('small.txt').write_text('hello\n' * 60, encoding='utf-8')
    assert run(train, '--corpus', 'small.txt', *TINY, '--level', 'char') == 0
    pathlib.Path('new.txt').write_text('hollow\n' * 60, encoding='utf-8')
    new = begin()
    assert new.vocabulary == ['h', 'e', 'l', 'o', EOS, 'w'] and new.tokenizer == 'char'
    assert new.options['level'] == 'char'


def test_the_tokenizer_is_that_of_the_model(folder, capsys):
    """English after Japanese is cut by MeCab, too: its words shall be those of the model."""
    pathlib.Path('small.txt').write_text('猫はStudy in Scarletを読んだ。\n' * 40, 'utf-8')
    assert run(train, '--corpus', 'small.txt', *TINY) == 0
    pathlib.Path('new.txt').write_text('A Study in Scarlet.\n' * 40, encoding='utf-8')
    new = begin()
    assert f'cut by MeCab (as for {OLD})' in capsys.readouterr().out
    assert new.tokenizer == 'mecab' and new.vocabulary[-2:] == ['A', '.']


def test_the_network_is_that_of_the_model(small_text):
    network = ['--cell', 'gru', '--layer', '1', '--unit', '5']
    assert run(train, '--corpus', 'small.txt', *TINY, *network) == 0
    pathlib.Path('new.txt').write_text('a new cat\n' * 40, encoding='utf-8')
    new = begin()
    assert (new.model.cell, new.model.n_layers, new.model.n_units) == ('gru', 1, 5)
    assert [new.options[name] for name in ('cell', 'layer', 'unit')] == ['gru', 1, 5]


# Music


@pytest.fixture
def new_tune(composer):  # noqa: F811
    """new.mid: a new key, twice the ticks per quarter, and an instrument of its own."""
    words = [word.replace('60_8', '8140_8') for word in melody([60, 71] * 60)]
    write_midi(to_data(words, Setup('00c0', {'ff51': 'ff510307a120', 'c0': 'c013'})), 'new.mid')
    return composer


def test_music_keeps_the_units_of_time_of_the_model(new_tune, capsys):
    old = checkpoint.load(new_tune / 'last.npz')
    argv = ['--init-from', new_tune, '--midi', 'new.mid', '--epoch', 1, '--batchsize', 4]
    assert run(train, *argv, '--transpose', -1, 0) == 0
    new = checkpoint.load('result/new/last.npz')
    key_70, key_71 = melody([70]), melody([71])
    added = new.vocabulary[len(old.vocabulary) :]
    assert new.vocabulary[: len(old.vocabulary)] == old.vocabulary
    assert sorted(added) == sorted([*melody([59]), *key_70, *key_71])  # and 60 is known
    assert new.setup['division'] == '0060' and new.setup['longest'] == 0x60
    assert new.setup['events']['ff51'] == 'ff510307a120' and new.setup['events']['c0'] == 'c013'
    assert 'words are new to it' in capsys.readouterr().out
    assert run(train, '--resume', 'result/new', '--epoch', 2) == 0
    assert run(generate, '--model', 'result/new', '--midi', 'out.mid', '--start', 'B4') == 0


def test_music_takes_the_events_and_the_grid_of_the_model(failed, new_tune):
    argv = ['--midi', 'new.mid', '--epoch', 1, '--batchsize', 4]
    recording = ['--events', 'performance', '--grid', 12, '--out', 'recording', '--unit', 8]
    assert run(train, *argv, *recording) == 0
    assert run(train, *argv, '--init-from', 'recording') == 0
    options = checkpoint.load('result/new/last.npz').options
    assert (options['events'], options['grid']) == ('performance', 12)
    line = failed(2, train, *argv, '--init-from', 'recording', '--events', 'notes')
    assert '--events is performance in recording/last.npz' in line
    assert '--grid is 12' in failed(2, train, *argv, '--init-from', 'recording', '--grid', 24)
    assert 'music, not of text' in failed(2, train, '--corpus', 'x', '--init-from', 'recording')
    forge('recording/last.npz', {'options': {'events': [1], 'grid': 'x'}})
    assert run(train, *argv, '--init-from', 'recording') == 0


# Wrong use


@pytest.mark.parametrize(
    'options, message',
    [
        (['--unit', '128'], '--unit is 8 in result/small/last.npz and cannot change'),
        (['--layer', '3'], '--layer is 2 in'),
        (['--cell', 'gru'], '--cell is lstm in'),
        (['--level', 'char'], '--level is word in'),
        (['--tokenizer', 'mecab'], '--tokenizer is space in'),
        (['--resume'], 'one of the two'),
        (['--resume', 'result/small'], '--init-from begins a new one'),
    ],
)
def test_options_that_contradict_the_model(failed, new_text, options, message):
    before = OLD.read_bytes()
    line = failed(2, train, '--init-from', 'result/small', '--corpus', 'new.txt', *options)
    assert message in line and OLD.read_bytes() == before
    assert not pathlib.Path('result/new').exists()


def test_what_is_no_model(failed, new_text):
    argv = ['--corpus', 'new.txt', '--init-from']
    assert 'no such file' in failed(1, train, *argv, 'nowhere')
    assert 'not a checkpoint' in failed(1, train, *argv, 'new.txt')
    assert 'what shall it learn' in failed(2, train, '--init-from', 'result/small')
    assert 'a model of text, not of music' in failed(
        2, train, '--init-from', 'result/small', '--midi', 'track1.mid'
    )
    pathlib.Path('small.txt').write_text('another text\n' * 60, encoding='utf-8')
    line = failed(1, train, '--resume', 'result/small')
    assert 'not what' in line and f'--init-from {OLD} begins a new run' in line


def test_same_options_as_those_of_the_model_are_no_contradiction(new_text):
    same = ['--unit', 8, '--layer', 2, '--cell', 'lstm', '--level', 'word', '--tokenizer', 'space']
    assert begin(*same).options['unit'] == 8


def test_the_best_model_is_one_to_begin_with(new_text):
    n = len(checkpoint.load(OLD).vocabulary)
    best = OLD.with_name('best.npz')
    assert run(train, '--corpus', 'new.txt', *UNMOVED, '--init-from', best) == 0
    new, old = arrays('result/new/last.npz'), arrays(best)
    numpy.testing.assert_array_equal(new['model/l0/W'][:n], old['model/l0/W'])
