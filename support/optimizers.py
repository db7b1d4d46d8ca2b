"""Chainer's Adam and its gradient clipping, the same numbers in less time."""

from support import modern_chainer  # noqa: F401  prepares chainer's import

import chainer
import numpy
from chainer.backends import cuda
from chainer.optimizers import adam

from support.threads import CACHED, few_blas_threads, parallel, slices


class GradientClipping(chainer.optimizer_hooks.GradientClipping):
    """chainer.optimizer_hooks.GradientClipping, with far fewer calls on a GPU."""

    def __call__(self, optimizer):
        grads = [param.grad for param in optimizer.target.params(False)]
        xp = optimizer.target.xp
        if xp is numpy:
            return super().__call__(optimizer)
        # grad.dot(grad) is a matrix product there, of one row and column
        square_sum = cuda.reduce('T x', 'T y', 'x * x', 'a + b', 'y = a', '0', 'square_sum')
        norm = xp.sqrt(sum(map(square_sum, grads)))
        rate = (self.threshold / norm).clip(None, 1)  # without waiting for the norm
        for grad in grads:
            grad *= rate


class Adam(chainer.optimizers.Adam):
    """chainer.optimizers.Adam, on the CPU in threads and in pieces that stay in the cache.

    Of its hyperparameters, alpha, beta1, beta2 and eps have an effect there.
    """

    # GradientClipping would wake BLAS's threads, which then spin for a while in the way of ours
    update = few_blas_threads()(chainer.optimizers.Adam.update)

    def create_update_rule(self):
        return AdamRule(self.hyperparam)


class AdamRule(adam.AdamRule):
    """The update of one parameter: what Chainer's rule computes, in its order."""

    def update_core_cpu(self, param):
        hp = self.hyperparam
        arrays = numpy.atleast_1d(param.array, param.grad, self.state['m'], self.state['v'])

        def update(rows):
            p, g, m, v = (a[rows] for a in arrays)
            m += (g - m) * (1 - hp.beta1)
            v += (g * g - v) * (1 - hp.beta2)
            p -= float(self.alpha_t) / (numpy.sqrt(v) + hp.eps) * m

        count = len(arrays[0])
        parallel(update, slices(count, max(1, CACHED * count // max(1, param.size))))
