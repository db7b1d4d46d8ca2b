"""fused.py gives what rnn.py gives, which test_rnn.py checks against NumPy in float64."""

import concurrent.futures
import contextlib
import functools
import math
import os
import tracemalloc

import numpy
import pytest

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer

from support import fused, fused_gpu, optimizers, threads
import rnn
import train
from rnn import RNN


def here(array):
    return chainer.get_device('@numpy').send(array)


def pair(n_vocab, n_units, batchsize, device='@numpy', n_layers=2):
    """Two equal models on a device, with larger weights than fresh ones, and with a state."""
    random = numpy.random.RandomState(n_vocab)
    models = RNN(n_vocab, n_units, n_layers), RNN(n_vocab, n_units, n_layers)
    for params in zip(*(model.params() for model in models)):
        params[0].array[...] = params[1].array[...] = random.normal(0, 0.3, params[0].shape)
    for model in models:
        model.to_device(device)
        model.initialize_state(batchsize)
    return models


def with_masks(monkeypatch, random, device, n_layers, length, batchsize, n_units, of):
    """Both forms take the same masks, 0 or 2, instead of random ones."""
    places, width = (n_layers, 4 * n_units) if of == 'projections' else (n_layers + 1, n_units)
    masks = 2 * random.randint(2, size=(places, length, batchsize, width)).astype('f')
    steps = [device.send(mask) for step in zip(*masks) for mask in step]
    monkeypatch.setattr(rnn.F, 'dropout', lambda x, ratio: x * steps.pop(0))
    if of == 'projections':  # a unit's gates stand together; in a CPU's window each gate's units
        if device.xp is numpy:
            masks = masks.reshape(*masks.shape[:3], n_units, 4).swapaxes(3, 4).copy()
        masks = masks.reshape(*masks.shape[:3], 4, n_units)
    whole = device.send(masks)

    def dropout_mask(xp, shape, ratio, new):
        assert shape == whole.shape
        return whole

    monkeypatch.setattr(fused, 'dropout_mask', dropout_mask)


def assert_same(one, other):
    """Gradients and states of two models agree to float32 rounding."""
    for (name, a), (_, b) in zip(sorted(one.namedparams()), sorted(other.namedparams())):
        a, b = here(a.grad), here(b.grad)
        assert numpy.isfinite(a).all()
        numpy.testing.assert_allclose(
            b, a, rtol=1e-4, atol=2e-6 * max(1, abs(a).max()), err_msg=name
        )
    for name in one.state:
        numpy.testing.assert_allclose(
            here(other.state[name].array),
            here(one.state[name].array),
            rtol=1e-4,
            atol=1e-6,
            err_msg=name,
        )


@pytest.mark.parametrize('dropout_of', ['projections', 'inputs', None])
@pytest.mark.parametrize(
    'n_vocab, n_units, batchsize, lengths, n_layers',
    [
        (5, 3, 1, [1, 1], 2),
        (9, 17, 3, [5, 2], 2),
        (40, 16, 20, [7, 3], 2),
        (31, 96, 33, [3, 1], 2),
        (9, 17, 20, [5, 2], 1),
        (40, 16, 20, [7, 3], 3),
        (23, 7, 19, [12, 6], 4),
    ],
)
def test_a_window_is_its_steps(
    device, monkeypatch, n_vocab, n_units, batchsize, lengths, n_layers, dropout_of
):
    """Loss, accuracy, gradients and state, also of a second and shorter window."""
    device.use()
    random = numpy.random.RandomState(0)
    stepping, whole = pair(n_vocab, n_units, batchsize, device, n_layers)
    for length in lengths:
        x, t = device.send(random.randint(n_vocab, size=(2, length, batchsize)).astype('i'))
        dropout = (0.5, dropout_of) if dropout_of else (0,)
        if dropout_of:
            with_masks(
                monkeypatch, random, device, n_layers, length, batchsize, n_units, dropout_of
            )
        expected, expected_accuracy = train.stepwise(stepping, x, t, *dropout)
        loss, accuracy = fused.forward(whole, x, t, *dropout)
        assert float(loss.array) == pytest.approx(float(expected.array), rel=1e-5)
        assert loss.dtype == 'f' and loss.shape == ()
        assert float(accuracy) == pytest.approx(float(expected_accuracy), rel=1e-5)
        for model, accum_loss in ((stepping, expected), (whole, loss)):
            model.cleargrads()
            accum_loss.backward()
            accum_loss.unchain_backward()
        assert_same(stepping, whole)
        assert all(variable.creator is None for variable in whole.state.values())


