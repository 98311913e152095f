package rpc

import "encoding/binary"

// The types and flags of HTTP/2 frames that are of interest (RFC 9113).
const (
	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagEndStream = 0x1 // of DATA and HEADERS
	flagAck       = 0x1 // of SETTINGS and PING
	flagPadded    = 0x8 // of DATA

	settingInitialWindow = 4

	frameHeaderBytes = 9
	initialWindow    = 1<<16 - 1
)

// A frameHeader begins a frame.
type frameHeader struct {
	length      uint32
	kind, flags byte
	stream      uint32
}

// frames finds the frames in one direction of a connection, however its bytes are cut.
// It is not safe for concurrent use.
type frames struct {
	skip int // bytes before the first frame

	header [frameHeaderBytes]byte
	have   int    // bytes of header
	left   uint32 // bytes of the payload
	frame  frameHeader
}

// read goes on with b. begun is called with each header, and payload with each part of
// a payload, in order; payload(nil) ends a frame.
func (f *frames) read(b []byte, begun func(frameHeader), payload func(frameHeader, []byte)) {
	if f.skip > 0 {
		n := min(f.skip, len(b))
		f.skip -= n
		b = b[n:]
	}
	for len(b) > 0 {
		if f.have < frameHeaderBytes {
			n := copy(f.header[f.have:], b)
			f.have += n
			b = b[n:]
			if f.have < frameHeaderBytes {
				return
			}
			f.left = uint32(f.header[0])<<16 | uint32(f.header[1])<<8 | uint32(f.header[2])
			f.frame = frameHeader{length: f.left, kind: f.header[3], flags: f.header[4], stream: binary.BigEndian.Uint32(f.header[5:]) & (1<<31 - 1)}
			begun(f.frame)
		}
		if n := min(f.left, uint32(len(b))); n > 0 {
			payload(f.frame, b[:n])
			f.left -= n
			b = b[n:]
		}
		if f.left == 0 {
			payload(f.frame, nil)
			f.have = 0
		}
	}
}
