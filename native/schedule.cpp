// Twin of tenzing/machine/schedule.py: five in-order queues, DMA engines and one HBM server.
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <queue>
#include <tuple>
#include <vector>

#include "tenzing_core.h"

namespace {

using i64 = int64_t;
enum { kRequest, kArrival, kGrant };
constexpr i64 kNone = -1;
constexpr i64 kTensor = 0;

using Event = std::tuple<i64, i64, i64>;  // when, kind, instruction

class Simulation {
 public:
  Simulation(i64 count, i64 queues, const i64 *template_of, const i64 *queue_of,
             const i64 *before_start, const i64 *before, const tz_costs &costs,
             const tz_timing &timing, tz_times &out)
      : count_(count), queues_(queues), sync_(queues - 1), template_(template_of),
        queue_(queue_of), before_start_(before_start), before_(before), c_(costs), t_(timing),
        out_(out), queue_free_(queues, 0), queue_last_(queues, kNone),
        engine_free_(timing.dma_engines, 0), visible_(count, 0), chained_(count, 0), waiting_(count, 0),
        follower_(count, kNone) {
    std::fill(out.cause, out.cause + count, kNone);
    for (i64 *column : {out.start_ps, out.issue_end_ps, out.data_start_ps, out.done_ps})
      std::fill(column, column + count, 0);
    std::fill(out.queue_busy_ps, out.queue_busy_ps + queues, 0);
    out.dma[0] = out.dma[1] = 0;
  }

  void run() {
    graph();
    while (!ready_.empty() || !events_.empty()) {
      drain();
      if (events_.empty()) continue;
      auto [when, kind, index] = events_.top();
      events_.pop();
      now_ = when;
      if (kind == kRequest) {
        request(index, when);
      } else if (kind == kArrival) {
        transfer(index, when);
        release(index);
      } else {
        grant(when);
      }
    }
  }

 private:
  void graph() {
    std::vector<i64> degree(count_ + 1, 0);
    for (i64 i = 0; i < count_; ++i) {
      waiting_[i] = before_start_[i + 1] - before_start_[i];
      for (i64 k = before_start_[i]; k < before_start_[i + 1]; ++k) ++degree[before_[k] + 1];
    }
    std::partial_sum(degree.begin(), degree.end(), degree.begin());
    after_start_ = degree;
    after_.resize(before_start_[count_]);
    std::vector<i64> place(degree.begin(), degree.end() - 1);
    for (i64 i = 0; i < count_; ++i)
      for (i64 k = before_start_[i]; k < before_start_[i + 1]; ++k) after_[place[before_[k]]++] = i;
    std::vector<i64> latest(queues_, kNone);
    for (i64 i = 0; i < count_; ++i) {
      i64 queue = queue_[i], previous = latest[queue];
      if (previous >= 0 && queue != sync_) {
        follower_[previous] = i;
        ++waiting_[i];
      }
      latest[queue] = i;
    }
    for (i64 i = count_ - 1; i >= 0; --i)
      if (!waiting_[i]) ready_.push_back(i);
  }

  void settle(i64 index) {
    if (!--waiting_[index]) ready_.push_back(index);
  }

  void release(i64 index) {
    for (i64 k = after_start_[index]; k < after_start_[index + 1]; ++k) settle(after_[k]);
  }

  void drain() {
    while (!ready_.empty()) {
      i64 index = ready_.back();
      ready_.pop_back();
      i64 queue = queue_[index], when = 0, cause = kNone;
      for (i64 k = before_start_[index]; k < before_start_[index + 1]; ++k) {
        i64 other = before_[k];
        i64 at = queue_[other] == queue ? chained_[other] : visible_[other];
        if (at > when) {
          when = at;
          cause = other;
        }
      }
      if (queue == sync_) {
        out_.cause[index] = cause;
        request(index, when);
        continue;
      }
      i64 arrival = issue(index, queue, when, cause);
      if (follower_[index] >= 0) settle(follower_[index]);
      if (arrival >= 0)
        events_.emplace(arrival, kArrival, index);
      else
        release(index);
    }
  }

  void request(i64 index, i64 when) {
    if (when > now_) {
      events_.emplace(when, kRequest, index);
      return;
    }
    pending_.push(index);
    if (!granting_) {
      granting_ = true;
      events_.emplace(std::max(queue_free_[sync_], now_), kGrant, 0);
    }
  }

  void grant(i64 when) {
    i64 index = pending_.top();
    pending_.pop();
    i64 arrival = issue(index, sync_, when, out_.cause[index]);
    if (arrival >= 0)
      events_.emplace(arrival, kArrival, index);
    else
      release(index);
    granting_ = !pending_.empty();
    if (granting_) events_.emplace(queue_free_[sync_], kGrant, 0);
  }

