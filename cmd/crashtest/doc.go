// Package crashtest holds no code, only the tests that kill daemons: XenoCorp,
// a XenoServer and a client run as processes of their own on loopback, one of
// them is killed without warning at a step of the flow and started again, and
// in the end no money may be lost, no reservation may outlive its expiry, and
// no process, tap, control group or file of an environment may be left.
package crashtest
