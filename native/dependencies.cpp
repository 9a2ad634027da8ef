// Twin of tenzing/machine/deps.py and regions.py: which instructions wait for which.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <vector>

#include "tenzing_core.h"

namespace {

using i64 = int64_t;
constexpr i64 kExactLimit = i64(1) << 18;  // regions.py EXACT_LIMIT
constexpr i64 kCellsLimit = 64;            // regions.py CELLS_LIMIT
constexpr i64 kDmaReader = 8;              // deps.py DMA_READER
constexpr int kReaders = 16;

i64 floor_div(i64 a, i64 b) {
  i64 q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}
i64 ceil_div(i64 a, i64 b) { return -floor_div(-a, b); }

struct Rect {
  i64 r0, r1, c0, c1;
};

struct Interval {
  i64 low, high;
};

struct Recurrence {
  i64 run, period;
};

struct Region;
struct Neighbour {
  Region *region;
  bool covered;
};

struct Region {
  i64 offset, layout;
  Rect rect;
  i64 area;
  bool dense;
  std::vector<Neighbour> others;
  i64 writer = -1;
  std::array<i64, kReaders> readers;
  bool direct = false;
  i64 written_area = 0;
  bool whole = false;
  Recurrence recurrence{0, 0};
  Region() { readers.fill(-1); }
};

class Layouts {
 public:
  explicit Layouts(const tz_layouts &t) : t_(t) {}

  // Bytes of the dense run at the end of a view, and a divisor of all its other strides.
  Recurrence recurrence(i64 layout) const {
    Recurrence found{t_.itemsize[layout], 0};
    for (i64 d = t_.dim_start[layout + 1] - 1; d >= t_.dim_start[layout]; --d) {
      if (t_.shape[d] == 1) continue;
      if (t_.strides[d] == found.run && found.period == 0)
        found.run *= t_.shape[d];
      else
        found.period = std::gcd(found.period, t_.strides[d]);
    }
    return found;
  }
  i64 area(i64 l) const { return t_.area[l]; }
  i64 size(i64 l) const { return t_.size[l]; }

  Rect rectangle(i64 offset, i64 layout, i64 row_bytes) const {
    i64 row = floor_div(offset, row_bytes), byte = offset - row * row_bytes;
    i64 above = 0, below = 0, low = 0, high = 0;
    for (i64 d = t_.dim_start[layout]; d < t_.dim_start[layout + 1]; ++d) {
      i64 steps = t_.strides[d] * (t_.shape[d] - 1);
      if (t_.strides[d] % row_bytes == 0) {
        (steps > 0 ? below : above) += floor_div(steps, row_bytes);
      } else {
        (steps > 0 ? high : low) += steps;
      }
    }
    i64 first = byte + low, last = byte + high + t_.itemsize[layout];
    if (first < 0 || last > row_bytes) {
      above += floor_div(first, row_bytes);
      below += floor_div(last - 1, row_bytes);
      first = 0;
      last = row_bytes;
    }
    return {row + above, row + below + 1, first, last};
  }

  // Sorted disjoint byte ranges that a view at offset 0 touches: made once per layout.
  const std::vector<Interval> &runs(i64 layout) {
    std::vector<Interval> &found = runs_[layout];
    if (found.empty()) found = make_runs(layout);
    return found;
  }

 private:
  std::vector<Interval> make_runs(i64 layout) const {
    std::vector<std::pair<i64, i64>> dims;  // stride, count
    i64 first = 0;
    for (i64 d = t_.dim_start[layout]; d < t_.dim_start[layout + 1]; ++d) {
      if (t_.shape[d] <= 1 || t_.strides[d] == 0) continue;
      if (t_.strides[d] < 0) first += t_.strides[d] * (t_.shape[d] - 1);
      dims.push_back({std::abs(t_.strides[d]), t_.shape[d]});
    }
    std::sort(dims.begin(), dims.end());
    i64 run = t_.itemsize[layout];
    size_t joined = 0;  // dims that only lengthen the run
    while (joined < dims.size() && dims[joined].first <= run) {
      run = dims[joined].first * (dims[joined].second - 1) + run;
      ++joined;
    }
    std::vector<i64> starts{first};
    for (size_t d = joined; d < dims.size(); ++d) {
      std::vector<i64> next;
      next.reserve(starts.size() * dims[d].second);
      for (i64 s : starts)
        for (i64 k = 0; k < dims[d].second; ++k) next.push_back(s + k * dims[d].first);
      starts.swap(next);
    }
    std::sort(starts.begin(), starts.end());
    std::vector<Interval> found;
    for (i64 s : starts) {
      if (!found.empty() && s <= found.back().high)
        found.back().high = std::max(found.back().high, s + run);
      else
        found.push_back({s, s + run});
    }
    return found;
  }

