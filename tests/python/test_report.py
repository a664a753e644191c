"""The page about a model: well-formed, whole, small, and safe whatever names the network brings."""

import re
from html.parser import HTMLParser

import numpy as np
import onnx
import pytest
from command_line import fails, torusml
from small_networks import floats, mlp, model_of

from torusml.errors import FileUnwritable, NotCompiled
from torusml.torch.compile import build_quantized_module, compile_onnx_model

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADS = re.compile(r"https?:|url\(|@import|xmlns", re.IGNORECASE)
FORBIDDEN = {"script", "link", "iframe", "img", "object", "embed", "base", "form", "image", "use"}


class Checker(HTMLParser):
    """Every tag is closed in order; identifiers are unique and links lead to them."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.links, self.text, self.count = [], [], [], [], {}

    def handle_starttag(self, tag, attributes):
        self.count[tag] = self.count.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), (tag, names)
        assert tag not in FORBIDDEN and not any(name.startswith("on") or name == "src" for name in names), (tag, names)
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if "href" in values else []

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open[-3:])
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def check_page(path):
    text = path.read_text(encoding="utf-8")
    assert not LOADS.search(text)
    assert not re.search(r"\b(nan|inf)\b", text)
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    for link in checker.links:
        assert link.startswith("#") and link[1:] in checker.ids
    assert path.stat().st_size < 4_000_000
    checker.all_text = " ".join(" ".join(checker.text).split())
    return checker


@pytest.mark.parametrize("precision", ["exact", "tolerant"])
def test_page_shows_every_layer(tmp_path, precision):
    module = compile_onnx_model(mlp((3, 5, 4, 2)), floats(200, 3), n_bits=3, precision=precision)
    module.report_html(tmp_path / "net.html")
    page = check_page(tmp_path / "net.html")
    for name in ("x", "fc0", "act0", "fc1", "act1", "fc2", "y"):
        assert f" {name} " in page.all_text, name
    for word in ("blind rotations", "keyswitches", "evaluation keys", "effective bits", "guaranteed", precision):
        assert word in page.all_text, word
    assert page.count["article"] == 7
    assert module.fhe_circuit.statistics["key_sets"][0]["name"] in page.all_text


def branches():
    """Two branches, a residual sum, and names that try to become markup."""
    generator = np.random.default_rng(3)
    weights = {name: generator.normal(size=(4, 4)).astype(np.float32) for name in ("wa", "wb", "wc")}
    evil = "</title></style>\"'><script>alert(1)</script><svg onload=alert(2)>"
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "wa"], ["ha"], name=evil),
        onnx.helper.make_node("MatMul", ["x", "wb"], ["hb"], name="right & wrong"),
        onnx.helper.make_node("Relu", ["ha"], ["ra"], name=evil + " relu"),
        onnx.helper.make_node("Relu", ["hb"], ["rb"], name="javascript:alert(3)"),
        onnx.helper.make_node("Add", ["ra", "rb"], ["s"], name="sum\u202e\u0007"),
        onnx.helper.make_node("MatMul", ["s", "wc"], ["y"], name="größer"),
    ]
    return model_of(nodes, {"x": [1, 4]}, {"y": [1, 4]}, weights)


def test_names_stay_text(tmp_path):
    module = compile_onnx_model(branches(), floats(200, 4), n_bits=3, precision="tolerant")
    module.fhe_circuit.report_html(str(tmp_path / "net.html"))
    page = check_page(tmp_path / "net.html")
    assert "<script>alert(1)</script>" in page.all_text  # as text
    assert "größer" in page.all_text and "right & wrong" in page.all_text
    assert "\u202e" not in page.all_text


def test_many_layers(tmp_path):
    module = compile_onnx_model(mlp((6,) + (16,) * 30 + (2,)), floats(200, 6), n_bits=6, precision="tolerant")
    module.report_html(tmp_path / "net.html")
    page = check_page(tmp_path / "net.html")
    assert page.count["article"] == 63
    assert "16 rows" in page.all_text


def test_command(tmp_path):
    onnx.save(mlp(), str(tmp_path / "net.onnx"))
    np.save(tmp_path / "c.npy", floats(100, 3))
    torusml(
        "compile", "net.onnx", "--calibration", "c.npy", "--bits", 3, "--precision", "exact", "-o", "m.tml", folder=tmp_path
    )
    said = torusml("inspect", "m.tml", "--html", "m.html", folder=tmp_path)
    assert said.startswith("m.html: ") and "4 lookups" in said
    check_page(tmp_path / "m.html")
    torusml("keygen", "m.tml", "--secret", "s.key", "--evaluation", "e.key", folder=tmp_path)
    text = fails(1, "inspect", "s.key", "--html", "k.html", folder=tmp_path)
    assert "s.key" in text and "secret key" in text
    assert not (tmp_path / "k.html").exists()
    fails(28, "inspect", "m.tml", "--html", "none/m.html", folder=tmp_path)
    torusml("inspect", "m.tml", "--html", "m.html", "--json", folder=tmp_path, expect=2)


def test_errors(tmp_path):
    module = compile_onnx_model(mlp(), floats(100, 3), n_bits=3)
    with pytest.raises(FileUnwritable):
        module.report_html(tmp_path / "none" / "net.html")
    with pytest.raises(NotCompiled):
        build_quantized_module(mlp(), floats(100, 3), n_bits=3).report_html(tmp_path / "net.html")