@pytest.mark.gpu
@pytest.mark.parametrize('blocks', [0, 1, 3])
def test_a_gpu_of_any_size_computes_the_same(monkeypatch, blocks):
    """Steps one by one, in one block for all that waits for nobody, in few that wait."""
    device = chainer.get_device('@cupy:0')
    device.use()
    if blocks and not device.device.attributes['CooperativeLaunch']:
        pytest.skip('blocks cannot wait for each other here')
    stepping, whole = pair(31, 96, 33, device)
    x, t = device.send(numpy.random.RandomState(0).randint(31, size=(2, 4, 33)).astype('i'))
    monkeypatch.setattr(fused_gpu, 'at_a_time', lambda name: blocks)
    for model, forward in ((stepping, train.stepwise), (whole, fused.forward)):
        model.cleargrads()
        forward(model, x, t, 0)[0].backward()
    assert_same(stepping, whole)


def test_errors_flow_through_the_state(device):
    """Two windows that are not unchained have the gradients of one long window."""
    device.use()
    random = numpy.random.RandomState(1)
    one, two = pair(11, 6, 4, device)
    x, t = device.send(random.randint(11, size=(2, 6, 4)).astype('i'))
    long, _ = fused.forward(one, x, t, 0)
    short = fused.forward(two, x[:3], t[:3], 0)[0] + fused.forward(two, x[3:], t[3:], 0)[0]
    for model, loss in ((one, long), (two, short)):
        model.cleargrads()
        loss.backward()
    assert float(long.array) == pytest.approx(float(short.array), rel=1e-5)
    assert_same(one, two)


def test_the_loss_may_be_scaled(device):
    device.use()
    random = numpy.random.RandomState(1)
    one, two = pair(11, 6, 4, device)
    x, t = device.send(random.randint(11, size=(2, 3, 4)).astype('i'))
    for model, forward in ((one, train.stepwise), (two, fused.forward)):
        model.cleargrads()
        (forward(model, x, t, 0)[0] * 3).backward()
    assert_same(one, two)


def test_a_window_goes_backwards_once():
    """Its gates are gone then: an error is better than wrong gradients."""
    model, _ = pair(11, 6, 4)
    x, t = numpy.random.RandomState(1).randint(11, size=(2, 3, 4)).astype('i')
    loss, _ = fused.forward(model, x, t)
    loss.backward()
    with pytest.raises(TypeError):
        loss.backward()


def test_validation_builds_no_graph(device):
    device.use()
    one, two = pair(11, 6, 4, device)
    x, t = device.send(numpy.random.RandomState(1).randint(11, size=(2, 3, 4)).astype('i'))
    with chainer.no_backprop_mode(), chainer.using_config('train', False):
        expected, _ = train.stepwise(one, x, t, 0.5)
        loss, _ = fused.forward(two, x, t, 0.5)
    assert loss.creator is None
    assert float(loss.array) == pytest.approx(float(expected.array), rel=1e-5)


def test_large_logits_do_not_overflow():
    one, two = pair(11, 6, 4)
    for model in (one, two):
        model.l3.b.array[...] = numpy.linspace(-3000, 3000, 11)
    x, t = numpy.random.RandomState(1).randint(11, size=(2, 3, 4)).astype('i')
    assert float(fused.forward(two, x, t, 0)[0].array) == pytest.approx(
        float(train.stepwise(one, x, t, 0)[0].array), rel=1e-5
    )


# Threads and slices


@pytest.fixture
def use_threads(monkeypatch):
    """use_threads(n): as on a machine with n cores."""
    with contextlib.ExitStack() as stack:

        def use(n):
            executor = stack.enter_context(concurrent.futures.ThreadPoolExecutor(n))
            for module in (threads, fused):
                monkeypatch.setattr(module, 'pool', lambda: (n, executor))

        yield use


def gradients(n_layers=2):
    numpy.random.seed(0)
    model, _ = pair(70, 32, 50, n_layers=n_layers)
    x, t = numpy.random.RandomState(1).randint(70, size=(2, 23, 50)).astype('i')
    loss, _ = fused.forward(model, x, t, 0.3)
    model.cleargrads()
    loss.backward()
    return {'loss': loss.array, **{name: param.grad for name, param in model.namedparams()}}


