"""Noise that is added while a network is trained."""

import numpy as np
import pytest
import torch
from small_networks import floats, mlp
from torch import nn

from torusml.errors import InvalidArgument, WrongDtype
from torusml.torch import noise
from torusml.torch.compile import compile_brevitas_qat_model, compile_onnx_model


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 2))


def hook_count(module):
    return sum(len(part._forward_pre_hooks) + len(part._forward_hooks) for part in module.modules())


class Seen(nn.Module):
    """An activation that keeps what it is given."""

    def forward(self, x):
        self.x = x
        return x


def test_hooks_are_gone_afterwards_however_it_ends():
    network = net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with noise.inject(network, 0.01):
        assert hook_count(network) == 2
    assert hook_count(network) == 0
    with pytest.raises(KeyError), noise.inject(network, 0.01):
        network(torch.rand(4, 3))
        raise KeyError
    assert hook_count(network) == 0
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_only_training_mode_gets_noise():
    network, x = net(), torch.rand(16, 3)
    clean = network(x)
    with noise.inject(network, 0.05) as used:
        network.eval()
        assert torch.equal(network(x), clean) and used == {}
        network.train()
        assert not torch.equal(network(x), clean)
        assert used.keys() == {"1", "3"}
        network[1].eval()  # one module alone
        before = dict(used)
        network(2 * x)
        assert used["1"] == before["1"] and used["3"] != before["3"]


@pytest.mark.parametrize("sigma", [2**-7.5, 2**-6.5, 0.25])
def test_sigma_is_the_fraction_of_the_interval_that_was_asked_for(sigma):
    seen = Seen()
    x = torch.linspace(-2, 6, 200_000, dtype=torch.float64).reshape(1000, 200)
    torch.manual_seed(1)
    with noise.inject(seen, sigma, layers=[seen]) as used:
        seen(x)
    error = (seen.x - x) / (8 * sigma)
    assert used == {"": pytest.approx(8 * sigma)}
    # 200,000 draws: four standard errors.
    assert abs(error.mean()) < 4 / np.sqrt(error.numel())
    assert abs(error.var() - 1) < 4 * np.sqrt(2 / error.numel())
    assert abs((error**4).mean() - 3) < 4 * np.sqrt(96 / error.numel())


def test_nested_contexts_add_variances():
    seen, x = Seen(), torch.linspace(0, 1, 100_000, dtype=torch.float64)
    torch.manual_seed(2)
    with noise.inject(seen, 0.03, layers=[seen]), noise.inject(seen, 0.04, layers=[seen]):
        seen(x)
        assert hook_count(seen) == 2
    # The second sees an interval that the first has widened by its largest errors, some 4 sigma on each side.
    assert 0.05 <= (seen.x - x).std() <= 0.06
    assert hook_count(seen) == 0


def test_width_is_followed_and_forgotten():
    seen = Seen()
    with noise.inject(seen, 0.1, layers=[seen], decay=0.5) as used:
        widths = []
        for width in (8.0, 1.0, 1.0, 1.0, 2.0):
            seen(torch.tensor([0.0, width]))
            widths.append(used[""] / 0.1)
    assert widths == pytest.approx([8, 4, 2, 1, 2])


def test_seed_makes_it_the_same_and_gradients_pass():
    network, x = net(), torch.rand(16, 3)

    def run():
        torch.manual_seed(3)
        network.zero_grad()
        with noise.inject(network, 0.02):
            y = network(x)
            y.square().sum().backward()
        return y.detach(), [p.grad.clone() for p in network.parameters()]

    (y, gradients), (again, gradients_again) = run(), run()
    assert torch.equal(y, again)
    assert all(torch.equal(a, b) and a.abs().sum() > 0 for a, b in zip(gradients, gradients_again, strict=True))
    seen = Seen()
    z = torch.rand(5, requires_grad=True)
    with noise.inject(seen, 0.1, layers=[seen]):
        seen(z).sum().backward()
    assert torch.equal(z.grad, torch.ones(5))


def test_by_name_and_by_predicate():
    network = net()
    with noise.inject(network, {"3": 0.1}) as used:
        network(torch.rand(4, 3))
    assert used.keys() == {"3"}
    with noise.inject(network, 0.1, layers=lambda name, module: isinstance(module, nn.Linear) and name != "0") as used:
        network(torch.rand(4, 3))
    assert used.keys() == {"2", "4"}


