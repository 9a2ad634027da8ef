"""What is true: chips, instances and prices, each number with unit, kind and source."""

from tenzing.facts.accelerator import Accelerator, accelerator, accelerators, rival, rival_facts
from tenzing.facts.catalogue import find_shape, shapes
from tenzing.facts.chip import Chip, all_chips, chip, chips
from tenzing.facts.explorer import ExplorerField, ExplorerSchema, explorer_schema
from tenzing.facts.fact import Alternative, Fact, Source
from tenzing.facts.instance import Instance, instance, instances, instances_of
from tenzing.facts.loader import sources
from tenzing.facts.model import knows_model, model, model_entry, models
from tenzing.facts.power import Draw, Power, power, power_facts
from tenzing.facts.price import PRICES_VARIABLE, NoPrice, Price, best_price, no_price, price, prices
from tenzing.facts.render import as_json, model_json, render, render_model, schema_page
from tenzing.facts.schema import TERMS
from tenzing.facts.software import software, software_facts
from tenzing.facts.task import task, task_about, tasks

__all__ = [
    "PRICES_VARIABLE", "TERMS",
    "ExplorerField", "ExplorerSchema", "explorer_schema",
    "Accelerator", "Alternative", "Chip", "Draw", "Fact", "Instance", "NoPrice", "Power", "Price",
    "Source",
    "accelerator", "accelerators", "all_chips", "as_json", "best_price", "chip", "chips",
    "find_shape", "instance", "instances",
    "instances_of", "knows_model", "model", "model_entry", "models", "model_json",
    "no_price", "power", "power_facts", "price", "prices", "render", "render_model", "rival",
    "rival_facts", "schema_page", "shapes",
    "software", "software_facts", "sources", "task", "task_about", "tasks",
]  # fmt: skip
