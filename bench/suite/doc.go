// Package suite does the same work at one peer after another, in rounds.
//
// In a round each peer has a turn, in which its server alone runs:
//
//	empty ─► adds in batches ─► empty ─► adds at a rate ─► empty ─► all nodes loaded ─► memory
//	      ─► lookups ─► lookups at a rate ─► one caller ─► many callers ─► kept alive ─► killed, and all added again
//
// Each next round begins with the next peer, so that none has always the same one
// before it. The processor time of the server is read before and after each work.
package suite
