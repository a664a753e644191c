"""ONNX operators as NumPy functions: torusml.onnx.ops_impl."""