@pytest.mark.parametrize('n_layers', [1, 2, 3, 4])
def test_threads_change_nothing(use_threads, n_layers):
    use_threads(1)
    expected = gradients(n_layers)
    for n_threads in (2, 3, 4, 16):
        use_threads(n_threads)
        again = [gradients(n_layers) for _ in range(2)]
        for name, value in expected.items():
            numpy.testing.assert_allclose(again[0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
            numpy.testing.assert_array_equal(
                again[0][name], again[1][name]
            )  # same machine, same result


def test_threads_of_blas_change_nothing(monkeypatch, use_threads):
    """As with many cores, where BLAS's threads share a product."""
    use_threads(2)
    expected = gradients()
    monkeypatch.setattr(threads, 'division', lambda: (2, 2))
    for name, value in gradients().items():
        numpy.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize('n_threads', [1, 16])
def test_slices_change_nothing(monkeypatch, use_threads, n_threads):
    """Slices of the logits that follow each other in the same memory, also while others wait."""
    expected = gradients()
    use_threads(n_threads)
    for name, value in (('LOGITS', 70 * 100), ('STEPS', 2), ('CACHED', 70 * 7)):
        monkeypatch.setattr(fused, name, value)
    for again in [gradients() for _ in range(4)]:
        for name, value in again.items():
            numpy.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_part_of_the_vocabulary_that_is_all_but_impossible(device):
    """Some words are e^1000 times as likely as the others; both occur."""
    device.use()
    one, two = pair(12, 6, 4, device)
    for model in (one, two):
        model.l3.b.array[:6] = 1000
    x, t = device.send(numpy.random.RandomState(1).randint(12, size=(2, 3, 4)).astype('i'))
    for model, forward in ((one, train.stepwise), (two, fused.forward)):
        model.cleargrads()
        forward(model, x, t, 0)[0].backward()
    assert_same(one, two)


def test_of_words_that_are_equally_likely_the_first_is_taken(device):
    device.use()
    _, model = pair(700, 6, 4, device)
    model.l3.W.array[...] = model.l3.b.array[...] = 0
    model.l3.b.array[[300, 600]] = 1
    x = device.send(numpy.zeros((2, 4), 'i'))
    for word, expected in ((300, 2), (600, 0)):  # the sum over two steps
        assert float(fused.forward(model, x, x + word, 0)[1]) == expected


def test_gradients_are_clipped_to_the_norm_of_all(device):
    device.use()
    model, _ = pair(40, 16, 20, device)
    optimizer = chainer.optimizers.SGD().setup(model)
    random = numpy.random.RandomState(1)
    grads = [random.normal(0, 1, param.shape).astype('f') for param in model.params()]
    norm = math.sqrt(sum((grad.astype('d') ** 2).sum() for grad in grads))
    for factor in (2, 1 / 3):
        for param, grad in zip(model.params(), grads):
            param.grad = device.send(grad.copy())
        optimizers.GradientClipping(norm * factor)(optimizer)
        for param, grad in zip(model.params(), grads):
            numpy.testing.assert_allclose(here(param.grad), grad * min(1, factor), rtol=1e-5)


def peak_of(function):
    """The most memory (bytes) that function() holds at a time, from NumPy's own account."""
    fused.Window.left.clear()
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize('n_threads', [1, 4, 64])
def test_the_logits_of_a_window_are_never_held(monkeypatch, use_threads, n_threads):
    use_threads(n_threads)
    n_vocab, steps, batchsize = 3000, 80, 30
    model, _ = pair(n_vocab, 16, batchsize)
    x, t = numpy.random.RandomState(1).randint(n_vocab, size=(2, steps, batchsize)).astype('i')
    logits = steps * batchsize * n_vocab * 4
    monkeypatch.setattr(fused, 'LOGITS', logits // 4 // 4)
    assert peak_of(lambda: fused.forward(model, x, t)[0].backward()) < logits * 3 / 4


def test_a_window_that_is_gone_leaves_no_memory_behind():
    """Only what is kept for the next one."""
    model, _ = pair(50, 32, 30)
    x, t = numpy.random.RandomState(1).randint(50, size=(2, 40, 30)).astype('i')

    def train_window():
        loss, _ = fused.forward(model, x, t)
        model.cleargrads()
        loss.backward()
        loss.unchain_backward()

    train_window()
    tracemalloc.start()
    train_window()
    gradients, _ = tracemalloc.get_traced_memory()
    for _ in range(3):
        train_window()
    left, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert left - gradients < peak / 10


def test_validation_computes_no_gradients(use_threads):
    """Nor does a thread, for which Chainer has settings of its own."""
    use_threads(2)
    model, _ = pair(20000, 16, 2)
    x, t = numpy.random.RandomState(1).randint(20000, size=(2, 10, 2)).astype('i')

    def validate():
        with chainer.no_backprop_mode(), chainer.using_config('train', False):
            fused.forward(model, x, t)

    gradient = model.l3.W.array.nbytes
    assert peak_of(validate) < peak_of(lambda: fused.forward(model, x, t)) - gradient / 2


@pytest.mark.parametrize('raising', range(3))
def test_an_error_in_a_thread_is_raised_when_all_have_finished(use_threads, raising):
    use_threads(3)
    begun, ended = [], []

    def work(number):
        begun.append(number)
        if number == raising:
            raise KeyboardInterrupt
        sum(range(100000))
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        threads.parallel(work, range(3))
    assert sorted(ended) == sorted(set(begun) - {raising})


def test_tasks_after_others(use_threads):
    use_threads(3)
    order = []
    threads.run({i: (order.append, (i,), [i - 1, i // 2]) for i in range(1, 31)})
    assert order == list(range(1, 31))


def test_an_error_ends_those_that_wait_for_it(use_threads):
    use_threads(2)
    called = []
    with pytest.raises(ZeroDivisionError):
        threads.run(
            {'first': (lambda: 1 / 0, (), []), 'second': (called.append, ('second',), ['first'])}
        )
    assert not called


@pytest.mark.parametrize(
    'files, cores',
    [
        ({'cpu.max': '150000 100000\n'}, 2),
        ({'cpu.max': '50000 100000\n'}, 1),
        ({'cpu.max': 'max 100000\n'}, math.inf),
        ({'cpu/cpu.cfs_quota_us': '100000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 1),
        ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, math.inf),
        ({}, math.inf),
    ],
)
def test_a_container_may_grant_the_time_of_a_few_cores(tmp_path, files, cores):
    """As docker run --cpus does, by Linux's control groups, version 2 and 1."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding='ascii')
    assert threads.cores(tmp_path) == min(cores, os.cpu_count())


def test_sums():
    rows = numpy.random.RandomState(0).normal(size=(50, 4)).astype('f')
    index = numpy.random.RandomState(1).permutation(numpy.arange(50) ** 2 % 7)
    expected = numpy.zeros((7, 4))
    numpy.add.at(expected, index, rows.astype('d'))
    occurring, times = numpy.unique(index, return_counts=True)
    total = fused.sums(rows, numpy.argsort(index), times)
    numpy.testing.assert_allclose(total, expected[occurring], rtol=1e-5, atol=1e-6)


# Dropout

new = functools.partial(numpy.empty, dtype='f')


@pytest.mark.parametrize('ratio', [0.1, 0.5, 0.9])
def test_dropout_mask(device, ratio):
    device.use()
    mask = here(fused.dropout_mask(device.xp, (30, 4, 25, 40), ratio, new))
    assert mask.dtype == 'f' and mask.shape == (30, 4, 25, 40)
    numpy.testing.assert_allclose(numpy.unique(mask), [0, 1 / (1 - ratio)], rtol=1e-6)
    for axis in range(4):  # no step, gate, stream or unit is special
        share = (mask == 0).mean(axis=tuple(i for i in range(4) if i != axis))
        error = numpy.sqrt(ratio * (1 - ratio) * len(share) / mask.size)
        assert abs(share - ratio).max() < 5 * error


def test_masks_follow_from_the_seed():
    numpy.random.seed(3)
    first = fused.dropout_mask(numpy, (2, 4, 3, 5), 0.5, new).copy()
    state = numpy.random.get_state()
    second = fused.dropout_mask(numpy, (2, 4, 3, 5), 0.5, new).copy()
    assert not numpy.array_equal(first, second)
    numpy.random.set_state(state)  # what --resume does
    numpy.testing.assert_array_equal(fused.dropout_mask(numpy, (2, 4, 3, 5), 0.5, new), second)
    numpy.random.seed(3)
    numpy.testing.assert_array_equal(fused.dropout_mask(numpy, (2, 4, 3, 5), 0.5, new), first)


@pytest.mark.parametrize('forward', [fused.forward, train.stepwise])
@pytest.mark.parametrize('dropout', [(-0.5,), (1,), (1.5,), (numpy.nan,), (0.5, 'input')])
def test_a_dropout_that_is_none_is_refused(forward, dropout):
    x, t = numpy.zeros((2, 4, 2), 'i')
    with pytest.raises(ValueError, match='dropout_'):
        forward(RNN(5, 3), x, t, *dropout)


# Adam


def test_adam_is_chainers(device):
    device.use()
    random = numpy.random.RandomState(0)
    models = pair(3000, 100, 1, device)  # l0 and l3 do not fit in one piece
    if device.xp is numpy:
        for model in models:
            model.l3.W.array = numpy.asfortranarray(model.l3.W.array)  # as a transposed one is
    both = [
        kind(alpha=0.01).setup(model)
        for kind, model in zip((chainer.optimizers.Adam, optimizers.Adam), models)
    ]
    for _ in range(3):
        for params in zip(*(model.params() for model in models)):
            grad = random.normal(0, 1, params[0].shape).astype('f')
            for param in params:
                param.grad = device.send(grad)
        for optimizer in both:
            optimizer.update()
    for (name, a), (_, b) in zip(*(sorted(model.namedparams()) for model in models)):
        numpy.testing.assert_allclose(
            here(b.array), here(a.array), rtol=1e-5, atol=1e-6, err_msg=name
        )
        for key in a.update_rule.state:
            numpy.testing.assert_allclose(
                here(b.update_rule.state[key]),
                here(a.update_rule.state[key]),
                rtol=1e-5,
                atol=1e-7,
                err_msg=name + key,
            )