  const tz_layouts &t_;
  std::unordered_map<i64, std::vector<Interval>> runs_;
};

bool meet(const std::vector<Interval> &a, i64 a_offset, const std::vector<Interval> &b,
          i64 b_offset) {
  i64 shift = b_offset - a_offset;
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    // skip what ends before the other begins, in big steps: views are often far apart
    if (a[i].high <= b[j].low + shift)
      i = size_t(std::partition_point(a.begin() + i, a.end(), [&](const Interval &x) {
            return x.high <= b[j].low + shift;
          }) - a.begin());
    else if (b[j].high + shift <= a[i].low)
      j = size_t(std::partition_point(b.begin() + j, b.end(), [&](const Interval &x) {
            return x.high + shift <= a[i].low;
          }) - b.begin());
    else
      return true;
  }
  return false;
}

// Whether dense runs that recur with one period lie apart in it: heads side by side in rows.
bool interleaved(const Region &a, const Region &b) {
  i64 period = std::gcd(a.recurrence.period, b.recurrence.period);
  if (period == 0) return false;
  i64 ahead = b.offset - a.offset - floor_div(b.offset - a.offset, period) * period;
  return ahead >= a.recurrence.run && (period - ahead) % period >= b.recurrence.run;
}

bool overlap(Layouts &layouts, const Region &a, const Region &b) {
  const Rect &p = a.rect, &q = b.rect;
  if (p.r1 <= q.r0 || q.r1 <= p.r0 || p.c1 <= q.c0 || q.c1 <= p.c0) return false;
  if ((a.dense && b.dense) ||
      std::max(layouts.size(a.layout), layouts.size(b.layout)) > kExactLimit)
    return true;
  if (interleaved(a, b)) return false;
  return meet(layouts.runs(a.layout), a.offset, layouts.runs(b.layout), b.offset);
}

bool covers(const Region &a, const Region &b) {
  const Rect &p = a.rect, &q = b.rect;
  bool inside = p.r0 <= q.r0 && q.r1 <= p.r1 && p.c0 <= q.c0 && q.c1 <= p.c1;
  return inside && (a.dense || (a.offset == b.offset && a.layout == b.layout));
}

i64 common_area(const Region &a, const Region &b) {
  i64 height = std::min(a.rect.r1, b.rect.r1) - std::max(a.rect.r0, b.rect.r0);
  i64 width = std::min(a.rect.c1, b.rect.c1) - std::max(a.rect.c0, b.rect.c0);
  i64 area = std::max<i64>(height, 0) * std::max<i64>(width, 0);
  return std::min({area, a.area, b.area});
}

// Whether rectangles cover one, on the grid of their edges.
bool tiled(const Rect &rect, const std::vector<const Region *> &parts) {
  std::vector<i64> rows{rect.r0, rect.r1}, columns{rect.c0, rect.c1};
  auto clip = [](i64 x, i64 low, i64 high) { return std::min(std::max(x, low), high); };
  for (const Region *p : parts) {
    for (i64 e : {p->rect.r0, p->rect.r1}) rows.push_back(clip(e, rect.r0, rect.r1));
    for (i64 e : {p->rect.c0, p->rect.c1}) columns.push_back(clip(e, rect.c0, rect.c1));
  }
  auto unique = [](std::vector<i64> &v) {
    std::sort(v.begin(), v.end());
    v.erase(std::unique(v.begin(), v.end()), v.end());
  };
  unique(rows);
  unique(columns);
  size_t width = columns.size() - 1;
  std::vector<char> grid((rows.size() - 1) * width, 0);
  auto at = [](const std::vector<i64> &v, i64 x) {
    return size_t(std::lower_bound(v.begin(), v.end(), x) - v.begin());
  };
  for (const Region *p : parts) {
    size_t a0 = at(rows, std::max(p->rect.r0, rect.r0)), a1 = at(rows, std::min(p->rect.r1, rect.r1));
    size_t b0 = at(columns, std::max(p->rect.c0, rect.c0));
    size_t b1 = at(columns, std::min(p->rect.c1, rect.c1));
    for (size_t r = a0; r < a1; ++r)
      for (size_t c = b0; c < b1; ++c) grid[r * width + c] = 1;
  }
  return std::all_of(grid.begin(), grid.end(), [](char x) { return x != 0; });
}

