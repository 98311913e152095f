package rpc

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

// descriptors returns those of this build, with all that they need, first what others need.
func descriptors() *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		if !slices.ContainsFunc(set.File, func(have *descriptorpb.FileDescriptorProto) bool { return have.GetName() == f.Path() }) {
			set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
		}
	}
	add(pb.File_rpc_trackerpb_operator_proto) // it imports trackerpool.proto
	return set
}

// breaks says what of a release's API is not so any more: all that it has must be there
// under the same number, and travel in the same way.
func breaks(release, now *protoregistry.Files) []string {
	var faults []string
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	find := func(name protoreflect.FullName) protoreflect.Descriptor {
		d, err := now.FindDescriptorByName(name)
		if err != nil {
			fault("%s is gone", name)
			return nil
		}
		return d
	}
	enum := func(was protoreflect.EnumDescriptor) {
		is, ok := find(was.FullName()).(protoreflect.EnumDescriptor)
		if !ok {
			return
		}
		for i := range was.Values().Len() {
			v := was.Values().Get(i)
			if got := is.Values().ByNumber(v.Number()); got == nil || got.Name() != v.Name() {
				fault("%s: %d is no longer %s", was.FullName(), v.Number(), v.Name())
			}
		}
	}
	var message func(was protoreflect.MessageDescriptor)
	message = func(was protoreflect.MessageDescriptor) {
		is, ok := find(was.FullName()).(protoreflect.MessageDescriptor)
		if !ok {
			return
		}
		for i := range was.Fields().Len() {
			f := was.Fields().Get(i)
			if got := is.Fields().ByNumber(f.Number()); got == nil {
				fault("%s: field %d (%s) is gone", was.FullName(), f.Number(), f.Name())
			} else if travels(got) != travels(f) {
				fault("%s: field %d was %s, and is %s", was.FullName(), f.Number(), travels(f), travels(got))
			}
		}
		for i := range was.Messages().Len() {
			message(was.Messages().Get(i))
		}
		for i := range was.Enums().Len() {
			enum(was.Enums().Get(i))
		}
	}
	release.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Messages().Len() {
			message(f.Messages().Get(i))
		}
		for i := range f.Enums().Len() {
			enum(f.Enums().Get(i))
		}
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				was := methods.Get(j)
				if is, ok := find(was.FullName()).(protoreflect.MethodDescriptor); ok && calls(is) != calls(was) {
					fault("%s was %s, and is %s", was.FullName(), calls(was), calls(is))
				}
			}
		}
		return true
	})
	slices.Sort(faults)
	return faults
}

// travels is all of a field that is on the wire, and its name, which JSON has.
func travels(f protoreflect.FieldDescriptor) string {
	s := fmt.Sprintf("%s %s %s", f.Cardinality(), f.Kind(), f.Name())
	if f.Message() != nil {
		s += " of " + string(f.Message().FullName())
	}
	if f.Enum() != nil {
		s += " of " + string(f.Enum().FullName())
	}
	if f.IsPacked() {
		s += ", packed"
	}
	if o := f.ContainingOneof(); o != nil {
		s += ", one of " + string(o.Name())
	}
	return s
}

func calls(m protoreflect.MethodDescriptor) string {
	stream := func(yes bool, d protoreflect.MessageDescriptor) string {
		if yes {
			return "stream " + string(d.FullName())
		}
		return string(d.FullName())
	}
	return stream(m.IsStreamingClient(), m.Input()) + " -> " + stream(m.IsStreamingServer(), m.Output())
}

func registered(t testing.TB, set *descriptorpb.FileDescriptorSet) *protoregistry.Files {
	t.Helper()
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestBreaks changes the API in each way that other releases would not understand.
func TestBreaks(t *testing.T) {
	const name = "rpc/trackerpb/trackerpool.proto"
	release := registered(t, descriptors())
	if faults := breaks(release, release); len(faults) > 0 {
		t.Fatalf("nothing was changed, and yet: %v", faults)
	}
	for want, change := range map[string]func(f *descriptorpb.FileDescriptorProto, renew *descriptorpb.DescriptorProto){
		"Renew: field 5 (view) is gone": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) { m.Field = m.Field[:4] },
		"Renew: field 5 was optional fixed64 view": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) {
			m.Field[4].Type = descriptorpb.FieldDescriptorProto_TYPE_UINT64.Enum()
		},
		"Renew: field 2 (nonce) is gone": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) {
			m.Field[1].Number = proto.Int32(17)
		},
		"Renew: field 1 was optional uint64 seq, and is repeated": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) {
			m.Field[0].Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		},
		"Renew: field 3 was optional bool has_claims": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) {
			m.Field[2].Name = proto.String("claims")
		},
		"Renew: field 4 was optional message sum of": func(_ *descriptorpb.FileDescriptorProto, m *descriptorpb.DescriptorProto) {
			m.Field[3].TypeName = proto.String(".trackerpool.v1.ShardSums")
		},
		"Why: 5 is no longer WHY_STALLED": func(f *descriptorpb.FileDescriptorProto, _ *descriptorpb.DescriptorProto) {
			for _, e := range f.EnumType {
				if e.GetName() == "Why" {
					e.Value = e.Value[:5]
				}
			}
		},
		"Peering.Forget is gone": func(f *descriptorpb.FileDescriptorProto, _ *descriptorpb.DescriptorProto) {
			peering := f.Service[1]
			peering.Method = slices.DeleteFunc(peering.Method, func(m *descriptorpb.MethodDescriptorProto) bool { return m.GetName() == "Forget" })
		},
		"NodeTracker.WatchView was": func(f *descriptorpb.FileDescriptorProto, _ *descriptorpb.DescriptorProto) {
			for _, m := range f.Service[0].Method {
				if m.GetName() == "WatchView" {
					m.ServerStreaming = proto.Bool(false)
				}
			}
		},
		"NotHolder is gone": func(f *descriptorpb.FileDescriptorProto, _ *descriptorpb.DescriptorProto) {
			f.MessageType = slices.DeleteFunc(f.MessageType, func(m *descriptorpb.DescriptorProto) bool { return m.GetName() == "NotHolder" })
		},
	} {
		set := proto.CloneOf(descriptors())
		for _, f := range set.File {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.MessageType {
				if m.GetName() == "Renew" {
					change(f, m)
				}
			}
		}
		faults := breaks(release, registered(t, set))
		if !slices.ContainsFunc(faults, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("want %q, got %q", want, faults)
		}
	}
}
