package rpc

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// coming is the release to come, or that is being worked on after it was tagged. Raise it
// with the first change of the wire after a tag: what a tagged release sent is never
// written anew.
const coming = "v0.1.0"

const goldenDir = "testdata/golden"

// Files of a release's directory. Lines of text are a name and bytes in hex.
const (
	goldenMessages    = "messages.txt"      // what the codecs of node and lease make of fixedMessages
	goldenCalls       = "calls.txt"         // requests (>) and responses (<) of converse, by method
	goldenErrors      = "errors.txt"        // google.rpc.Status of fixedErrors
	goldenDescriptors = "descriptors.binpb" // google.protobuf.FileDescriptorSet
)

// A release is what one sent.
type release struct {
	name        string
	messages    map[string][]byte
	calls       []exchange
	errors      map[string][]byte
	descriptors *protoregistry.Files
}

// An exchange is one message of a call.
type exchange struct {
	method string
	sent   bool // by the client
	wire   []byte
}

type line struct {
	name string
	wire []byte
}

func readLines(t testing.TB, file string) []line {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var lines []line
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, digits, _ := strings.Cut(s.Text(), ": ")
		wire, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, name, err)
		}
		lines = append(lines, line{name, wire})
	}
	return lines
}

func writeLines(t testing.TB, file string, lines []line) {
	t.Helper()
	var text bytes.Buffer
	for _, l := range lines {
		fmt.Fprintf(&text, "%s: %x\n", l.name, l.wire)
	}
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// releases returns all that testdata has; with -update the one to come is written first.
func releases(t testing.TB) []release {
	t.Helper()
	if *update {
		writeComing(t)
	}
	dirs, err := os.ReadDir(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	var all []release
	for _, d := range dirs {
		dir := filepath.Join(goldenDir, d.Name())
		r := release{name: d.Name(), messages: map[string][]byte{}, errors: map[string][]byte{}}
		for _, l := range readLines(t, filepath.Join(dir, goldenMessages)) {
			r.messages[l.name] = l.wire
		}
		for _, l := range readLines(t, filepath.Join(dir, goldenErrors)) {
			r.errors[l.name] = l.wire
		}
		for _, l := range readLines(t, filepath.Join(dir, goldenCalls)) {
			r.calls = append(r.calls, exchange{l.name[1:], l.name[0] == '>', l.wire})
		}
		wire, err := os.ReadFile(filepath.Join(dir, goldenDescriptors))
		if err != nil {
			t.Fatal(err)
		}
		set := &descriptorpb.FileDescriptorSet{}
		if err := proto.Unmarshal(wire, set); err != nil {
			t.Fatal(err)
		}
		r.descriptors = registered(t, set)
		all = append(all, r)
	}
	if len(all) == 0 || all[len(all)-1].name != coming && !slices.ContainsFunc(all, func(r release) bool { return r.name == coming }) {
		t.Fatalf("%s has nothing of %s: run the tests of this package with -update", goldenDir, coming)
	}
	return all
}

func writeComing(t testing.TB) {
	t.Helper()
	dir := filepath.Join(goldenDir, coming)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var messages, calls, faults []line
	all := allMessages()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		messages = append(messages, line{name, all[name].there(fixedMessages()[name])})
	}
	for _, e := range fixedErrors() {
		faults = append(faults, line{e.name, marshal(t, statusOf(t, e.err))})
	}
	tape := &tape{t: t}
	tape.converse(nil)
	for _, e := range tape.heard {
		mark := "<"
		if e.sent {
			mark = ">"
		}
		calls = append(calls, line{mark + e.method, e.wire})
	}
	writeLines(t, filepath.Join(dir, goldenMessages), messages)
	writeLines(t, filepath.Join(dir, goldenErrors), faults)
	writeLines(t, filepath.Join(dir, goldenCalls), calls)
	if err := os.WriteFile(filepath.Join(dir, goldenDescriptors), marshal(t, descriptors()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// statusOf is the status that travels for an error. Packed details of equal content are
// equal in it, whatever the order of their maps.
func statusOf(t testing.TB, err error) *spb.Status {
	t.Helper()
	s := status.Convert(encodeError(err)).Proto()
	for _, d := range s.Details {
		m, err := d.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		d.Value = marshal(t, m)
	}
	return s
}

// A fixedError is one that the API tells by a name, and keeps.
type fixedError struct {
	name string
	err  error
}

func fixedErrors() []fixedError {
	return []fixedError{
		{"INVALID", &node.InvalidError{Field: "node_id", Value: "x", Problem: "has 0 bytes; give 1 to 255"}},
		{"DENIED", &node.DeniedError{Field: "proxy_id", Value: "p", Problem: "is not yours"}},
		{"OVERLOAD", &node.OverloadError{What: "sessions", After: 1500 * time.Millisecond}},
		{"NOT_HOLDER", &node.NotHolderError{Shard: 70, List: []ring.MemberID{"t-1", "t-0"}}},
		{"SUPERSEDED", node.ErrSuperseded}, {"REMOVED", node.ErrRemoved}, {"HAS_SESSION", node.ErrHasSession},
		{"UNKNOWN_VIEW", node.ErrUnknownView}, {"LAST_MAJORITY", node.ErrLastMajority}, {"LAST_TRACKER", node.ErrLastTracker},
		{"NOT_COUNTED", node.ErrNotCounted}, {"NOT_REMOVED", node.ErrNotRemoved}, {"CLOSED", node.ErrClosed}, {"NO_HOLDER", node.ErrUnavailable},
	}
}

// parsed is what a release makes of a message, without what it does not know.
func (r *release) parsed(t testing.TB, name protoreflect.FullName, wire []byte) proto.Message {
	t.Helper()
	d, err := r.descriptors.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(wire, m); err != nil {
		t.Fatalf("%s cannot read %s: %v", r.name, name, err)
	}
	return m
}

// TestReleasesKeepTheirAPI compares the descriptors: nothing is gone, renumbered or of
// another type.
func TestReleasesKeepTheirAPI(t *testing.T) {
	now := registered(t, descriptors())
	for _, r := range releases(t) {
		for _, fault := range breaks(r.descriptors, now) {
			t.Errorf("%s: %s", r.name, fault)
		}
	}
}

// TestReleasesAreUnderstood: what a release sent means the same here, and what is sent
// here means the same there.
func TestReleasesAreUnderstood(t *testing.T) {
	all, fixed := allMessages(), fixedMessages()
	for _, r := range releases(t) {
		for name, wire := range r.messages {
			m, ok := all[name]
			if !ok {
				t.Errorf("%s: %s is no longer in allMessages", r.name, name)
				continue
			}
			got, err := m.back(wire)
			if err != nil {
				t.Errorf("%s: its %s is refused: %v", r.name, name, err)
				continue
			}
			if diff := cmp.Diff(fixed[name], got, equally()); diff != "" {
				t.Errorf("%s: its %s means something else here (-want +got):\n%s", r.name, name, diff)
			}
			theirs, ours := r.parsed(t, m.is.FullName(), wire), r.parsed(t, m.is.FullName(), m.there(fixed[name]))
			if !proto.Equal(theirs, ours) {
				t.Errorf("%s would be told something else by %s:\nit was %v\nit is  %v", r.name, name, theirs, ours)
			}
		}
		for _, e := range fixedErrors() {
			wire, ok := r.errors[e.name]
			if !ok {
				continue // a later one
			}
			s := &spb.Status{}
			if err := proto.Unmarshal(wire, s); err != nil {
				t.Fatal(err)
			}
			got := decodeError("t-0:1", status.FromProto(s).Err())
			if unwrapped := errors.Unwrap(got); !errors.Is(got, e.err) && cmp.Diff(e.err, unwrapped, equally()) != "" {
				t.Errorf("%s: its error %s is %v (%T) here", r.name, e.name, got, unwrapped)
			}
			now := statusOf(t, e.err)
			if now.Code != s.Code || !slices.EqualFunc(now.Details, s.Details, func(a, b *anypb.Any) bool { return proto.Equal(a, b) }) {
				t.Errorf("%s: the error %s was %v, and is %v", r.name, e.name, s, now)
			}
		}
	}
}

// TestReleasesConverse has today's client speak to what a release answers, and today's
// server hear what a release asks.
func TestReleasesConverse(t *testing.T) {
	for _, r := range releases(t) {
		client := &tape{t: t, r: &r, answers: true}
		client.converse(r.calls)
		server := &tape{t: t, r: &r}
		server.converse(r.calls)
	}
}

// TestGoldenIsCurrent: the directory of the release to come has what is sent today.
func TestGoldenIsCurrent(t *testing.T) {
	all, fixed := allMessages(), fixedMessages()
	for _, r := range releases(t) {
		if r.name != coming {
			continue
		}
		for name, m := range all {
			if !bytes.Equal(m.there(fixed[name]), r.messages[name]) {
				t.Errorf("%s is encoded otherwise than %s has it: a change of the wire. Say so in CHANGELOG.md, and run with -update; after the tag of %s raise coming first", name, goldenDir, coming)
			}
		}
		for _, n := range names() {
			if n.reason != "" && r.errors[n.reason] == nil {
				t.Errorf("the error %s is not in fixedErrors", n.reason)
			}
		}
		if faults := breaks(registered(t, descriptors()), r.descriptors); len(faults) > 0 {
			t.Errorf("the API has more than %s knows, run with -update: %v", goldenDir, faults)
		}
	}
}

// TestGoldenIsWhole: of each message and each field of the API there is one that is set.
func TestGoldenIsWhole(t *testing.T) {
	for _, r := range releases(t) {
		if r.name != coming {
			continue
		}
		set := map[protoreflect.FullName]bool{}
		mark := func(m protoreflect.Message) {
			inside(m, func(m protoreflect.Message) {
				set[m.Descriptor().FullName()] = true
				m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
					set[f.FullName()] = true
					return true
				})
			})
		}
		for name, wire := range r.messages {
			mark(r.parsed(t, allMessages()[name].is.FullName(), wire).ProtoReflect())
		}
		for _, e := range r.calls {
			mark(r.parsed(t, messageOf(t, e.method, e.sent).FullName(), e.wire).ProtoReflect())
		}
		for _, e := range fixedErrors() {
			for _, d := range status.Convert(encodeError(e.err)).Details() {
				mark(d.(proto.Message).ProtoReflect())
			}
		}
		r.descriptors.RangeFilesByPackage("trackerpool.v1", func(f protoreflect.FileDescriptor) bool {
			for i := range f.Messages().Len() {
				m := f.Messages().Get(i)
				if !set[m.FullName()] {
					t.Errorf("no golden message is or has a %s", m.Name())
				}
				for j := range m.Fields().Len() {
					if f := m.Fields().Get(j); !set[f.FullName()] {
						t.Errorf("no golden message sets %s.%s", m.Name(), f.Name())
					}
				}
			}
			return true
		})
	}
}

// inside calls do with a message and all in it.
func inside(m protoreflect.Message, do func(protoreflect.Message)) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil || f.IsMap():
		case f.IsList():
			for i := range v.List().Len() {
				inside(v.List().Get(i).Message(), do)
			}
		default:
			inside(v.Message(), do)
		}
		return true
	})
	do(m)
}