  i64 issue(i64 index, i64 queue, i64 ready, i64 cause) {
    i64 t = template_[index], issue = c_.issue_ps[t], latency = c_.latency_ps[t];
    i64 free = queue_free_[queue], start = ready;
    if (ready <= free) {
      start = free;
      cause = queue_last_[queue];
    }
    if (queue == kTensor) {
      start = std::max(start, std::max(tensor_start_, ready) + c_.load_ps[t]);
      bool rested = start - free > t_.warmup_idle_ps || !tensor_used_;
      tensor_start_ = start;
      if (rested || start < warm_at_) {
        i64 slow = half_rate(start, issue, rested);
        latency += slow - issue;
        issue = slow;
      }
    } else if (c_.table[t] >= 0 && c_.table[t] != table_) {
      table_ = c_.table[t];
      out_.queue_busy_ps[queue] += t_.table_load_ps;
      start += t_.table_load_ps;
    }
    out_.start_ps[index] = out_.data_start_ps[index] = start;
    i64 end = start + issue;
    out_.issue_end_ps[index] = queue_free_[queue] = end;
    out_.queue_busy_ps[queue] += issue;
    queue_last_[queue] = index;
    out_.cause[index] = cause;
    if (c_.is_transfer[t]) return end + c_.fixed_ps[t];
    out_.done_ps[index] = start + latency;
    visible_[index] = start + latency + t_.hop_ps;
    chained_[index] = start + latency - (c_.latency_ps[t] - c_.chained_ps[t]);
    return kNone;
  }

  i64 half_rate(i64 start, i64 issue, bool rested) {
    if (rested) {
      tensor_used_ = true;
      warm_at_ = start + t_.warmup_ps;
    }
    i64 cold_left = warm_at_ - start;
    if (cold_left <= 0) return issue;
    double need = double(issue) / t_.warmup_rate;
    if (need <= double(cold_left)) return i64(std::nearbyint(need));
    return i64(std::nearbyint(double(cold_left) + (double(issue) - double(cold_left) * t_.warmup_rate)));
  }

  void transfer(i64 index, i64 arrival) {
    i64 t = template_[index], first, end;
    i64 engines = c_.engines[t], service = c_.service_ps[t];
    if (engines >= i64(engine_free_.size()) && level_) {
      first = std::max(level_free_, arrival);
      end = level_free_ = first + service;
    } else {
      serve(engines, service, arrival, first, end);
    }
    if (c_.moved_ps[t]) {
      hbm_free_ = std::max(hbm_free_, first) + c_.moved_ps[t];
      end = std::max(end, hbm_free_);
    }
    out_.data_start_ps[index] = first;
    out_.done_ps[index] = chained_[index] = end;
    visible_[index] = end + t_.dma_hop_ps;
    out_.dma[0] += service * engines;
    if (end > active_until_) {
      out_.dma[1] += end - std::max(first, active_until_);
      active_until_ = end;
    }
  }

  void serve(i64 engines, i64 service, i64 begin, i64 &first, i64 &end) {
    i64 all = i64(engine_free_.size());
    if (level_) std::fill(engine_free_.begin(), engine_free_.end(), level_free_);
    std::vector<i64> chosen(all);
    std::iota(chosen.begin(), chosen.end(), 0);
    if (engines < all) {
      std::stable_sort(chosen.begin(), chosen.end(),
                       [&](i64 a, i64 b) { return engine_free_[a] < engine_free_[b]; });
      chosen.resize(engines);
    }
    first = INT64_MAX;
    end = 0;
    for (i64 engine : chosen) {
      i64 at = std::max(engine_free_[engine], begin);
      engine_free_[engine] = at + service;
      first = std::min(first, at);
      end = std::max(end, at + service);
    }
    level_ = std::all_of(engine_free_.begin(), engine_free_.end(),
                         [&](i64 x) { return x == engine_free_[0]; });
    level_free_ = engine_free_[0];
  }

  i64 count_, queues_, sync_;
  const i64 *template_, *queue_, *before_start_, *before_;
  const tz_costs &c_;
  const tz_timing &t_;
  tz_times &out_;
  std::vector<i64> queue_free_, queue_last_, engine_free_, visible_, chained_, waiting_, follower_;
  std::vector<i64> after_start_, after_, ready_;
  std::priority_queue<Event, std::vector<Event>, std::greater<Event>> events_;
  std::priority_queue<i64, std::vector<i64>, std::greater<i64>> pending_;
  bool level_ = true, granting_ = false, tensor_used_ = false;
  i64 level_free_ = 0, hbm_free_ = 0, active_until_ = 0, now_ = 0;
  i64 tensor_start_ = 0, warm_at_ = 0, table_ = kNone;
};

}  // namespace

extern "C" void tz_schedule(int64_t count, int64_t queues, const int64_t *template_of,
                            const int64_t *queue_of, const int64_t *before_start,
                            const int64_t *before, const tz_costs *costs, const tz_timing *timing,
                            tz_times *out) {
  Simulation(count, queues, template_of, queue_of, before_start, before, *costs, *timing, *out).run();
}
