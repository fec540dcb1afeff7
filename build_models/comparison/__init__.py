"""`compare`: PyTorch FP32, ONNX FP32 and served bundles side by side in size, time of a query and quality."""
