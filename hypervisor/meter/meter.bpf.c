//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Counts CPU time per environment at every context switch, and bytes per tap.
//
// Clock. A slice is measured on the scheduler's own clock: the growth of
// task->se.sum_exec_runtime between the switch to a task and the switch away
// from it. The scheduler brings that field up to date before the tracepoint
// fires. It leaves out what the task did not get: time stolen by a hypervisor
// below and, where the kernel accounts it, time spent in interrupts. A clock
// read here (bpf_ktime_get_ns) would bill both to the environment, and would
// differ from cpu.stat by as much.
//
// Attribution is our own: the cgroup of the task that is switched to, or any
// ancestor of that cgroup, is looked up among those tracked. The second
// reading, the kernel's cgroup accounting, decides that by other means.
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define MAX_ENVIRONMENTS 2048 // as in limits.go
#define MAX_CPUS 4096	      // as in limits.go
#define MAX_DEPTHS 4	      // distinct cgroup levels that hold environments
#define READ_TRIES 16
#define CACHE 8 // groups that a CPU remembers; a power of two

// The first four bytes of the names of virtual CPU threads.
#define NAME_CLOUD_HYPERVISOR 0x75706376 // "vcpu"
#define NAME_QEMU 0x20555043		 // "CPU "

enum { VMM = 0, GUEST = 1 };

// What one environment used on one CPU.
struct used {
	__u64 cpu[2]; // nanoseconds: VMM, GUEST
	__u64 slices; // ended ones
};

// What is known of a control group: the number of its environment's counters
// plus one, 0 for a stranger's.
struct known {
	__u64 cgroup;
	__u64 slot;
};

// What runs on one CPU now. gen is odd while the CPU changes this or an
// environment's counters.
struct slice {
	__u64 gen;
	__u64 slot;  // of the environment plus one, 0: a stranger runs
	__u64 task;  // address of what was switched to, stranger or not
	__u64 start; // its sum_exec_runtime then
	__u64 kind;
	__u64 clock; // the run queue's clock then
	__u64 rq;    // address of the run queue
	__u64 control;
	struct known known[CACHE];
};

struct tally {
	__u64 bytes; // as handed over: large packets whole
	__u64 packets;
	__u64 wire_bytes; // as on a wire: large packets cut
	__u64 wire_packets;
};

// A question of user space and its answer.
struct question {
	__u64 cgroup;
	__u64 level;
	__u64 slot;
	__u64 cpu[2];
	__u64 slices;
	__u64 running;
	__u64 torn; // CPUs that switched too fast to be read
};

// From the ID of an environment's control group to its counters.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENVIRONMENTS);
	__type(key, __u64);
	__type(value, __u64);
} environments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_ENVIRONMENTS);
	__type(key, __u32);
	__type(value, struct used);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slice);
} slices SEC(".maps");

// One word, which user space changes as a whole: in its lower half one bit for
// each level of the cgroup tree at which an environment lives; the upper half
// differs after every change of the environments, and ends what CPUs remember.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} control SEC(".maps");

// Which cgroup an environment has, for the daemon that comes after this one.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ENVIRONMENTS);
	__type(key, char[40]);
	__type(value, __u64[4]);
} names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct tally);
} traffic SEC(".maps");

extern struct cgroup *bpf_cgroup_from_id(__u64 id) __ksym;
extern void bpf_cgroup_release(struct cgroup *cg) __ksym;

static const __u32 zero;

// The ID of cg's ancestor at a level no greater than its own.
static __always_inline __u64 ancestor(struct cgroup *cg, int level)
{
	struct cgroup *a;
	struct kernfs_node *kn;
	__u64 at, id;

	at = (__u64)cg + bpf_core_field_offset(struct cgroup, ancestors) + (__u64)level * sizeof(a);
	if (bpf_probe_read_kernel(&a, sizeof(a), (void *)at))
		return 0;
	if (bpf_probe_read_kernel(&kn, sizeof(kn), &a->kn))
		return 0;
	if (bpf_probe_read_kernel(&id, sizeof(id), &kn->id))
		return 0;
	return id;
}

// Looks for a group and its ancestors among the environments.
static __noinline __u64 find(struct cgroup *cg, __u64 own, __u64 rest)
{
#pragma unroll
	for (int i = 0; i < MAX_DEPTHS; i++) {
		__u64 bit = rest & -rest, at = 1ULL << (own & 31), id, *slot;
		int level = 0;

		if (!rest || bit > at)
			return 0;
		rest ^= bit;
		// bit's index, by halves: BPF has no instruction for it
		if (bit >> 16)
			level += 16, bit >>= 16;
		if (bit >> 8)
			level += 8, bit >>= 8;
		if (bit >> 4)
			level += 4, bit >>= 4;
		if (bit >> 2)
			level += 2, bit >>= 2;
		level += bit >> 1;
		id = ancestor(cg, level);
		slot = bpf_map_lookup_elem(&environments, &id);
		if (slot)
			return *slot + 1;
	}
	return 0;
}

