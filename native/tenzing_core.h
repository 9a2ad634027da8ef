// Plain C interface of the native core: each function is the twin of one Python function.
#ifndef TENZING_CORE_H
#define TENZING_CORE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TZ_ABI = 2 };

// Columns of a recorded program. `rows` are template, storage, offset, storage, offset, ...
typedef struct {
  int64_t count;              // instructions
  const int64_t *row_start;   // [count + 1] into rows
  const int64_t *rows;
  const int64_t *queue;       // by template
  const int64_t *is_dma;      // by template
  const int64_t *is_partial;  // by template: may leave part of its destination as it was
  const int64_t *read_start, *reads;      // by template: places of operands
  const int64_t *write_start, *writes;    // by template
  const int64_t *layout_start, *layouts;  // by template: layout of each place
} tz_program;

typedef struct {
  const int64_t *dim_start, *shape, *strides;  // by layout, strides in bytes
  const int64_t *itemsize, *size, *area;       // by layout
} tz_layouts;

typedef struct {
  int64_t count;
  const int64_t *key;        // storages with one key share a table of regions
  const int64_t *given;      // 1 when the contents come from outside
  const int64_t *row_bytes;
  const int64_t *earlier_start, *earlier;  // storages whose bytes each one takes over
} tz_storages;

typedef struct tz_dependencies tz_dependencies;

int64_t tz_abi(void);

// Predecessors of every instruction, and reads of unwritten or overwritten memory.
tz_dependencies *tz_analyse(const tz_program *, const tz_layouts *, const tz_storages *);
int64_t tz_edge_count(const tz_dependencies *);
int64_t tz_finding_count(const tz_dependencies *);
// start [count + 1] and sorted predecessors; findings are 5 numbers each:
// kind (0 unwritten, 1 overwritten), instruction, storage, layout or writer, partly written
void tz_take(const tz_dependencies *, int64_t *start, int64_t *before, int64_t *findings);
void tz_free(tz_dependencies *);

typedef struct {
  int64_t hop_ps, dma_hop_ps, dma_engines, warmup_ps, warmup_idle_ps, table_load_ps;
  double warmup_rate;
} tz_timing;

typedef struct {
  const int64_t *issue_ps, *latency_ps, *chained_ps, *load_ps;  // by template
  const int64_t *table;                            // activation table, -1 for none
  const int64_t *is_transfer, *engines, *service_ps, *fixed_ps, *moved_ps;
} tz_costs;

typedef struct {
  int64_t *start_ps, *issue_end_ps, *data_start_ps, *done_ps, *cause;  // [count]
  int64_t *queue_busy_ps;                                              // [queues]
  int64_t *dma;                                                        // busy, active
} tz_times;

void tz_schedule(int64_t count, int64_t queues, const int64_t *template_of, const int64_t *queue_of,
                 const int64_t *before_start, const int64_t *before, const tz_costs *,
                 const tz_timing *, tz_times *);

// Addresses for storages in order of first use; returns the first that does not fit, or -1.
// `takes` gets (storage, earlier owner) pairs, at most `takes_room` of them; their number goes to
// `counts[0]`, the largest free piece at the first failure to `counts[1]`.
int64_t tz_place(int64_t storages, const int64_t *first, const int64_t *last, const int64_t *need,
                 int64_t reserved, const int64_t *reserved_start, const int64_t *reserved_end,
                 int64_t size, int64_t align, int64_t bank, int64_t whole_banks, int64_t *address,
                 int64_t *takes, int64_t takes_room, int64_t *counts);

#ifdef __cplusplus
}
#endif
#endif
