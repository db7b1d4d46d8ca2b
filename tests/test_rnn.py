"""rnn.py against a forward pass in float64 NumPy and central differences."""

import functools
import numpy
import pytest

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer

import rnn
from rnn import RNN

V, N, B, T = 5, 3, 2, 4


def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


def lstm(c, h, from_below, from_before):
    """Chainer's layout: unit j owns columns 4j..4j+3, the candidate, then gates i, f, o."""
    a, i, f, o = (from_below + from_before).reshape(len(c), -1, 4).transpose(2, 0, 1)
    c = numpy.tanh(a) * sigmoid(i) + sigmoid(f) * c
    return c, sigmoid(o) * numpy.tanh(c)


def gru(c, h, from_below, from_before):
    """As in cuDNN: reset gate, update gate, candidate, n columns each."""
    n = h.shape[1]
    r, z = (
        sigmoid(from_below[:, g * n : g * n + n] + from_before[:, g * n : g * n + n])
        for g in (0, 1)
    )
    new = numpy.tanh(from_below[:, 2 * n :] + r * from_before[:, 2 * n :])
    return c, new + z * (h - new)


def plain(c, h, from_below, from_before):
    """Karpathy's h = tanh(W_hh h + W_xh x)."""
    return c, numpy.tanh(from_below + from_before)


CELLS = {'lstm': (lstm, 4), 'gru': (gru, 3), 'rnn': (plain, 1)}


def reference(p, cell, state, xs, ts, masks):
    """Sum over T steps of (mean loss, accuracy) and the state after them; all float64.

    state: [(c, h) of each layer]; masks: for each step factors of the inputs of the layers and of
    the output, and of what the layers project from below.
    """
    state = list(state)
    loss = accuracy = 0
    for x, t, (of_inputs, of_projections) in zip(xs, ts, masks):
        h = p['/l0/W'][x] * of_inputs[0]
        for k, mask in enumerate(of_projections):
            c, before = state[k]
            c, h = cell(
                c,
                before,
                (h @ p[f'/l{k + 1}_x/W'].T + p[f'/l{k + 1}_x/b']) * mask,
                before @ p[f'/l{k + 1}_h/W'].T + p[f'/l{k + 1}_h/b'],
            )
            state[k] = c, h
            h = h * of_inputs[k + 1]
        y = h @ p[f'/l{len(state) + 1}/W'].T + p[f'/l{len(state) + 1}/b']
        log_p = y - numpy.log(numpy.exp(y).sum(axis=1, keepdims=True))
        loss -= log_p[numpy.arange(len(t)), t].mean()
        accuracy += (y.argmax(axis=1) == t).mean()
    return loss, accuracy, state


KINDS = pytest.mark.parametrize('cell, n_layers', [(cell, n) for cell in CELLS for n in (1, 2, 3)])


@KINDS
@pytest.mark.parametrize('dropout_of', ['projections', 'inputs'])
def test_loss_accuracy_gradients_and_state(device, monkeypatch, cell, n_layers, dropout_of):
    """Two windows, so that the second starts from the first one's state, but not its graph."""
    random = numpy.random.RandomState(0)
    model = RNN(V, N, n_layers, cell)
    for param in model.params():
        param.array[...] = random.normal(0, 0.5, param.shape)
    model.to_device(device)
    device.use()
    model.initialize_state(B)
    state = [(numpy.zeros((B, N)),) * 2] * n_layers
    formula, width = CELLS[cell]

    for _ in range(2):
        xs, ts = random.randint(V, size=(2, T, B)).astype('i')
        of_inputs, of_projections = (
            numpy.ones((T, n_layers + 1, B, N)),
            numpy.ones((T, n_layers, B, 1)),
        )
        if dropout_of == 'inputs':
            of_inputs = drawn = 2.0 * random.randint(2, size=of_inputs.shape)
        else:
            of_projections = drawn = 2.0 * random.randint(2, size=(T, n_layers, B, width * N))
        masks = [*zip(of_inputs, of_projections)]
        given = [device.send(mask.astype('f')) for step in drawn for mask in step]
        masked = functools.partial(lambda given, x, ratio: x * given.pop(0), given)
        monkeypatch.setattr(rnn.F, 'dropout', masked)

        accum_loss = accuracy = 0
        for x, t in zip(device.send(xs), device.send(ts)):
            step_loss, step_accuracy = model.forward(x, t, dropout_of=dropout_of)
            accum_loss += step_loss
            accuracy += float(step_accuracy.array)
        model.cleargrads()
        accum_loss.backward()
        accum_loss.unchain_backward()

        p = {
            name: chainer.get_device('@numpy').send(param.array).astype('d')
            for name, param in model.namedparams()
        }
        loss, expected_accuracy, after = reference(p, formula, state, xs, ts, masks)
        assert float(accum_loss.array) == pytest.approx(loss, rel=1e-5)
        assert accuracy == pytest.approx(expected_accuracy)
        expected_state = {
            f'{name}{k}': value
            for k, layer in enumerate(after, 1)
            for name, value in zip('ch', layer)
            if name == 'h' or cell == 'lstm'
        }
        assert expected_state.keys() == model.state.keys()
        for name, value in expected_state.items():
            numpy.testing.assert_allclose(
                chainer.get_device('@numpy').send(model.state[name].array), value, atol=1e-6
            )

        for name, param in model.namedparams():
            expected = numpy.empty(param.shape)
            for i in numpy.ndindex(param.shape):
                value = p[name][i]
                p[name][i] = value + 1e-5
                above = reference(p, formula, state, xs, ts, masks)[0]
                p[name][i] = value - 1e-5
                below = reference(p, formula, state, xs, ts, masks)[0]
                p[name][i] = value
                expected[i] = (above - below) / 2e-5
            numpy.testing.assert_allclose(
                chainer.get_device('@numpy').send(param.grad),
                expected,
                rtol=1e-3,
                atol=2e-6,
                err_msg=name,
            )
        state = after


