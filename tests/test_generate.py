"""generate.py: the start is read once, words are drawn with the right probabilities."""

import numpy
import pytest

from support import checkpoint
from support.text import detokenize, tokenize
import generate
import train
from conftest import TINY, run
from rnn import RNN


# Drawing


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0):
    """The distribution that draw() shall follow, computed the slow and plain way."""
    p = [numpy.exp(z / temperature) for z in logits]
    order = sorted(range(len(p)), key=lambda i: -p[i])
    kept, mass = [], 0
    for i in order[: top_k or None]:
        kept.append(i)
    total = sum(p[i] for i in kept)
    nucleus = []
    for i in kept:
        if mass < top_p:
            nucleus.append(i)
        mass += p[i] / total
    total = sum(p[i] for i in nucleus)
    return [p[i] / total if i in nucleus else 0 for i in range(len(p))]


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'temperature': 0.5},
        {'temperature': 3.0},
        {'top_k': 2},
        {'top_p': 0.7},
        {'temperature': 2.0, 'top_k': 3, 'top_p': 0.8},
        {'top_p': 1e-9},
        {'top_k': 1},
    ],
)
def test_draw_follows_the_distribution(options):
    logits = numpy.array([0.3, 2.0, -1.0, 1.2, 0.0])
    n = 40000
    ids = generate.draw(
        numpy.tile(logits, (n, 1)),
        **{'temperature': 1.0, 'top_k': 0, 'top_p': 1.0, **options},
        rng=numpy.random.RandomState(1),
    )
    counts = numpy.bincount(ids, minlength=5)
    p = numpy.array(probabilities(logits, **options))
    assert (counts[p == 0] == 0).all()
    numpy.testing.assert_allclose(counts / n, p, atol=5 * numpy.sqrt(0.25 / n))


@pytest.mark.parametrize('temperature', [0, 1e-300, 1e-6])
def test_no_temperature_takes_the_likeliest(temperature):
    logits = numpy.array([[0.3, 2.0, -1.0], [5.0, 2.0, 4.999]])
    ids = generate.draw(logits, temperature, 0, 1.0, numpy.random.RandomState(0))
    assert ids.tolist() == [1, 0]


def test_forbidden_ids_are_never_drawn():
    model = RNN(3, 4)
    drawn = generate.generate(
        model, [0], 200, num=2, temperature=50, forbidden=[1], rng=numpy.random.RandomState(0)
    )
    assert set(numpy.ravel(list(drawn))) == {0, 2}


# Feeding


def test_each_word_is_fed_exactly_once():
    """Read by hand, word by word, a network of large weights says the same."""
    numpy.random.seed(6)
    model, by_hand = RNN(9, 8), []
    for param in model.params():
        param.array[...] = 2 * numpy.random.normal(size=param.shape)
    y = [model.step([x]) for x in (3, 4)][-1]
    for _ in range(30):
        by_hand.append(int(y.argmax()))
        y = model.step(by_hand[-1:])
    assert len(set(by_hand)) > 4
    drawn = list(generate.generate(model, [3, 4], 30, num=2, temperature=0))
    assert numpy.array(drawn).tolist() == [[word, word] for word in by_hand]


@pytest.mark.parametrize('start', [['the cat'], ['<eos>', 'the', 'cat']])
def test_greedy_text_is_what_the_network_says_on_a_new_line(trained, capsys, start):
    assert generate.main(['--start', *start, '--length', '9', '--temperature', '0']) == 0
    saved, words = checkpoint.load(trained / 'last.npz'), ['the', 'cat']
    model, vocabulary = saved.model, saved.vocabulary
    for word in ['<eos>', *words]:
        y = model.step([vocabulary.index(word)])
    for _ in range(9):
        words.append(vocabulary[int(y[0].argmax())])
        y = model.step([vocabulary.index(words[-1])])
    text, out = detokenize(words, 'space'), capsys.readouterr().out
    assert out.removeprefix('\n') == text + '\n' * (words[-1] != '<eos>')


# The command


