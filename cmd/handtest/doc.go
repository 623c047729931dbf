// Package handtest carries out what docs/by-hand.md tells people to type: its
// shell blocks, one after the other, with separately started daemons and the
// xeno client, each machine of the text a network namespace of its own. It
// holds tests alone, and needs the superuser.
package handtest
