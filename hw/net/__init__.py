"""Network adapters: AMD's Am79C970A ("vlance"), which becomes a vmxnet when its driver asks, and vmxnet on its own."""