def test_seed_num_length_and_out(trained, folder, capsys):
    def text(*options):
        capsys.readouterr()
        assert generate.main(['--length', '20', *options]) == 0
        return capsys.readouterr().out

    one = text('--seed', '5')
    assert text('--seed', '5') == one != text('--seed', '6')
    assert len(tokenize(one, 'space')) in (20, 21)  # a line end of its own
    assert text('--seed', '5', '--out', 'text.txt') == ''
    assert (folder / 'text.txt').read_text(encoding='utf-8') == one
    assert text('--seed', '5', '--length', '0', '--start', 'the', 'cat') == 'the cat\n'
    assert text('--length', '0', '--start', 'the', '--num', '2') == 'the\n\nthe\n'
    three = text('--seed', '5', '--num', '3', '--start', 'fish')
    assert len([line for line in three.split('\n\n') if line.startswith('fish')]) == 3


@pytest.mark.parametrize('option', ['--out', '--why'])
def test_a_file_that_is_replaced_is_named(trained, folder, capsys, option):
    page = folder / 'page.html'
    page.touch()  # an empty one is nobody's work; the shell makes it of > page.html
    for older in False, True:
        assert run(generate, '--length', 3, option, page) == 0
        assert (f'{page}: written in place of' in capsys.readouterr().err) == older


def test_random_seed_is_printed_and_repeats(trained, capsys):
    generate.main(['--length', '30'])
    first = capsys.readouterr()
    generate.main(['--length', '30', '--seed', first.err.split('--seed ')[1].split()[0]])
    assert capsys.readouterr().out == first.out


def test_sampling_options_arrive(trained, capsys):
    def text(*options):
        capsys.readouterr()
        generate.main(['--length', '50', '--seed', '3', *options])
        return capsys.readouterr().out

    greedy = text('--temperature', '0')
    assert text('--top-k', '1') == text('--top-p', '1e-9') == greedy != text()


def test_stop(trained, capsys):
    generate.main(['--stop', 'cat', '--length', '500', '--seed', '0'])
    words = tokenize(capsys.readouterr().out, 'space')
    assert words.index('cat') == len(words) - 2


def test_wakati(folder, capsys):
    (folder / 'j.txt').write_text('ホームズは言った。\n' * 20, encoding='utf-8')
    train.main(['--corpus', 'j.txt', *TINY])
    for options, space in (([], ''), (['--wakati'], ' ')):
        capsys.readouterr()
        generate.main(['--start', 'ホームズは', '--length', '0', *options])
        assert capsys.readouterr().out == f'ホームズ{space}は\n'


def test_newest_run_best_and_model(trained, folder, capsys):
    train.main(['--corpus', 'small.txt', *TINY, '--out', 'result/second'])
    for options, path in (
        ([], 'result/second/last.npz'),
        (['--best'], 'result/second/best.npz'),
        (['--model', 'result/small'], 'result/small/last.npz'),
        (['--model', str(trained), '--best'], str(trained / 'best.npz')),
        (['--model', 'result/small/best.npz'], 'result/small/best.npz'),
    ):
        capsys.readouterr()
        assert generate.main(['--length', '1', *options]) == 0
        assert capsys.readouterr().err.startswith(path + ': ')


def test_unknown_start_word(trained, failed):
    line = failed(2, generate, '--start', 'the caat')
    assert "'caat'" in line and ' cat' in line
    assert "'zebra'" in failed(2, generate, '--stop', 'zebra')
    line = failed(2, generate, '--start', 'モリアーティ')
    offered = line.partition('it knows other words, such as ')[2].split()
    assert len(offered) == 5
    for word in offered:
        assert generate.main(['--start', word, '--length', '1']) == 0