// later adds to a message and to all in it what a later release may: fields that are not
// known here, of each type.
func later(m protoreflect.Message) {
	var wire []byte
	wire = protowire.AppendVarint(protowire.AppendTag(wire, 1001, protowire.VarintType), 7)
	wire = protowire.AppendFixed32(protowire.AppendTag(wire, 1002, protowire.Fixed32Type), 7)
	wire = protowire.AppendFixed64(protowire.AppendTag(wire, 1003, protowire.Fixed64Type), 7)
	wire = protowire.AppendBytes(protowire.AppendTag(wire, 1004, protowire.BytesType), []byte("later"))
	inside(m, func(m protoreflect.Message) { m.SetUnknown(wire) })
}

// TestLaterFields: what a later release adds to a message does not change what the rest
// of it means.
func TestLaterFields(t *testing.T) {
	fixed := fixedMessages()
	for name, m := range allMessages() {
		d := dynamicpb.NewMessage(m.is)
		if err := proto.Unmarshal(m.there(fixed[name]), d); err != nil {
			t.Fatal(err)
		}
		later(d)
		wire := marshal(t, d)
		if !bytes.Contains(wire, []byte("later")) {
			t.Fatalf("%s: nothing was added", name)
		}
		got, err := m.back(wire)
		if err != nil {
			t.Errorf("%s with later fields is refused: %v", name, err)
			continue
		}
		if diff := cmp.Diff(fixed[name], got, equally()); diff != "" {
			t.Errorf("%s with later fields means something else (-want +got):\n%s", name, diff)
		}
	}
}