@pytest.mark.parametrize('dropout_of', ['projections', 'inputs'])
def test_dropout_only_while_training(dropout_of):
    model = RNN(V, 16)
    x = numpy.arange(B, dtype='i')

    def logits(train):
        model.initialize_state(B)
        with chainer.using_config('train', train):
            return model.forward(x, dropout_ratio=0.5, dropout_of=dropout_of)[1]

    assert not numpy.array_equal(logits(True), logits(True))
    numpy.testing.assert_array_equal(logits(False), logits(False))


@KINDS
def test_step_is_forward_without_a_graph(device, cell, n_layers):
    model = RNN(V, N, n_layers, cell)
    model.to_device(device)
    device.use()
    words = [[0, 1], [3, 3], [4, 2]]
    with chainer.using_config('train', False):
        for x in words:
            softmax, expected = model.forward(device.send(numpy.array(x, 'i')))
    model.initialize_state(2)
    for x in words:
        y = model.step(x)
    numpy.testing.assert_allclose(
        chainer.get_device('@numpy').send(y),
        chainer.get_device('@numpy').send(expected),
        rtol=1e-5,
        atol=1e-6,
    )
    assert y.shape == (2, V) and y.dtype == 'f' and device.is_array_supported(y)
    assert all(variable.creator is None for variable in model.state.values())
    before, reader = model.state, model.copy()
    after = model.step([1, 2])
    model.state = before  # may be kept, and gone back to
    for other in (model, reader):
        numpy.testing.assert_array_equal(
            chainer.get_device('@numpy').send(other.step([1, 2])),
            chainer.get_device('@numpy').send(after),
        )
    with pytest.raises(ValueError, match='3 words for a state of 2 rows'):
        model.step([0, 1, 2])
    e = numpy.exp(chainer.get_device('@numpy').send(y))
    numpy.testing.assert_allclose(
        chainer.get_device('@numpy').send(softmax.array),
        e / e.sum(axis=1, keepdims=True),
        rtol=1e-5,
    )


def test_state_belongs_to_the_instance():
    one, other = RNN(V, N), RNN(V, N)
    one.step([0])
    assert other.state is None
    reader = one.copy()
    reader.initialize_state(1)
    reader.step([1])
    assert one.state['h1'] is not reader.state['h1']


@pytest.mark.gpu
def test_state_moves_with_the_model():
    model = RNN(V, N)
    model.step([0, 1])
    expected = model.step([2, 3])
    model.initialize_state(2)
    model.step([0, 1])
    model.to_device('@cupy:0')
    assert model.device.is_array_supported(model.state['c1'].array)
    numpy.testing.assert_allclose(model.step([2, 3]).get(), expected, rtol=1e-4, atol=1e-6)
    model.to_device('@numpy')
    assert isinstance(model.state['h2'].array, numpy.ndarray)