bool painted(Layouts &layouts, const Region &region, const std::vector<const Region *> &writers) {
  i64 largest = layouts.size(region.layout);
  for (const Region *w : writers) largest = std::max(largest, layouts.size(w->layout));
  if (largest > kExactLimit) return true;
  std::vector<Interval> held;
  for (const Region *w : writers)
    for (const Interval &x : layouts.runs(w->layout))
      held.push_back({x.low + w->offset, x.high + w->offset});
  std::sort(held.begin(), held.end(),
            [](const Interval &a, const Interval &b) { return a.low < b.low; });
  std::vector<Interval> merged;
  for (const Interval &x : held) {
    if (!merged.empty() && x.low <= merged.back().high)
      merged.back().high = std::max(merged.back().high, x.high);
    else
      merged.push_back(x);
  }
  size_t j = 0;
  for (const Interval &x : layouts.runs(region.layout)) {
    i64 low = x.low + region.offset, high = x.high + region.offset;
    while (j < merged.size() && merged[j].high < high) ++j;
    if (j == merged.size() || merged[j].low > low) return false;
  }
  return true;
}

bool is_written(Layouts &layouts, Region &region) {
  if (!region.whole && region.written_area >= region.area) {
    std::vector<const Region *> writers;
    bool dense = region.dense;
    for (const Neighbour &n : region.others)
      if (n.region->direct) {
        writers.push_back(n.region);
        dense = dense && n.region->dense;
      }
    region.whole = dense ? tiled(region.rect, writers) : painted(layouts, region, writers);
  }
  return region.whole;
}

struct PairHash {
  size_t operator()(const std::pair<i64, i64> &p) const {
    return size_t(p.first) * 0x9E3779B97F4A7C15ull ^ (size_t(p.second) + 0x7F4A7C15ull);
  }
};

class Table {
 public:
  explicit Table(i64 row_bytes) : row_bytes_(std::max<i64>(row_bytes, 1)) {}

  Region &find(Layouts &layouts, i64 offset, i64 layout) {
    if (last_ && last_->offset == offset && last_->layout == layout) return *last_;
    auto found = by_view_.find({offset, layout});
    last_ = found != by_view_.end() ? found->second : &add(layouts, offset, layout);
    return *last_;
  }
  const std::vector<std::unique_ptr<Region>> &regions() const { return regions_; }

 private:
  Region &add(Layouts &layouts, i64 offset, i64 layout) {
    auto made = std::make_unique<Region>();
    Region &fresh = *made;
    fresh.offset = offset;
    fresh.layout = layout;
    fresh.rect = layouts.rectangle(offset, layout, row_bytes_);
    fresh.area = layouts.area(layout);
    fresh.recurrence = layouts.recurrence(layout);
    const Rect &r = fresh.rect;
    fresh.dense = (r.r1 - r.r0) * (r.c1 - r.c0) == fresh.area;
    if (regions_.empty()) {
      height_ = std::max<i64>(r.r1 - r.r0, 1);
      width_ = std::max<i64>(r.c1 - r.c0, 1);
    } else {
      for (Region *other : candidates(r)) link(layouts, fresh, *other);
      fresh.written_area = std::min(fresh.written_area, fresh.area);
    }
    by_view_[{offset, layout}] = &fresh;
    enter(fresh);
    regions_.push_back(std::move(made));
    return fresh;
  }

  static void link(Layouts &layouts, Region &fresh, Region &other) {
    if (!overlap(layouts, fresh, other)) return;
    fresh.others.push_back({&other, covers(fresh, other)});
    other.others.push_back({&fresh, covers(other, fresh)});
    if (other.direct) {
      fresh.written_area += common_area(other, fresh);
      fresh.whole = fresh.whole || covers(other, fresh);
    }
  }

  bool narrow(const Rect &r, std::array<i64, 4> &cells) const {
    cells = {floor_div(r.r0, height_), ceil_div(r.r1, height_), floor_div(r.c0, width_),
             ceil_div(r.c1, width_)};
    return std::max<i64>(cells[1] - cells[0], 0) * std::max<i64>(cells[3] - cells[2], 0) <=
           kCellsLimit;
  }

