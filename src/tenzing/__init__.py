"""tenzing: the open, hardware-free stack for AWS Trainium and Inferentia."""

__version__ = "0.1.0"
