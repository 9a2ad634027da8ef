"""Many executions over time: throughput and money of a program on rented instances."""

from tenzing.fleet.economics import Bill, bill_for, unpriced

__all__ = ["Bill", "bill_for", "unpriced"]
