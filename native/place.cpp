// Twin of one trial of tenzing/machine/place.py: next-fit addresses by liveness.
#include <algorithm>
#include <functional>
#include <queue>
#include <tuple>
#include <utility>
#include <vector>

#include "tenzing_core.h"

namespace {

using i64 = int64_t;
using Range = std::pair<i64, i64>;

i64 round_up(i64 x, i64 unit) { return (x + unit - 1) / unit * unit; }

class Rotation {
 public:
  explicit Rotation(i64 size) : free_{{0, size}} {}

  i64 take(i64 need, i64 align, i64 bank) {
    for (i64 low : {pointer_, i64(0)}) {
      for (size_t k = 0; k < free_.size(); ++k) {
        auto [start, end] = free_[k];
        i64 at = round_up(std::max(start, low), align);
        if (bank && need <= bank && at / bank != (at + need - 1) / bank) at = round_up(at, bank);
        if (at + need > end) continue;
        free_.erase(free_.begin() + k);
        if (at + need < end) free_.insert(free_.begin() + k, {at + need, end});
        if (start < at) free_.insert(free_.begin() + k, {start, at});
        pointer_ = at + need;
        return at;
      }
    }
    return -1;
  }

  void reserve(i64 start, i64 end) {
    std::vector<Range> kept;
    for (auto [low, high] : free_) {
      if (high <= start || low >= end) {
        kept.push_back({low, high});
        continue;
      }
      if (low < start) kept.push_back({low, start});
      if (end < high) kept.push_back({end, high});
    }
    free_.swap(kept);
  }

  void give(i64 start, i64 end) {
    auto k = std::lower_bound(free_.begin(), free_.end(), Range{start, end}) - free_.begin();
    if (k < i64(free_.size()) && free_[k].first == end) {
      end = free_[k].second;
      free_.erase(free_.begin() + k);
    }
    if (k > 0 && free_[k - 1].second == start) {
      start = free_[k - 1].first;
      free_.erase(free_.begin() + --k);
    }
    free_.insert(free_.begin() + k, {start, end});
  }

  i64 largest() const {
    i64 most = 0;
    for (auto [a, b] : free_) most = std::max(most, b - a);
    return most;
  }

 private:
  std::vector<Range> free_;
  i64 pointer_ = 0;
};

class Owners {
 public:
  // Calls `before` for each owner whose bytes are taken over.
  template <typename F>
  void take(i64 start, i64 end, i64 owner, F before) {
    using Owned = std::tuple<i64, i64, i64>;
    auto low = std::lower_bound(ranges_.begin(), ranges_.end(), Owned{start, -1, -1});
    if (low != ranges_.begin() && std::get<1>(*(low - 1)) > start) --low;
    auto high = low;
    std::vector<Owned> kept;
    while (high != ranges_.end() && std::get<0>(*high) < end) {
      auto [s, e, who] = *high;
      before(who);
      if (s < start) kept.push_back({s, start, who});
      if (e > end) kept.push_back({end, e, who});
      ++high;
    }
    kept.push_back({start, end, owner});
    std::sort(kept.begin(), kept.end());
    auto at = ranges_.erase(low, high);
    ranges_.insert(at, kept.begin(), kept.end());
  }

 private:
  std::vector<std::tuple<i64, i64, i64>> ranges_;
};

}  // namespace

extern "C" int64_t tz_place(int64_t storages, const int64_t *first, const int64_t *last,
                            const int64_t *need, int64_t reserved, const int64_t *reserved_start,
                            const int64_t *reserved_end, int64_t size, int64_t align, int64_t bank,
                            int64_t whole_banks, int64_t *address, int64_t *takes,
                            int64_t takes_room, int64_t *counts) {
  Rotation rotation(size);
  for (i64 k = 0; k < reserved; ++k) rotation.reserve(reserved_start[k], reserved_end[k]);
  Owners owners;
  using Live = std::tuple<i64, i64, i64>;  // last use, start, end
  std::priority_queue<Live, std::vector<Live>, std::greater<Live>> alive;
  i64 failed = -1, taken = 0;
  counts[1] = size;
  for (i64 k = 0; k < storages; ++k) {
    while (!alive.empty() && std::get<0>(alive.top()) < first[k]) {
      rotation.give(std::get<1>(alive.top()), std::get<2>(alive.top()));
      alive.pop();
    }
    i64 bytes = whole_banks ? round_up(need[k], bank) : need[k];
    i64 at = rotation.take(bytes, whole_banks ? bank : align, bank);
    address[k] = at;
    if (at < 0) {
      if (failed < 0) {
        failed = k;
        counts[1] = rotation.largest();
      }
      continue;
    }
    alive.push({last[k], at, at + bytes});
    owners.take(at, at + bytes, k, [&](i64 who) {
      if (taken < takes_room) {
        takes[2 * taken] = k;
        takes[2 * taken + 1] = who;
      }
      ++taken;
    });
  }
  counts[0] = taken;
  return failed;
}