// TestLaterValues pins what a value of an enumeration that a later release adds does, as
// docs/protocol.md has it: a state of a member and a kind of Holdup are refused, by name;
// all others pass, as values that have no meaning here.
func TestLaterValues(t *testing.T) {
	all, fixed := allMessages(), fixedMessages()
	for name, refused := range map[string]string{"ViewInfo": "upgrade this process", "Report": "upgrade this process", "Explanation": "upgrade this process", "State": "", "End": ""} {
		m := all[name]
		d := dynamicpb.NewMessage(m.is)
		if err := proto.Unmarshal(m.there(fixed[name]), d); err != nil {
			t.Fatal(err)
		}
		if n := raise(d); n == 0 {
			t.Fatalf("%s has no enumeration", name)
		}
		got, err := m.back(marshal(t, d))
		switch {
		case refused == "" && err != nil:
			t.Errorf("%s: a later value is refused: %v", name, err)
		case refused == "" && cmp.Equal(fixed[name], got, equally()):
			t.Errorf("%s: a later value is taken for one that is known", name)
		case refused != "" && (err == nil || !strings.Contains(err.Error(), refused)):
			t.Errorf("%s: a later value: %v, want %q", name, err, refused)
		}
	}
}

// raise gives each enumeration in a message a value that no release has yet.
func raise(m protoreflect.Message) (raised int) {
	inside(m, func(m protoreflect.Message) {
		m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			if f.Enum() != nil && !f.IsList() {
				m.Set(f, protoreflect.ValueOfEnum(97))
				raised++
			}
			return true
		})
	})
	return raised
}
