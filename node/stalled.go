package node

import (
	"slices"
	"time"
)

// stalledLocked names the proxies that do not confirm here, for a seat.
func (t *Tracker) stalledLocked(now time.Time) []ProxyID {
	stalled, selfish := t.ledger.Stalled(now)
	if selfish {
		t.selfish = now.Add(selfishFor)
	}
	return stalled
}

// marksLocked returns the proxies that this seat marks as stalled since it last said
// so, and those that it marks no more.
func (t *Tracker) marksLocked() (stalled, recovered []ProxyID) {
	if t.heard == nil {
		return nil, nil
	}
	marked := t.heard.Stalled()
	for _, p := range marked {
		if !slices.Contains(t.marked, p) {
			stalled = append(stalled, p)
		}
	}
	for _, p := range t.marked {
		if !slices.Contains(marked, p) {
			recovered = append(recovered, p)
		}
	}
	t.marked = marked
	return stalled, recovered
}

// logMarks says of each proxy what its mark means to the operator.
func (t *Tracker) logMarks(stalled, recovered []ProxyID) {
	for _, p := range stalled {
		t.log.Warn("proxy stalled: some tracker has had no right renewal of it for a minute, so its claims do not count; look at the proxy and at its link to each tracker", "proxy", p)
	}
	for _, p := range recovered {
		t.log.Info("proxy stalled no more", "proxy", p)
	}
}
