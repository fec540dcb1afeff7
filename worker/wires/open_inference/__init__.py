"""The wire of the Open Inference Protocol (KServe v2): what clients of Triton and KServe speak."""
