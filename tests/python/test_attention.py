"""Attention as PyTorch exports it, by both exporters: floats, quantized in the clear, simulated."""

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import torusml
from torusml import _core
from torusml.torch.compile import build_quantized_module, compile_torch_model

X = np.random.default_rng(5).uniform(-1, 1, (200, 3, 4)).astype(np.float32)


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class ScaledDotProduct(nn.Module):
    """One head with a causal mask."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 12)

    def forward(self, x):
        q, k, v = self.project(x).view(-1, 3, 3, 4).unbind(2)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class Block(nn.Module):
    """Attention, residual connections, LayerNorm and GELU, then a mean over the sequence."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu")
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.block(x).mean(1))


def made(cls):
    torch.manual_seed(3)
    torch.set_num_threads(1)
    return cls().eval()


def result_of(net, x):
    with torch.no_grad():
        return net(torch.from_numpy(x)).numpy()


def exported(net, dynamo):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(net, (torch.from_numpy(X[:1]),), dynamo=True, verbose=False).save(file)
        else:
            torch.onnx.export(net, (torch.from_numpy(X[:1]),), file, dynamo=False, opset_version=17)
    return file.getvalue()


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("cls", [SelfAttention, ScaledDotProduct, Block])
def test_floats(cls, dynamo):
    net = made(cls)
    try:
        model = exported(net, dynamo)
    except Exception as error:
        pytest.skip(f"this PyTorch does not export it: {type(error).__name__}")
    graph = _core.import_onnx_bytes(model, "attention", None)
    got = graph.evaluate([X[:5].astype(np.float64)])[0]
    np.testing.assert_allclose(got, result_of(net, X[:5]), atol=1e-5)


@pytest.mark.parametrize("cls", [SelfAttention, ScaledDotProduct, Block])
def test_clear(cls):
    net = made(cls)
    expected = result_of(net, X)
    errors = [np.abs(build_quantized_module(net, X, n_bits=bits).forward(X) - expected).max() for bits in (4, 6)]
    scale = np.abs(expected).max()
    assert errors[0] < 0.6 * scale and errors[1] < 0.15 * scale, np.array(errors) / scale


def test_simulated():
    net = made(ScaledDotProduct)
    module = compile_torch_model(net, X, n_bits=3, precision="exact")
    assert np.array_equal(module.forward(X[:3], fhe="simulate"), module.forward(X[:3]))


def test_embedding_is_cut_off():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(5, 4)
            self.fc = nn.Linear(4, 2)

        def forward(self, tokens):
            return self.fc(self.table(tokens))

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(made(Embedded), (torch.zeros(1, 3, dtype=torch.int64),), file, dynamo=False, opset_version=17)
    with pytest.raises(torusml.Error, match="TML-E022.*embedding lookup.*'input'.*cutting the model behind"):
        torusml.compile(file.getvalue(), np.tile(np.arange(3.0), (10, 1)))