  std::vector<Region *> candidates(const Rect &r) {
    std::array<i64, 4> cells;
    std::vector<Region *> found;
    if (!narrow(r, cells)) {
      for (auto &region : regions_) found.push_back(region.get());
      return found;
    }
    ++stamp_;
    for (i64 a = cells[0]; a < cells[1]; ++a)
      for (i64 b = cells[2]; b < cells[3]; ++b) {
        auto here = cells_.find({a, b});
        if (here == cells_.end()) continue;
        for (Region *region : here->second)
          if (seen_[region] != stamp_) {
            seen_[region] = stamp_;
            found.push_back(region);
          }
      }
    found.insert(found.end(), wide_.begin(), wide_.end());
    return found;
  }

  void enter(Region &region) {
    std::array<i64, 4> cells;
    if (!narrow(region.rect, cells)) {
      wide_.push_back(&region);
      return;
    }
    for (i64 a = cells[0]; a < cells[1]; ++a)
      for (i64 b = cells[2]; b < cells[3]; ++b) cells_[{a, b}].push_back(&region);
  }

  i64 row_bytes_, height_ = 1, width_ = 1;
  i64 stamp_ = 0;
  Region *last_ = nullptr;
  std::vector<std::unique_ptr<Region>> regions_;
  std::unordered_map<std::pair<i64, i64>, Region *, PairHash> by_view_;
  std::unordered_map<std::pair<i64, i64>, std::vector<Region *>, PairHash> cells_;
  std::unordered_map<Region *, i64> seen_;
  std::vector<Region *> wide_;
};

}  // namespace

struct tz_dependencies {
  std::vector<i64> start{0};
  std::vector<i64> before;
  std::vector<std::array<i64, 5>> findings;
};

namespace {

class Pass {
 public:
  Pass(const tz_program &p, const tz_layouts &l, const tz_storages &s)
      : p_(p), layouts_(l), s_(s), table_of_(s.count, nullptr), placed_written_(s.count, false) {}

  tz_dependencies *run() {
    auto result = std::make_unique<tz_dependencies>();
    result_ = result.get();
    result->start.reserve(p_.count + 1);
    std::vector<i64> waits;
    for (i64 index = 0; index < p_.count; ++index) {
      waits.clear();
      instruction(index, waits);
      std::sort(waits.begin(), waits.end());
      waits.erase(std::unique(waits.begin(), waits.end()), waits.end());
      for (i64 w : waits)
        if (w != index) result->before.push_back(w);
      result->start.push_back(i64(result->before.size()));
    }
    return result.release();
  }

 private:
  i64 kind(i64 index) const { return p_.rows[p_.row_start[index]]; }
  i64 queue(i64 index) const { return p_.queue[kind(index)]; }
  bool is_dma(i64 index) const { return p_.is_dma[kind(index)] != 0; }

  void instruction(i64 index, std::vector<i64> &waits) {
    const i64 *row = p_.rows + p_.row_start[index];
    i64 t = row[0], queue = p_.queue[t];
    bool dma = p_.is_dma[t] != 0;
    for (i64 k = p_.read_start[t]; k < p_.read_start[t + 1]; ++k) read(index, row, p_.reads[k], waits);
    for (i64 k = p_.write_start[t]; k < p_.write_start[t + 1]; ++k) {
      i64 place = p_.writes[k], storage = row[1 + 2 * place];
      Region &region = view(storage, row[2 + 2 * place], t, place);
      wait_for_writes(region, waits, queue, dma);
      if (!region.direct) wait_for_earlier(storage, waits, queue, dma);
      mark_written(region, index);
      if (s_.key[storage] < 0) placed_written_[storage] = true;
    }
  }

  bool writes_place(i64 t, i64 place) const {
    for (i64 k = p_.write_start[t]; k < p_.write_start[t + 1]; ++k)
      if (p_.writes[k] == place) return true;
    return false;
  }

  void read(i64 index, const i64 *row, i64 place, std::vector<i64> &waits) {
    i64 t = row[0], storage = row[1 + 2 * place], queue = p_.queue[t];
    Region &region = view(storage, row[2 + 2 * place], t, place);
    bool keeps = writes_place(t, place);
    bool adds_in_place = queue == 0 && keeps;
    auto wait = [&](i64 writer) {
      if (writer >= 0 && !(adds_in_place && this->queue(writer) == 0)) waits.push_back(writer);
    };
    wait(region.writer);
    for (const Neighbour &n : region.others) wait(n.region->writer);
    region.readers[size_t(p_.is_dma[t] ? queue + kDmaReader : queue)] = index;
    if (!region.whole && !s_.given[storage]) unwritten(index, t, storage, region, keeps);
    if (s_.key[storage] < 0) overwritten(index, t, storage, region);
  }