def quantized():
    import brevitas.nn as qnn
    from brevitas.quant import Int8WeightPerTensorFloat, Uint8ActPerTensorFloat

    def linear(inputs, outputs, return_quant_tensor):
        return qnn.QuantLinear(
            inputs, outputs, bias=True, weight_bit_width=3, weight_quant=Int8WeightPerTensorFloat,
            return_quant_tensor=return_quant_tensor,
        )  # fmt: skip

    torch.manual_seed(0)
    relu = qnn.QuantReLU(bit_width=3, act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
    identity = qnn.QuantIdentity(bit_width=4, return_quant_tensor=True)
    return nn.Sequential(identity, linear(3, 8, True), relu, linear(8, 2, False))


def test_brevitas_activations_are_found_once_and_train():
    network = quantized()
    with noise.inject(network, 2**-7) as used:
        assert hook_count(network) == 1  # QuantReLU, not the ReLU within it, not QuantIdentity
        loss = network(torch.rand(64, 3)).square().sum()
        loss.backward()
    assert used["2"] > 0
    assert all(p.grad is not None for name, p in network.named_parameters() if "weight" in name)
    module = compile_brevitas_qat_model(network.eval(), floats(200, 3), precision="tolerant", tolerance=2**-7)
    (name, sigma), *rest = noise.sigma_of(module).items()
    assert "2" in name and 0 < sigma <= 2**-7 and not rest


def test_functions_without_modules_are_refused():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x):
            return torch.relu(self.fc(x))

    with pytest.raises(InvalidArgument, match=r"Functional.*Linear.*layers=") as caught, noise.inject(Functional(), 0.01):
        pass
    assert "TML-E001" in str(caught.value)


@pytest.mark.parametrize("sigma", [-0.1, 0.26, float("nan"), {"1": 2}])
def test_wrong_sigma(sigma):
    with pytest.raises(InvalidArgument, match="fraction of the interval"), noise.inject(net(), sigma):
        pass


def test_wrong_arguments():
    for arguments in ({}, {"relative_sigma": 0.1, "polynomial_size": 1024}):
        with pytest.raises(InvalidArgument, match="either"), noise.inject(net(), **arguments):
            pass
    with pytest.raises(WrongDtype), noise.inject(net(), "much"):
        pass
    with pytest.raises(InvalidArgument, match="decay"), noise.inject(net(), 0.1, decay=1.5):
        pass
    with pytest.raises(InvalidArgument, match="'9'.*names are '1', '3'"), noise.inject(net(), {"9": 0.1}):
        pass
    with pytest.raises(InvalidArgument, match="not a module of the network"), noise.inject(net(), 0.1, layers=[nn.ReLU()]):
        pass
    with pytest.raises(InvalidArgument, match="512, 1024, 2048"), noise.inject(net(), polynomial_size=1000):
        pass
    with pytest.raises(WrongDtype), noise.inject(net(), polynomial_size=1024.0):
        pass


def test_polynomial_size_is_a_tolerance():
    for size in (512, 1024, 2048):
        assert noise.tolerance_at(size) == pytest.approx(5.7 / size, rel=0.06)
    seen = Seen()
    with noise.inject(seen, polynomial_size=1024, layers=[seen]) as used:
        seen(torch.tensor([0.0, 2.0]))
    assert used[""] == pytest.approx(2 * noise.tolerance_at(1024))


def test_sigma_of_a_compiled_model():
    for tolerance in (2**-6.5, 2**-8.5):
        module = compile_onnx_model(mlp((3, 5, 4, 2)), floats(200, 3), n_bits=5, precision="tolerant", tolerance=tolerance)
        sigmas = noise.sigma_of(module)
        assert list(sigmas) == ["act0", "act1"]
        assert all(0.2 * tolerance < sigma <= tolerance for sigma in sigmas.values())
        assert noise.sigma_of(module.fhe_circuit) == sigmas
    exact = compile_onnx_model(mlp((3, 5, 2)), floats(200, 3), n_bits=3)
    assert noise.sigma_of(exact)["act0"] < 2**-7
