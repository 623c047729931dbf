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

#define MAX_ENVIRONMENTS 4096 // as in limits.go
#define MAX_CPUS 4096	      // as in limits.go
#define MAX_DEPTHS 4	      // distinct cgroup levels that hold environments
#define READ_TRIES 16

// The first four bytes of the names of virtual CPU threads.
#define NAME_CLOUD_HYPERVISOR 0x75706376 // "vcpu"
#define NAME_QEMU 0x20555043		 // "CPU "

enum { VMM = 0, GUEST = 1 };

// What one environment used on one CPU.
struct used {
	__u64 cpu[2]; // nanoseconds: VMM, GUEST
	__u64 slices; // ended ones
};

// What runs on one CPU now, when it is an environment's. gen is odd while the
// CPU changes this or the environment's counters.
struct slice {
	__u64 gen;
	__u64 cgroup; // 0: a stranger runs
	__u64 task;   // address
	__u64 start;  // sum_exec_runtime when it was switched to
	__u64 kind;
};

struct tally {
	__u64 bytes;
	__u64 packets;
};

// A question of user space and its answer.
struct question {
	__u64 cgroup;
	__u64 cpu[2];
	__u64 slices;
	__u64 running;
	__u64 torn; // CPUs that switched too fast to be read
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_ENVIRONMENTS);
	__type(key, __u64);
	__type(value, struct used);
} environments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slice);
} slices SEC(".maps");

// One bit for each level of the cgroup tree at which an environment lives.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} levels SEC(".maps");

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

static const __u32 zero;

static __always_inline void end_slice(struct slice *s, struct task_struct *prev)
{
	__u64 cgroup = s->cgroup;
	struct used *u = bpf_map_lookup_elem(&environments, &cgroup);
	__u64 now = prev->se.sum_exec_runtime;

	__sync_fetch_and_add(&s->gen, 1);
	if (u && s->task == (__u64)prev && now > s->start) {
		u->cpu[s->kind & 1] += now - s->start;
		u->slices++;
	}
	s->cgroup = 0;
	__sync_fetch_and_add(&s->gen, 1);
}

static __always_inline void begin_slice(struct slice *s, struct task_struct *next, __u64 cgroup)
{
	__u32 name = *(__u32 *)next->comm;

	__sync_fetch_and_add(&s->gen, 1);
	s->task = (__u64)next;
	s->start = next->se.sum_exec_runtime;
	s->kind = name == NAME_CLOUD_HYPERVISOR || name == NAME_QEMU ? GUEST : VMM;
	s->cgroup = cgroup;
	__sync_fetch_and_add(&s->gen, 1);
}

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

SEC("tp_btf/sched_switch")
int BPF_PROG(count_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct slice *s = bpf_map_lookup_elem(&slices, &zero);
	__u64 *mask = bpf_map_lookup_elem(&levels, &zero);

	if (!s || !mask)
		return 0;
	if (s->cgroup)
		end_slice(s, prev);

	__u64 rest = *mask;
	if (!rest || !next->pid)
		return 0;
	struct cgroup *cg = next->cgroups->dfl_cgrp;
	int own = cg->level;

#pragma unroll
	for (int i = 0; i < MAX_DEPTHS; i++) {
		int level = 0;
		__u64 bit = rest & -rest;

		if (!rest || own > 63 || bit > 1ULL << (own & 63))
			return 0;
		rest ^= bit;
		__u64 id;
		if (bit == 1ULL << (own & 63)) {
			id = cg->kn->id;
		} else {
			// bit's index, by halves: BPF has no instruction for it
			if (bit >> 32)
				level += 32, bit >>= 32;
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
		}
		if (bpf_map_lookup_elem(&environments, &id)) {
			begin_slice(s, next, id);
			return 0;
		}
	}
	return 0;
}

static long read_cpu(__u32 cpu, struct question *q)
{
	__u64 cgroup = q->cgroup, guest = 0, vmm = 0, ended = 0, running = 0;
	struct slice *s = bpf_map_lookup_percpu_elem(&slices, &zero, cpu);
	struct used *u = bpf_map_lookup_percpu_elem(&environments, &cgroup, cpu);

	if (!s || !u)
		return 1;
	for (int i = 0; i < READ_TRIES; i++) {
		__u64 before = __sync_fetch_and_add(&s->gen, 0);
		__u64 now = 0, start = s->start, kind = s->kind, mine = s->cgroup == cgroup;

		vmm = u->cpu[VMM];
		guest = u->cpu[GUEST];
		ended = u->slices;
		running = 0;
		if (mine) {
			// The task may end meanwhile; then gen has moved on, and
			// what was read from its memory is not used.
			bpf_probe_read_kernel(&now, sizeof(now), (void *)s->task +
				bpf_core_field_offset(struct task_struct, se.sum_exec_runtime));
			if (now > start) {
				running = now - start;
				if (kind == GUEST)
					guest += running;
				else
					vmm += running;
			}
		}
		if (!(before & 1) && before == __sync_fetch_and_add(&s->gen, 0)) {
			q->cpu[VMM] += vmm;
			q->cpu[GUEST] += guest;
			q->slices += ended;
			q->running += mine;
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
	struct question q = {.cgroup = ctx->cgroup};

	bpf_loop(MAX_CPUS, read_cpu, &q, 0);
	ctx->cpu[VMM] = q.cpu[VMM];
	ctx->cpu[GUEST] = q.cpu[GUEST];
	ctx->slices = q.slices;
	ctx->running = q.running;
	ctx->torn = q.torn;
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

// Counts what goes over the wire: a packet that leaves segmentation to the
// device counts as the packets that it becomes, each with its headers.
static __always_inline int count(struct __sk_buff *skb, __u32 way)
{
	struct tally *t = bpf_map_lookup_elem(&traffic, &way);
	__u64 bytes = skb->len, packets = 1;
	__u32 size = skb->gso_size;

	if (!t)
		return TCX_NEXT;
	if (size) {
		__u32 head = headers(skb);

		if (head && bytes > head) {
			packets = (bytes - head + size - 1) / size;
			bytes += (packets - 1) * head;
		}
	}
	__sync_fetch_and_add(&t->bytes, bytes);
	__sync_fetch_and_add(&t->packets, packets);
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
