package rpc

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/ring"
	pb "github.com/trackerpool/trackerpool/rpc/trackerpb"
)

const (
	// domain marks the ErrorInfo of this API's own errors.
	domain = "trackerpool"

	// Keys of ErrorInfo's metadata.
	metaValue = "value" // what an InvalidError is about
	metaWhat  = "what"  // there is no room for

	metaField   = "field" // of a DeniedError, as its value
	metaProblem = "problem"
)

// A name is an error that has no more to it than being it.
type name struct {
	err    error
	code   codes.Code
	reason string // of ErrorInfo; empty for those that the code alone tells
}

// names is the one table of named errors, in both directions. The first that an
// error is, or that a status's reason or else code tells, is taken.
func names() []name {
	return []name{
		{node.ErrSuperseded, codes.Aborted, "SUPERSEDED"},
		{node.ErrRemoved, codes.FailedPrecondition, "REMOVED"},
		{node.ErrHasSession, codes.FailedPrecondition, "HAS_SESSION"},
		{node.ErrUnknownView, codes.NotFound, "UNKNOWN_VIEW"},
		{node.ErrLastMajority, codes.FailedPrecondition, "LAST_MAJORITY"},
		{node.ErrLastTracker, codes.FailedPrecondition, "LAST_TRACKER"},
		{node.ErrNotCounted, codes.FailedPrecondition, "NOT_COUNTED"},
		{node.ErrNotRemoved, codes.FailedPrecondition, "NOT_REMOVED"},
		{node.ErrClosed, codes.Unavailable, "CLOSED"},
		{node.ErrUnavailable, codes.Unavailable, "NO_HOLDER"},
		{context.Canceled, codes.Canceled, ""},
		{context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{node.ErrUnavailable, codes.Unavailable, ""}, // gRPC's own: nobody answers there
	}
}

// Reasons of the errors that have fields, which travel as details.
const (
	reasonInvalid   = "INVALID"
	reasonDenied    = "DENIED"
	reasonOverload  = "OVERLOAD"
	reasonNotHolder = "NOT_HOLDER"
)

// encodeError returns the status of an error, as an error for gRPC.
func encodeError(err error) error {
	if err == nil {
		return nil
	}
	if invalid, ok := errors.AsType[*node.InvalidError](err); ok {
		return newStatus(codes.InvalidArgument, err, reasonInvalid, map[string]string{metaValue: text(invalid.Value)},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: text(invalid.Field), Description: text(invalid.Problem)},
			}})
	}
	if denied, ok := errors.AsType[*node.DeniedError](err); ok {
		return newStatus(codes.PermissionDenied, err, reasonDenied,
			map[string]string{metaField: text(denied.Field), metaValue: text(denied.Value), metaProblem: text(denied.Problem)})
	}
	if overload, ok := errors.AsType[*node.OverloadError](err); ok {
		return newStatus(codes.ResourceExhausted, err, reasonOverload, map[string]string{metaWhat: text(overload.What)},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(overload.After)})
	}
	if stranger, ok := errors.AsType[*node.NotHolderError](err); ok {
		return newStatus(codes.FailedPrecondition, err, reasonNotHolder, nil,
			&pb.NotHolder{Shard: uint32(stranger.Shard), List: convert(stranger.List, func(id ring.MemberID) string { return text(string(id)) })})
	}
	for _, n := range names() {
		if n.reason == "" && errors.Is(err, n.err) {
			return status.Error(n.code, text(err.Error()))
		}
		if errors.Is(err, n.err) {
			return newStatus(n.code, err, n.reason, nil)
		}
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	return status.Error(codes.Unknown, text(err.Error()))
}

func newStatus(code codes.Code, err error, reason string, meta map[string]string, details ...protoadapt.MessageV1) error {
	s := status.New(code, text(err.Error()))
	info := &errdetails.ErrorInfo{Reason: reason, Domain: domain, Metadata: meta}
	full, failed := s.WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if failed != nil {
		return s.Err() // without details rather than without an error
	}
	return full.Err()
}

// text makes s fit for a protobuf string.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// A remoteError is an error that came over the wire.
type remoteError struct {
	addr   string // of the tracker
	status *status.Status
	named  error // what it is on this side, or nil
}

func (e *remoteError) Error() string { return "tracker " + e.addr + ": " + e.status.Message() }
func (e *remoteError) Unwrap() error { return e.named }

// GRPCStatus returns what was received, so that status.Code works.
func (e *remoteError) GRPCStatus() *status.Status { return e.status }

// decodeError returns the error of a status that came from the tracker at addr.
// nil, io.EOF and errors without a status stay what they are.
func decodeError(addr string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	return &remoteError{addr: addr, status: s, named: namedBy(s)}
}

// namedBy returns the error that a status tells, or nil. What has fields is told
// by its details, so that a reason that is not known here does no harm.
func namedBy(s *status.Status) error {
	var info *errdetails.ErrorInfo
	details := s.Details()
	for _, detail := range details {
		if i, ok := detail.(*errdetails.ErrorInfo); ok && i.GetDomain() == domain {
			info = i
		}
	}
	for _, detail := range details {
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			if s.Code() == codes.InvalidArgument && len(detail.GetFieldViolations()) > 0 {
				v := detail.GetFieldViolations()[0]
				return &node.InvalidError{Field: v.GetField(), Value: info.GetMetadata()[metaValue], Problem: v.GetDescription()}
			}
		case *errdetails.RetryInfo:
			if s.Code() == codes.ResourceExhausted {
				return &node.OverloadError{What: info.GetMetadata()[metaWhat], After: max(0, detail.GetRetryDelay().AsDuration())}
			}
		case *pb.NotHolder:
			return &node.NotHolderError{
				Shard: ring.Shard(detail.GetShard()),
				List:  convert(detail.GetList(), func(id string) ring.MemberID { return ring.MemberID(id) }),
			}
		}
	}
	if info.GetReason() == reasonDenied {
		meta := info.GetMetadata()
		return &node.DeniedError{Field: meta[metaField], Value: meta[metaValue], Problem: meta[metaProblem]}
	}
	for _, n := range names() {
		if n.reason == info.GetReason() && n.reason != "" || n.reason == "" && n.code == s.Code() {
			return n.err
		}
	}
	return nil
}
