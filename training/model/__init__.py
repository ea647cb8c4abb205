"""The network, its pretrained weights, loss and optimizer."""
