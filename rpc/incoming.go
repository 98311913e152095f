package rpc

import (
	"errors"
	"io"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/trackerpool/trackerpool/node"
)

// An incoming is a message that a server receives. gRPC ends a call with INTERNAL,
// by itself, as soon as a message cannot be decoded, above all for a string that
// is not UTF-8; but that is the client's fault, and INVALID_ARGUMENT should name
// the field. So with incomingCodec an incoming that cannot be decoded says so, and
// is no error. Without it gRPC does what it does.
type incoming struct {
	proto.Message
	err error // an *InvalidError
}

// incomingCodec is the codec of a server whose messages are all incoming.
type incomingCodec struct{ encoding.CodecV2 }

func (c incomingCodec) Unmarshal(data mem.BufferSlice, v any) error {
	err := c.CodecV2.Unmarshal(data, v)
	if m, ok := v.(*incoming); ok && err != nil {
		m.err = unreadable(m.ProtoReflect().Descriptor(), data.Materialize(), err)
		return nil
	}
	return err
}

// compressedNot is in the place of gzip, which packages that a program imports for
// other ends register for all servers: a message of 4 KiB would cost 4 MiB, and
// milliseconds.
type compressedNot struct{}

func (compressedNot) Type() string { return "gzip" }

func (compressedNot) Do(io.Reader) ([]byte, error) {
	return nil, errors.New("this server takes no compressed messages")
}

// unreadable says why wire is not a message m.
func unreadable(m protoreflect.MessageDescriptor, wire []byte, err error) *node.InvalidError {
	if field, value := notUTF8(m, wire); field != "" {
		return &node.InvalidError{Field: field, Value: shorten(value), Problem: "is not valid UTF-8; encode it"}
	}
	return &node.InvalidError{Field: string(m.Name()), Problem: "is not a message of trackerpool.proto (" + err.Error() + "); compare the releases"}
}

// notUTF8 returns the path and the value of the first string of m that is not
// UTF-8, or nothing.
func notUTF8(m protoreflect.MessageDescriptor, wire []byte) (field, value string) {
	for len(wire) > 0 {
		number, kind, tag := protowire.ConsumeTag(wire)
		if tag < 0 {
			return "", ""
		}
		size := protowire.ConsumeFieldValue(number, kind, wire[tag:])
		if size < 0 {
			return "", ""
		}
		f := m.Fields().ByNumber(number)
		if f != nil && kind == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(wire[tag : tag+size])
			switch f.Kind() {
			case protoreflect.StringKind:
				if !utf8.Valid(content) {
					return string(f.Name()), string(content)
				}
			case protoreflect.MessageKind:
				if inner, value := notUTF8(f.Message(), content); inner != "" {
					return string(f.Name()) + "." + inner, value
				}
			}
		}
		wire = wire[tag+size:]
	}
	return "", ""
}

// An incomingWire is a server's end of a stream whose messages are incoming.
type incomingWire[PI, PO any, P interface {
	*PI
	proto.Message
}] struct {
	grpc.BidiStreamingServer[PI, PO]
}

func (w incomingWire[PI, PO, P]) Recv() (*PI, error) {
	m := new(PI)
	in := incoming{Message: P(m)}
	if err := w.RecvMsg(&in); err != nil {
		return nil, err
	}
	if in.err != nil {
		return nil, in.err
	}
	return m, nil
}