  Region &view(i64 storage, i64 offset, i64 t, i64 place) {
    Table *&table = table_of_[storage];
    if (!table) {
      auto &slot = tables_[s_.key[storage]];
      if (!slot) slot = std::make_unique<Table>(s_.row_bytes[storage]);
      table = slot.get();
    }
    return table->find(layouts_, offset, p_.layouts[p_.layout_start[t] + place]);
  }

  void wait_for_writes(Region &region, std::vector<i64> &waits, i64 queue, bool dma) {
    auto visit = [&](Region &other) {
      i64 writer = other.writer;
      if (writer >= 0 && (dma || this->queue(writer) != queue || is_dma(writer)))
        waits.push_back(writer);
      for (int reader = 0; reader < kReaders; ++reader)
        if (other.readers[reader] >= 0 && (dma || reader != queue))
          waits.push_back(other.readers[reader]);
    };
    visit(region);
    for (const Neighbour &n : region.others) visit(*n.region);
  }

  void wait_for_earlier(i64 storage, std::vector<i64> &waits, i64 queue, bool dma) {
    for (i64 k = s_.earlier_start[storage]; k < s_.earlier_start[storage + 1]; ++k) {
      auto found = tables_.find(s_.key[s_.earlier[k]]);
      if (found == tables_.end()) continue;
      for (const auto &region : found->second->regions()) {
        if (region->writer >= 0) waits.push_back(region->writer);
        for (int reader = 0; reader < kReaders; ++reader)
          if (region->readers[reader] >= 0 && (dma || reader != queue))
            waits.push_back(region->readers[reader]);
      }
    }
  }

  void mark_written(Region &region, i64 index) {
    bool fresh = !region.direct;
    region.direct = region.whole = true;
    region.writer = index;
    region.written_area = region.area;
    region.readers.fill(-1);
    for (const Neighbour &n : region.others) {
      Region &other = *n.region;
      if (n.covered) {
        other.writer = index;
        other.readers.fill(-1);
        other.whole = true;
        other.written_area = other.area;
      } else if (fresh && other.written_area < other.area) {
        other.written_area = std::min(other.area, other.written_area + common_area(region, other));
      }
    }
  }

  bool &reported(i64 t) {
    if (size_t(t) >= reported_.size()) reported_.resize(t + 1);
    return reported_[t].value;
  }

  void unwritten(i64 index, i64 t, i64 storage, Region &region, bool keeps) {
    if (keeps && p_.is_partial[t]) return;
    if (reported(t) || is_written(layouts_, region)) return;
    reported(t) = true;
    result_->findings.push_back({0, index, storage, region.layout, region.written_area != 0});
  }

  void overwritten(i64 index, i64 t, i64 storage, const Region &region) {
    i64 latest = region.writer;
    for (const Neighbour &n : region.others) latest = std::max(latest, n.region->writer);
    if (latest < 0 || !placed_written_[storage] || reported(t)) return;
    const i64 *row = p_.rows + p_.row_start[latest];
    for (i64 k = p_.write_start[row[0]]; k < p_.write_start[row[0] + 1]; ++k)
      if (row[1 + 2 * p_.writes[k]] == storage) return;
    reported(t) = true;
    result_->findings.push_back({1, index, storage, latest, 0});
  }

  struct Flag {
    bool value = false;
  };
  const tz_program &p_;
  Layouts layouts_;
  const tz_storages &s_;
  std::unordered_map<i64, std::unique_ptr<Table>> tables_;
  std::vector<Table *> table_of_;
  std::vector<bool> placed_written_;
  std::vector<Flag> reported_;
  tz_dependencies *result_ = nullptr;
};

}  // namespace

extern "C" {

int64_t tz_abi(void) { return TZ_ABI; }

tz_dependencies *tz_analyse(const tz_program *p, const tz_layouts *l, const tz_storages *s) {
  return Pass(*p, *l, *s).run();
}

int64_t tz_edge_count(const tz_dependencies *d) { return i64(d->before.size()); }
int64_t tz_finding_count(const tz_dependencies *d) { return i64(d->findings.size()); }

void tz_take(const tz_dependencies *d, int64_t *start, int64_t *before, int64_t *findings) {
  std::copy(d->start.begin(), d->start.end(), start);
  std::copy(d->before.begin(), d->before.end(), before);
  for (const auto &finding : d->findings) findings = std::copy(finding.begin(), finding.end(), findings);
}

void tz_free(tz_dependencies *d) { delete d; }

}  // extern "C"
