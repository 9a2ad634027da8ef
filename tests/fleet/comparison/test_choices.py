"""A comparison: laws of layouts, money and limits on every kind of task."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest

from tenzing import facts, fleet
from tenzing.errors import FactsError, UsageError
from tenzing.fleet.comparison import (
    FULL,
    OK,
    SLOW,
    Choice,
    Comparison,
    compare,
    offers,
    serving,
    simulated,
)
from tenzing.fleet.comparison.task import Serving, task_named

AWS = ("inf2.48xlarge", "trn1.32xlarge", "trn2.48xlarge")


@pytest.fixture(scope="module")
def chat() -> Comparison:
    return compare("llama-3.1-8b", AWS, "chat")


def test_every_target_has_an_answer(chat: Comparison) -> None:
    assert [c.instance for c in chat.best if c.status == OK] == sorted(
        AWS, key=lambda n: next(c.merit for c in chat.best if c.instance == n)
    )


def test_intervals_hold_their_values(chat: Comparison) -> None:
    for c in chat.choices:
        if c.usable:
            assert c.rate_low <= c.rate <= c.rate_high
            assert c.ttft_ms_low <= c.ttft_ms <= c.ttft_ms_high
            assert c.tpot_ms_low <= c.tpot_ms <= c.tpot_ms_high
            assert (c.usd_per_million_low or 0) <= (c.usd_per_million or 0)


def test_the_bill_is_price_over_rate_to_the_cent(chat: Comparison) -> None:
    """Worked by hand: dollars an hour / 3600 / tokens a second x 10^6."""
    for c in chat.choices:
        assert c.usd_per_hour is not None
        assert c.usd_per_million == pytest.approx(c.usd_per_hour / 3600 / c.rate * 1e6)


def test_input_and_output_share_the_whole_bill(chat: Comparison) -> None:
    task = chat.task
    assert isinstance(task, fleet.comparison.Serving)
    for c in chat.choices:
        assert c.usd_per_million_input is not None
        assert c.usd_per_million_output is not None
        request = (c.usd_per_million_input * task.prompt_tokens
                   + c.usd_per_million_output * task.output_tokens)  # fmt: skip
        assert request == pytest.approx((c.usd_per_million or 0) * task.output_tokens)


def test_larger_batches_of_a_layout_cost_less_and_wait_longer(chat: Comparison) -> None:
    layouts: dict[tuple[str, int], list[Choice]] = {}
    for c in chat.choices:
        layouts.setdefault((c.instance, c.tp), []).append(c)
    for found in layouts.values():
        ordered = sorted(found, key=lambda c: c.batch)
        waits = [c.tpot_ms for c in ordered]
        assert waits == sorted(waits)


def test_every_layout_fits_and_uses_no_more_ranks_than_there_are(chat: Comparison) -> None:
    for c in chat.choices:
        assert c.memory_share <= 1
        assert c.tp * c.replicas <= offers([c.instance])[0][0].ranks


def test_limits_are_kept_or_named(chat: Comparison) -> None:
    limit = chat.task.tpot_ms  # type: ignore[union-attr]
    for c in chat.choices:
        if c.status == OK:
            assert c.tpot_ms <= limit
        elif c.status == SLOW:
            assert "above" in c.why


def test_the_frontier_is_not_beaten(chat: Comparison) -> None:
    for name in AWS:
        kept = chat.frontier(name, name)
        assert kept
        for c in chat.choices:
            if c.instance == name and c not in kept:
                assert any(k.tpot_ms <= c.tpot_ms and k.rate >= c.rate for k in kept)


def test_records_are_flat() -> None:
    """Fields are plain values, so that a data frame takes the records as they are."""
    found = compare("llama-3.1-8b", ["trn2.48xlarge"]).best[0]
    plain = (int, float, str, bool, tuple, type(None))
    assert all(isinstance(v, plain) for v in dataclasses.asdict(found).values())
    pandas = pytest.importorskip("pandas")
    assert set(pandas.DataFrame([found]).columns) >= {"instance", "tp", "usd_per_million"}


def test_two_instances_serve_twice_as_much_for_the_same_money() -> None:
    one, two = (
        compare("llama-3.1-8b", [f"trn2.48xlarge x{n}"]).best[0] for n in (1, 2)
    )  # fmt: skip
    assert two.chips == 2 * one.chips
    assert two.rate == pytest.approx(2 * one.rate, rel=0.25)  # a fitted slope of clients remains
    assert two.usd_per_million == pytest.approx(one.usd_per_million or 0, rel=0.25)


def test_a_model_that_does_not_fit_is_said_with_its_bytes() -> None:
    (found,) = compare("llama-3.1-405b", ["inf2.xlarge"]).best
    assert found.status == FULL
    assert "GiB" in found.why
    assert found.usd_per_million is None


def test_a_model_beyond_one_instance_is_cut_into_stages() -> None:
    """Stages hold a part of the layers each; the answer counts all of the instances."""
    (one,) = compare("llama-3.1-405b", ["trn1.32xlarge"]).best
    (four,) = compare("llama-3.1-405b", ["trn1.32xlarge x4"], ttft_ms=0, tpot_ms=0).best
    assert one.status == FULL
    assert four.status == OK
    assert four.pp > 1
    assert four.chips == 64
    assert four.tp * four.pp * four.replicas <= 4 * 32


def test_stages_are_told_as_not_simulated_and_nothing_is_lost() -> None:
    found = compare("llama-3.1-405b", ["trn1.32xlarge x4"], ttft_ms=0, tpot_ms=0)
    told: list[str] = []
    again = simulated(found, told.append)
    assert again == found
    assert any("no stages" in line for line in told)


def test_stages_are_not_used_where_ranks_hold_the_model() -> None:
    assert {c.pp for c in compare("llama-3.1-8b", ["trn2.48xlarge x2"]).choices} == {1}


def test_cached_prompts_make_first_tokens_faster_and_leave_decoding() -> None:
    cold, warm = (
        compare("llama-3.1-8b", ["trn2.48xlarge"], prompt_tokens=8192, prefix_hit=h, ttft_ms=0)
        for h in (0.0, 0.9)
    )
    first = {(c.tp, c.batch): c for c in cold.choices}
    for c in warm.choices:
        assert c.ttft_ms < first[c.tp, c.batch].ttft_ms


def test_accepted_drafts_shorten_the_time_between_tokens() -> None:
    plain, drafted = (
        compare("llama-3.1-8b", ["trn2.48xlarge"], "decode", accepted=a) for a in (1.0, 2.5)
    )
    first = {(c.tp, c.batch): c.tpot_ms for c in plain.choices}
    assert all(c.tpot_ms < first[c.tp, c.batch] for c in drafted.choices)


def test_a_narrow_cache_lets_more_requests_in() -> None:
    def most(kv: str) -> int:
        found = compare("llama-3.1-70b", ["trn1.32xlarge"], kv=[kv], prompt_tokens=8192)
        return max((c.batch for c in found.choices if c.usable), default=0)

    assert most("fp8") >= most("bf16")


def test_training_layouts_cover_the_batch_and_report_mfu() -> None:
    found = compare("llama-3.1-8b", ["trn1.32xlarge x4", "trn2.48xlarge"], "train",
                    total_tokens=10**12)  # fmt: skip
    for c in found.best:
        assert c.status == OK
        assert 0 < c.mfu < 1
        assert c.tp * c.pp * c.replicas <= c.chips * 8
    best = {c.instance: c for c in found.best}
    assert best["trn2.48xlarge"].rate / 16 > best["trn1.32xlarge"].rate / 64  # per chip


def test_encoders_and_images() -> None:
    embed = compare("bert-base-uncased", ["inf2.xlarge"])
    assert embed.task_name == "embed"
    assert embed.best[0].unit == "texts"
    image = compare("stable-diffusion-xl", ["inf2.48xlarge"], latency_ms=0)
    assert image.task_name == "image"
    assert image.best[0].usable


@pytest.mark.parametrize(
    ("model", "task", "unit"),
    [("resnet50", "vision", "images"), ("vit-base", "vision", "images"),
     ("clip-large", "vision", "images"), ("whisper-large-v3", "speech", "clips")],
)  # fmt: skip
def test_pictures_and_sound_pass_through(model: str, task: str, unit: str) -> None:
    found = compare(model, ["inf2.xlarge", "g5.xlarge"])
    assert found.task_name == task
    for best in found.best:
        assert (best.usable, best.unit) == (True, unit)
        assert best.rate == pytest.approx(best.batch * best.replicas * 1e3 / best.latency_ms)
        assert 0 < best.mfu < 1


def test_larger_pictures_are_more_work() -> None:
    small, large = (
        {c.batch: c.latency_ms for c in compare("resnet50", ["inf2.xlarge"], resolution=r).choices}
        for r in (224, 448)
    )
    assert all(large[batch] > small[batch] for batch in small)


def test_a_target_without_the_format_is_named() -> None:
    found = compare("gpt-oss-120b", ["p5.48xlarge", "p6-b200.48xlarge"], weights=["fp4"])
    assert found.absent == (("p5.48xlarge", "h100 does not compute in fp4"),)
    assert [c.instance for c in found.best] == ["p6-b200.48xlarge"]


def test_a_chip_stands_for_its_instances() -> None:
    found = compare("bert-base-uncased", ["inf2"])
    assert {c.instance for c in found.best} >= {"inf2.xlarge", "inf2.48xlarge"}
    assert {c.target for c in found.best} == {"inf2"}


@pytest.mark.parametrize(
    ("arguments", "options", "error", "word"),
    [
        (("llama-3.1-8b", []), {}, UsageError, "no targets"),
        (("llama-3.1-8b", ["p9.huge"]), {}, UsageError, "neither an instance"),
        (("llama-3.1-8b", ["trn2.48xlarge x0"]), {}, UsageError, "at least one"),
        (("llama-3.1-8b", AWS, "knitting"), {}, FactsError, "no such task"),
        (("llama-3.1-8b", AWS, "embed"), {}, UsageError, "not its work"),
        (("lama-3.l", AWS, "chat"), {}, UsageError, "nothing is known"),
        (("hunyuan-video", AWS), {}, UsageError, "say what it does"),
        (("llama-3.1-8b", AWS, "chat"), {"resolution": 3}, UsageError, "has no resolution"),
        (("llama-3.1-8b", AWS, "chat"), {"prefix_hit": 1.5}, UsageError, "a share"),
        (("llama-3.1-8b", AWS, "chat"), {"prompt_tokens": 0}, UsageError, "too small"),
        (("llama-3.1-8b", AWS, "chat"), {"term": "forever"}, FactsError, "price term"),
        (("llama-3.1-8b", AWS, "chat"), {"weights": ["fp7"]}, UsageError, "format"),
        (("llama-3.1-8b", AWS, "chat"), {"region": "us-eats-1"}, FactsError, "us-east-1"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    arguments: tuple[object, ...], options: dict[str, object], error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        compare(*arguments, **options)  # type: ignore[arg-type]


def test_a_name_that_ends_in_a_number_is_no_count() -> None:
    (one,) = offers(["u-p6e-gb200x72"])[0]
    (four,) = offers(["u-p6e-gb200x72 x4"])[0]
    assert (one.instance, one.count, four.count) == ("u-p6e-gb200x72", 1, 4)


def test_unknown_prices_come_after_known_ones() -> None:
    found = compare("llama-3.1-8b", ["p5.48xlarge", "trn2.48xlarge"], term="spot").best
    assert [c.usd_per_hour is None for c in found] == [False, True]


@pytest.mark.parametrize("term", ["on-demand", "1-year", "3-year", "spot", "block", "reserved"])
def test_a_price_of_ones_own_of_every_kind_is_planned_with(
    term: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 $/h of the user's own: 0.01 $ a second over the rate."""
    key = facts.term_of(term)
    book = tmp_path / "prices.toml"
    book.write_text(
        f'schema_version = 1\n[[price]]\ninstance = "trn2.48xlarge"\nterm = "{key}"\n'
        'usd_per_hour = 36\nregions = ["us-east-2"]\ndate = 2026-11-01\nkind = "published"\n'
        'source = "user"\n'
    )
    monkeypatch.setenv(facts.PRICES_VARIABLE, str(book))
    (best,) = compare("llama-3.1-8b", ["trn2.48xlarge"], term=term).best
    assert (best.term, best.usd_per_hour, best.price_date) == (key, 36, "2026-11-01")
    assert round(best.usd_per_million or 0, 2) == round(0.01 / best.rate * 1e6, 2)


def test_what_a_layout_holds_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is looked for; the figures of the same question use what was found."""
    (offer,), _ = offers(["trn2.48xlarge"])
    task, _ = task_named("chat")
    assert isinstance(task, Serving)
    asked = list(serving.questions("llama-3.1-8b", task, offer, (("bf16", "bf16"),)))
    counted: list[int] = []
    real = serving.serving_fit
    monkeypatch.setattr(serving, "serving_fit", lambda *a: counted.append(1) or real(*a))
    found = [serving.evaluate(q) for q in asked[:5]]
    assert all(choice.memory_share > 0 for choice in found)
    assert not counted


@pytest.mark.slow
def test_a_thousand_configurations_take_less_than_a_minute() -> None:
    """Of processor time, so that a busy machine does not fail it."""
    formats: dict[str, Any] = {"weights": ["bf16", "fp8", "int8"], "kv": ["bf16", "fp8"]}
    begun = time.process_time()
    found = compare("llama-3.1-8b", **formats)
    assert len(found.choices) > 1000
    assert time.process_time() - begun < 60
