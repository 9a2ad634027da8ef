"""Commands about money, time and place: economics, generations, regions."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from tenzing import commands, facts, report
from tenzing.cli.arguments import EXIT_OK, add_prices, command, named_number, use_prices
from tenzing.fleet import economics
from tenzing.fleet.regions import choose_region, place_named


def add_commands(sub: Any) -> None:
    """Add the commands of this family to a parser."""
    _add_regions(sub)
    _add_generations(sub)
    parser = command(
        sub, "economics", "own or rent an instance, what its work costs, how many a demand needs",
        "tenzing economics p5.48xlarge --own pue=1.3 --per-s 20000 --demand 50000", _economics,
    )  # fmt: skip
    parser.add_argument("instance", help="an instance; any name with --usd-per-hour")
    parser.add_argument("--term", default="", choices=facts.TERMS, help="of the price")
    parser.add_argument("--region", help="of the price")
    parser.add_argument("--usd-per-hour", type=float, metavar="USD", help="your own price")
    parser.add_argument("--own", metavar="NAME=N", type=named_number, action="append", default=[],
                        help="an input of owning: usd, peak_w, pue, utilisation, ...; repeat it",
                        )  # fmt: skip
    parser.add_argument("--per-s", type=float, metavar="N",
                        help="tokens (or requests) that a busy instance makes a second",
                        )  # fmt: skip
    parser.add_argument("--usd-per-million", type=float, metavar="USD",
                        help="what a million of them costs elsewhere: the load to break even",
                        )  # fmt: skip
    parser.add_argument("--demand", type=float, metavar="N",
                        help="tokens (or requests) a second asked for on average")  # fmt: skip
    parser.add_argument("--forecast", metavar="NAME=N", type=named_number, action="append",
                        default=[], help="an input of the forecast: growth_per_month, "
                        "peak_to_mean, months, backlog, ...; repeat it")  # fmt: skip


def _add_regions(sub: Any) -> None:
    parser = command(
        sub, "regions", "regions and Local Zones for an instance by latency, price and offer",
        "tenzing regions trn2.48xlarge --users London=3,Tokyo --most-ms 120", _regions,
    )  # fmt: skip
    parser.add_argument("instance", help="an instance")
    parser.add_argument("--users", required=True, type=_users, metavar="PLACES",
                        help="cities of regions, region codes or LATITUDE:LONGITUDE, with commas; "
                        "=N weighs one")  # fmt: skip
    parser.add_argument("--most-ms", type=float, default=math.inf, metavar="MS",
                        help="limit of the mean round trip")  # fmt: skip
    parser.add_argument("--term", default="", choices=facts.TERMS, help="of the price")


def _add_generations(sub: Any) -> None:
    parser = command(
        sub, "generations", "what a dollar buys by instance and month of launch, and how fast it "
        "grows from year to year",
        "tenzing generations --per-s p4d.24xlarge=9000 --per-s p5.48xlarge=26000", _generations,
    )  # fmt: skip
    parser.add_argument("--per-s", metavar="INSTANCE=N", type=named_number, action="append",
                        default=[], help="a throughput instead of the bf16 peak, for those named "
                        "only; repeat it")  # fmt: skip
    parser.add_argument("--region", help="of the prices")
    add_prices(parser)


def _generations(options: argparse.Namespace) -> int:
    use_prices(options)
    found = economics.generations(dict(options.per_s) or None, options.region)
    print(json.dumps(report.generations_json(found), indent=2) if options.json
          else report.generations_text(found, measured=bool(options.per_s)))  # fmt: skip
    return EXIT_OK


def _regions(options: argparse.Namespace) -> int:
    users = [(place_named(name), weight) for name, weight in options.users]
    found = choose_region(options.instance, users, most_ms=options.most_ms, term=options.term)
    print(json.dumps(report.regions_json(found), indent=2) if options.json
          else report.regions_text(found))  # fmt: skip
    return EXIT_OK


def _users(text: str) -> list[tuple[str, float]]:
    found = []
    for word in text.split(","):
        name, _, weight = word.partition("=")
        found.append(named_number(f"{name}={weight or 1}"))
    return found


def _economics(options: argparse.Namespace) -> int:
    found = commands.economics(
        options.instance, term=options.term, region=options.region,
        usd_per_hour=options.usd_per_hour, per_s=options.per_s,
        usd_per_million=options.usd_per_million, demand=options.demand, own=dict(options.own),
        forecast=dict(options.forecast),
    )  # fmt: skip
    print(json.dumps(report.economics_json(found), indent=2) if options.json
          else report.economics_text(found))  # fmt: skip
    return EXIT_OK


__all__ = ["add_commands"]
