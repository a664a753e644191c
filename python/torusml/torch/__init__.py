"""PyTorch and ONNX networks: torusml.torch.compile."""
