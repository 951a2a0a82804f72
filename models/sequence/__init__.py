"""1-D networks for signals and time series (B, L, C); a file a family.

network = models.create("resnet1d", num_classes=10)
logits = network.apply(variables, x, train=False, length=length)      # (B, 10)

`length` (B,) int32 says how many steps of each series are no padding, which stands at its end. What
it holds is never seen: convolutions, batch statistics and pooling give what the series gives alone.
"""