// The counters of the environment that a task belongs to plus one, 0 for a
// stranger.
static __always_inline __u64 environment(struct slice *s, struct task_struct *task, __u64 control)
{
	struct cgroup *cg;
	struct known *k;
	__u64 own, id, levels = control & 0xffffffff;

	if (!levels || !task->pid)
		return 0;
	cg = task->cgroups->dfl_cgrp;
	own = (__u64)cg->level;
	if (own > 31 || levels << (63 - own) == 0)
		return 0;
	if (s->control != control) {
#pragma unroll
		for (int i = 0; i < CACHE; i++)
			s->known[i].cgroup = 0;
		s->control = control;
	}
	id = cg->kn->id;
	k = &s->known[id & (CACHE - 1)];
	if (k->cgroup != id) {
		k->slot = find(cg, own, levels);
		k->cgroup = id;
	}
	return k->slot;
}

static __always_inline __u64 kind(__u32 name)
{
	return name == NAME_CLOUD_HYPERVISOR || name == NAME_QEMU ? GUEST : VMM;
}

// How much a task ran since a switch to it that went unseen: what the scheduler
// keeps for its own slices, and no more than what passed on this CPU since the
// last switch that was seen.
static __always_inline __u64 unseen(__u64 sum, __u64 picked, __u64 clock, __u64 seen)
{
	__u64 ran = sum > picked ? sum - picked : 0;
	__u64 passed = clock > seen ? clock - seen : 0;

	return ran < passed ? ran : passed;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(count_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct slice *s = bpf_map_lookup_elem(&slices, &zero);
	__u64 *word = bpf_map_lookup_elem(&control, &zero);
	__u64 ended, begun, ran = 0, who;

	if (!s || !word)
		return 0;
	ended = s->slot;
	who = s->kind;
	if (s->task == (__u64)prev) {
		if (ended)
			ran = prev->se.sum_exec_runtime - s->start;
	} else {
		// The switch to prev was not seen: this program was attached
		// since, or the kernel hides what the task before prev does.
		ended = environment(s, prev, *word);
		who = kind(*(__u32 *)prev->comm);
		ran = unseen(prev->se.sum_exec_runtime, prev->se.prev_sum_exec_runtime, prev->se.exec_start, s->clock);
		if (!s->rq)
			s->rq = (__u64)next->se.cfs_rq->rq;
	}
	begun = environment(s, next, *word);
	s->clock = prev->se.exec_start;
	if (!ended && !begun && !s->slot) {
		s->task = (__u64)next;
		return 0;
	}

	__sync_fetch_and_add(&s->gen, 1);
	if (ended) {
		__u32 slot = ended - 1;
		struct used *u = bpf_map_lookup_elem(&counters, &slot);

		if (u) {
			u->cpu[who & 1] += ran;
			u->slices++;
		}
	}
	s->task = (__u64)next;
	s->slot = begun;
	if (begun) {
		s->start = next->se.sum_exec_runtime;
		s->kind = kind(*(__u32 *)next->comm);
	}
	__sync_fetch_and_add(&s->gen, 1);
	return 0;
}

// Reads a field of a task that may end meanwhile.
#define PEEK(base, type, field)                                                                     \
	({                                                                                          \
		typeof(((type *)0)->field) value = 0;                                               \
		bpf_probe_read_kernel(&value, sizeof(value),                                        \
				      (void *)(base) + bpf_core_field_offset(type, field));         \
		value;                                                                              \
	})

// What the task that runs now, unseen, used since it was switched to.
static __always_inline __u64 peek_unseen(struct slice *s, __u64 cgroup, int level, __u64 *who)
{
	__u64 task, cg;
	__u32 name = 0;

	task = s->rq ? (__u64)PEEK(s->rq, struct rq, curr) : 0;
	if (!task || task == s->task)
		return 0;
	cg = (__u64)PEEK(task, struct task_struct, cgroups);
	cg = (__u64)PEEK(cg, struct css_set, dfl_cgrp);
	if (PEEK(cg, struct cgroup, level) < level || ancestor((struct cgroup *)cg, level) != cgroup)
		return 0;
	bpf_probe_read_kernel(&name, sizeof(name), (void *)task + bpf_core_field_offset(struct task_struct, comm));
	*who = kind(name);
	return unseen(PEEK(task, struct task_struct, se.sum_exec_runtime),
		      PEEK(task, struct task_struct, se.prev_sum_exec_runtime),
		      PEEK(task, struct task_struct, se.exec_start), s->clock);
}

static long read_cpu(__u32 cpu, struct question *q)
{
	__u32 slot = q->slot;
	struct slice *s = bpf_map_lookup_percpu_elem(&slices, &zero, cpu);
	struct used *u = bpf_map_lookup_percpu_elem(&counters, &slot, cpu);

	if (!s || !u)
		return 1;
	for (int i = 0; i < READ_TRIES; i++) {
		__u64 before = __sync_fetch_and_add(&s->gen, 0);
		__u64 ended = u->slices, vmm = u->cpu[VMM], guest = u->cpu[GUEST], ran = 0, who = 0;

		// The task may end meanwhile; then gen has moved on, and what was
		// read of its memory is not used.
		if (s->slot == q->slot + 1) {
			__u64 now = PEEK(s->task, struct task_struct, se.sum_exec_runtime);

			who = s->kind;
			ran = now > s->start ? now - s->start : 0;
		} else if (!s->slot) {
			ran = peek_unseen(s, q->cgroup, q->level, &who);
		}
		if (!(before & 1) && before == __sync_fetch_and_add(&s->gen, 0)) {
			q->cpu[VMM] += vmm + (who == VMM ? ran : 0);
			q->cpu[GUEST] += guest + (who == GUEST ? ran : 0);
			q->slices += ended;
			q->running += ran > 0;
			return 0;
		}
	}
	q->torn++;
	return 0;
}

// Adds up an environment's counters over all CPUs, the slices that run now
// included as far as the scheduler has booked them.
SEC("syscall")
int read_usage(struct question *ctx)
{
	struct question q = {.cgroup = ctx->cgroup, .level = ctx->level, .slot = ctx->slot};

	bpf_loop(MAX_CPUS, read_cpu, &q, 0);
	ctx->cpu[VMM] = q.cpu[VMM];
	ctx->cpu[GUEST] = q.cpu[GUEST];
	ctx->slices = q.slices;
	ctx->running = q.running;
	ctx->torn = q.torn;
	return 0;
}

struct place {
	__u64 cgroup;
	__u64 level;
	__u64 found;
};

// Says at which level of the whole tree a control group is, whatever part of
// the tree the caller sees. A program of its own: kernels before 6.12 do not
// let this type of program ask.
SEC("syscall")
int find_level(struct place *ctx)
{
	struct cgroup *cg = bpf_cgroup_from_id(ctx->cgroup);

	if (!cg)
		return 0;
	ctx->level = cg->level;
	ctx->found = 1;
	bpf_cgroup_release(cg);
	return 0;
}

#define ETHERNET 14
#define IPV6 40
#define UDP 8
#define PROTO_TCP 6
#define PROTO_UDP 17

// The length of the headers that segmentation repeats in every packet, 0 when
// they cannot be read.
static __always_inline __u32 headers(struct __sk_buff *skb)
{
	__u8 first, next, offset;
	__u32 at;

	if (bpf_skb_load_bytes(skb, ETHERNET, &first, 1))
		return 0;
	if (first >> 4 == 4) {
		at = ETHERNET + (first & 15) * 4;
		if (bpf_skb_load_bytes(skb, ETHERNET + 9, &next, 1))
			return 0;
	} else {
		at = ETHERNET + IPV6;
		if (bpf_skb_load_bytes(skb, ETHERNET + 6, &next, 1))
			return 0;
	}
	if (next == PROTO_UDP)
		return at + UDP;
	if (next != PROTO_TCP || bpf_skb_load_bytes(skb, at + 12, &offset, 1))
		return 0;
	return at + (offset >> 4) * 4;
}

// Counts a packet as it is, and as what goes over a wire: one that leaves
// segmentation to the device becomes several, each with its headers.
static __always_inline int count(struct __sk_buff *skb, __u32 way)
{
	struct tally *t = bpf_map_lookup_elem(&traffic, &way);
	__u64 bytes = skb->len, wire = bytes, packets = 1;
	__u32 size = skb->gso_size;

	if (!t)
		return TCX_NEXT;
	if (size) {
		__u32 head = headers(skb);

		if (head && bytes > head) {
			packets = (bytes - head + size - 1) / size;
			wire += (packets - 1) * head;
		}
	}
	__sync_fetch_and_add(&t->bytes, bytes);
	__sync_fetch_and_add(&t->packets, 1);
	__sync_fetch_and_add(&t->wire_bytes, wire);
	__sync_fetch_and_add(&t->wire_packets, packets);
	return TCX_NEXT;
}

// Host to environment.
SEC("tcx/egress")
int count_received(struct __sk_buff *skb)
{
	return count(skb, 0);
}

// Environment to host.
SEC("tcx/ingress")
int count_sent(struct __sk_buff *skb)
{
	return count(skb, 1);
}
