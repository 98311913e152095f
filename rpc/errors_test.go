package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
)

// overWire is what a client makes of a server's error.
func overWire(err error) error {
	return decodeError("a:1", status.FromProto(status.Convert(encodeError(err)).Proto()).Err())
}

func TestErrorsSurviveTheWire(t *testing.T) {
	for _, test := range []struct {
		err  error
		code codes.Code
	}{
		{node.ErrNotCounted, codes.FailedPrecondition},
		{node.ErrNotRemoved, codes.FailedPrecondition},
		{node.ErrUnavailable, codes.Unavailable},
		{node.ErrClosed, codes.Unavailable},
		{node.ErrSuperseded, codes.Aborted},
		{node.ErrRemoved, codes.FailedPrecondition},
		{node.ErrUnknownView, codes.NotFound},
		{node.ErrHasSession, codes.FailedPrecondition},
		{node.ErrLastMajority, codes.FailedPrecondition},
		{node.ErrLastTracker, codes.FailedPrecondition},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	} {
		for _, sent := range []error{test.err, fmt.Errorf("add node %q: %w", "n", test.err), errors.Join(errors.New("other"), test.err)} {
			got := overWire(sent)
			if status.Code(got) != test.code {
				t.Errorf("%v: got code %v, want %v", sent, status.Code(got), test.code)
			}
			if want := "tracker a:1: " + sent.Error(); got.Error() != want {
				t.Errorf("got text %q, want %q", got, want)
			}
			for _, n := range names() {
				if is, want := errors.Is(got, n.err), errors.Is(n.err, test.err); is != want {
					t.Errorf("%v: errors.Is(%v) is %v, want %v", sent, n.err, is, want)
				}
			}
			if twice := overWire(got); !errors.Is(twice, test.err) {
				t.Errorf("%v: after two hops it is %v", sent, twice)
			}
		}
	}
}

func TestErrorsWithFieldsSurviveTheWire(t *testing.T) {
	for _, test := range []struct {
		err  error
		code codes.Code
	}{
		{&node.InvalidError{Field: "node_id", Value: "v", Problem: "is too long; the most is 255 bytes"}, codes.InvalidArgument},
		{&node.InvalidError{}, codes.InvalidArgument},
		{&node.DeniedError{Field: "proxy_id", Value: "p-2", Problem: "is not yours; give your own"}, codes.PermissionDenied},
		{&node.DeniedError{}, codes.PermissionDenied},
		{&node.OverloadError{What: "sessions", After: 1500 * time.Millisecond}, codes.ResourceExhausted},
		{&node.OverloadError{}, codes.ResourceExhausted},
		{&node.NotHolderError{Shard: 7, List: []ring.MemberID{"a", "b,c"}}, codes.FailedPrecondition},
		{&node.NotHolderError{}, codes.FailedPrecondition},
	} {
		got := overWire(fmt.Errorf("some call: %w", test.err))
		if status.Code(got) != test.code {
			t.Errorf("%v: got code %v, want %v", test.err, status.Code(got), test.code)
		}
		if inner := errors.Unwrap(got); !reflect.DeepEqual(inner, test.err) {
			t.Errorf("got %#v, want %#v", inner, test.err)
		}
	}
}

func TestErrorsWithStrangeText(t *testing.T) {
	got := overWire(&node.InvalidError{Field: "node_id", Value: "a\xffb", Problem: "is not valid UTF-8"})
	if invalid, ok := errors.AsType[*node.InvalidError](got); !ok || invalid.Value != "a\uFFFDb" {
		t.Errorf("got %#v, want an InvalidError of a\\uFFFDb", got)
	}
}

func TestErrorsOfOthers(t *testing.T) {
	for _, err := range []error{nil, io.EOF} {
		if got := decodeError("a:1", err); !errors.Is(got, err) {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	if got := encodeError(errors.New("no such luck")); status.Code(got) != codes.Unknown {
		t.Errorf("an unnamed error has code %v, want Unknown", status.Code(got))
	}
	if got := overWire(status.Error(codes.PermissionDenied, "not you")); status.Code(got) != codes.PermissionDenied || errors.Unwrap(got) != nil {
		t.Errorf("got %v with code %v, want PermissionDenied and no name", got, status.Code(got))
	}
	if got := decodeError("a:1", status.Error(codes.Unavailable, "connection refused")); !errors.Is(got, node.ErrUnavailable) || errors.Is(got, node.ErrClosed) {
		t.Errorf("gRPC's own Unavailable is %v, want ErrUnavailable", got)
	}
}