def test_unk_is_never_written_nor_taken(small_text, capsys, failed):
    small_text.write_text(
        small_text.read_text(encoding='utf-8') + 'rare words once\n', encoding='utf-8'
    )
    train.main(['--corpus', 'small.txt', *TINY, '--min-count', '2'])
    assert "'rare'" in failed(2, generate, '--start', 'rare')
    assert "'<unk>'" in failed(2, generate, '--start', '<unk>')
    generate.main(['--length', '500', '--temperature', '20'])
    assert '<unk>' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'code, argv, message',
    [
        (1, ['--model', 'none.npz'], 'none.npz: no such file'),
        (1, ['--model', 'a.npz'], 'a.npz: not a checkpoint'),
        (1, ['--model', 'file'], 'file: not a checkpoint'),
        (1, ['--model', 'none', '--best'], 'none/best.npz: no such file'),
        (2, ['--temperature', '-1'], '-1 is not 0 or more'),
        (2, ['--temperature', 'nan'], 'nan is not 0 or more'),
        (2, ['--top-p', '2'], '2 is not from 0 to 1'),
        (2, ['--num', '0'], '0 is not 1 or more'),
        (2, ['--length', 'x'], "invalid int value: 'x'"),
        (2, ['--out', 'x.npz'], 'the name of a checkpoint'),
        (2, ['--out', '.'], "--out '.' is not the name of a file"),
        (2, ['--out', 'file/x.txt'], "--out 'file/x.txt': there is no folder file"),
        (2, ['--near', ''], '--near is empty'),
        (2, ['--start', 'the', ''], '--start is empty'),
        (2, ['--near', 'cat', '--start', 'the'], '--near lists words and writes nothing'),
        (2, ['--near', 'cat', '--midi', 'out.mid'], '--near lists words and writes nothing'),
        (2, ['--near', 'cat', '--num', '2'], '--near lists words and writes nothing'),
        (2, ['--near', 'cat', '--wakati'], '--near lists words and writes nothing'),
    ],
)
def test_wrong_use_and_failures(folder, failed, code, argv, message):
    (folder / 'a.npz').write_bytes(b'PK\x03\x04')
    (folder / 'file').write_text('', encoding='utf-8')
    if 'none' in argv:
        (folder / 'none').mkdir()
    assert message in failed(code, generate, *argv)


@pytest.mark.parametrize('options', [[], ['--temperature', '0'], ['--top-k', '2', '--num', '2']])
def test_weights_that_are_too_large(trained, capsys, options):
    """Finite, but a sum of them is not."""
    saved = checkpoint.load(trained / 'last.npz')
    saved.model.l2_x.b.array[...] = 100  # so that all of h2 is positive
    saved.model.l3.W.array[...] = 3e38
    checkpoint.save('large.npz', saved)
    assert generate.main(['--model', 'large.npz', *options]) == 1
    assert 'no numbers' in capsys.readouterr().err.splitlines()[-1]


def test_the_files_of_a_run_are_not_written_over(trained, failed):
    before = (trained / 'log.jsonl').read_bytes()
    for name in ('log.jsonl', 'loss.png'):
        said = failed(2, generate, '--model', trained, '--out', trained / name)
        assert f'{name} belongs to a run' in said
    assert (trained / 'log.jsonl').read_bytes() == before
    assert run(generate, '--model', trained, '--length', 1, '--out', 'log.jsonl') == 0  # no run's


def test_no_model_yet(folder, failed):
    assert 'python train.py --corpus holmes.txt' in failed(1, generate)


def test_gpu_that_is_not_there(trained, capsys):
    assert generate.main(['--length', '1', '--gpu', '99']) == 0
    assert 'continuing on the CPU' in capsys.readouterr().err


@pytest.mark.gpu
def test_gpu_writes_the_same(trained, capsys):
    def text(*options):
        capsys.readouterr()
        generate.main(['--length', '20', '--temperature', '0', *options])
        return capsys.readouterr().out

    assert text('--gpu', '0') == text()


# --near


def test_near_words_are_those_with_the_largest_cosines(trained, capsys):
    saved = checkpoint.load(trained / 'last.npz')
    W, words = saved.model.l0.W.array.astype('d'), saved.vocabulary
    at = words.index('cat')
    cosines = {
        word: W[at] @ row / numpy.linalg.norm(W[at]) / numpy.linalg.norm(row)
        for word, row in zip(words, W)
    }
    expected = sorted((word for word in words if word != 'cat'), key=lambda word: -cosines[word])
    assert generate.main(['--near', 'cat']) == 0
    listed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [word for _, word in listed] == expected[:10] and len(listed) == 10
    for cosine, word in listed:
        assert float(cosine) == pytest.approx(cosines[word], abs=6e-4)


def test_near_what(trained, failed):
    assert "'dog'" in failed(2, generate, '--near', 'dog')
    assert 'not one word to the model but 2: the cat' in failed(2, generate, '--near', 'the cat')
