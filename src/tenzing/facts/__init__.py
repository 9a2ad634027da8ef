"""What is true: chips, instances and prices, each number with unit, kind and source."""

from tenzing.facts.accelerator import Accelerator, accelerator, accelerators, rival, rival_facts
from tenzing.facts.catalogue import find_shape, shapes
from tenzing.facts.chip import Chip, all_chips, chip, chips, simulated_chip
from tenzing.facts.economy import economy, launches, server
from tenzing.facts.explorer import ExplorerField, ExplorerSchema, explorer_schema
from tenzing.facts.fact import Alternative, Fact, Source
from tenzing.facts.instance import Instance, instance, instances, instances_of
from tenzing.facts.leaning import Assumed, Recording, assumed_fact, recording
from tenzing.facts.loader import sources
from tenzing.facts.model import knows_model, model, model_entry, models
from tenzing.facts.power import Draw, Power, power, power_facts
from tenzing.facts.price import (
    PRICES_VARIABLE,
    NoPrice,
    Price,
    best_price,
    no_price,
    price,
    prices,
    term_of,
)
from tenzing.facts.region import region, regions
from tenzing.facts.render import as_json, model_json, render, render_model, schema_page
from tenzing.facts.residuals import residuals
from tenzing.facts.schema import TERMS
from tenzing.facts.software import software, software_facts
from tenzing.facts.task import task, task_about, tasks

__all__ = [
    "Accelerator", "Alternative", "Assumed", "Chip", "Draw", "ExplorerField", "ExplorerSchema",
    "Fact", "Instance", "NoPrice", "PRICES_VARIABLE", "Power", "Price", "Recording", "Source",
    "TERMS", "accelerator", "accelerators", "all_chips", "as_json", "assumed_fact", "best_price",
    "chip", "chips", "economy", "explorer_schema", "find_shape", "instance", "instances",
    "instances_of", "knows_model", "launches", "model", "model_entry", "model_json", "models",
    "no_price", "power", "power_facts", "price", "prices", "recording", "region", "regions",
    "render", "render_model", "residuals", "rival", "rival_facts", "schema_page", "server",
    "shapes", "simulated_chip", "software", "software_facts", "sources", "task", "task_about",
    "tasks", "term_of",
]  # fmt: skip
