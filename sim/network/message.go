package network

import "time"

// Request carries a message from one node to another and back: deliver runs
// at the receiver when it arrives, done at the sender: with false after the
// time-out, where the receiver does not answer or a message was lost. What a
// node asks itself takes no time and no message.
func (n *Network) Request(from, to NodeID, deliver func(), done func(ok bool)) {
	if from == to {
		n.After(0, func() { deliver(); done(true) })
		return
	}
	n.sent++
	m := n.message()
	m.from, m.to, m.begin, m.deliver, m.done = from, to, n.now, deliver, done
	if n.drops() || !n.Answers(to) || !n.Together(from, to) {
		n.After(n.cfg.Timeout, m.fail)
		return
	}
	delay := n.delay(from, to)
	if n.connections != nil {
		delay += n.connections.use(n, from, to)
	}
	n.After(delay, m.arrive)
}

// A message is one on its way, there or back. It is used again, with its
// functions, so that messages leave nothing to the collector.
type message struct {
	n                  *Network
	from, to           NodeID
	begin              time.Duration
	deliver            func()
	done               func(ok bool)
	arrive, back, fail func()
}

// message returns one that nobody uses.
func (n *Network) message() *message {
	if last := len(n.spare) - 1; last >= 0 {
		m := n.spare[last]
		n.spare = n.spare[:last]
		return m
	}
	m := &message{n: n}
	m.arrive, m.back, m.fail = m.arrived, func() { m.end(true) }, func() { m.end(false) }
	return m
}

// arrived is the message at its receiver, which answers.
func (m *message) arrived() {
	n := m.n
	if !n.Answers(m.to) || !n.Together(m.from, m.to) || n.drops() {
		n.After(max(0, n.cfg.Timeout-(n.now-m.begin)), m.fail)
		return
	}
	n.load[m.to]++
	m.deliver()
	n.After(n.delay(m.to, m.from), m.back)
}

// end is the answer at the sender, or the time-out.
func (m *message) end(ok bool) {
	done := m.done
	if !ok && m.n.tables != nil {
		m.n.tables.repair(m.from, m.to)
	}
	m.deliver, m.done = nil, nil
	m.n.spare = append(m.n.spare, m)
	done(ok)
}

func (n *Network) drops() bool {
	if n.cfg.Loss > 0 && n.rng.Float64() < n.cfg.Loss {
		n.lost++
		return true
	}
	return false
}
