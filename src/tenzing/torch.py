"""What ``tenzing.torch`` offers: NKI kernels as PyTorch operations, and the device ``neuron``."""

from tenzing.compiler.frontends.torch_device import (
    device_time_us,
    enable_device,
    reset_device_time,
)
from tenzing.compiler.frontends.torch_kernel import custom_kernel

__all__ = ["custom_kernel", "device_time_us", "enable_device", "reset_device_time"]
