package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/trackerpool/trackerpool/node"
)

// A wire is either end of a gRPC stream.
type wire[PI, PO any] interface {
	Recv() (*PI, error)
	Send(*PO) error
}

// A stream is one end of a stream of messages of node or lease over a wire.
type stream[In, Out, PI, PO any] struct {
	wire[PI, PO]
	decode func(*PI) (In, error)
	encode func(Out) *PO
	failed func(error) error // makes an error of the wire one of node
}

var _ node.Stream[int, string] = (*stream[int, string, int8, int16])(nil)

func (s *stream[In, Out, PI, PO]) Recv() (In, error) {
	m, err := s.wire.Recv()
	if err != nil {
		var none In
		return none, s.failed(err)
	}
	return s.decode(m)
}

func (s *stream[In, Out, PI, PO]) Send(out Out) error {
	err := s.wire.Send(s.encode(out))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		return errStreamEnded
	}
	return s.failed(err)
}

// errStreamEnded is the error of a Send on a client's stream that has ended. gRPC
// tells the reason to whoever receives, and io.EOF to the sender.
var errStreamEnded = fmt.Errorf("%w: the stream has ended; its receiver is told why", node.ErrUnavailable)

// served makes what gRPC says to a server's stream an error of node: where the
// stream's context has ended, that says best why.
func served(ctx context.Context) func(error) error {
	return func(err error) error {
		if cause := ctx.Err(); cause != nil && !errors.Is(err, io.EOF) {
			return cause
		}
		return err
	}
}
