package trackercmd

import (
	"fmt"

	"github.com/trackerpool/trackerpool/internal/telemetry"
	"github.com/trackerpool/trackerpool/rpc"
)

// newTraces returns what sends traces, or nil where nothing is to be traced.
func (r *runner) newTraces() (*telemetry.Traces, error) {
	c := r.cfg
	if c.traceEndpoint == "" {
		return nil, nil
	}
	creds := rpc.Insecure()
	if !c.tracePlain {
		var err error
		// With the tracker's own certificate, for a collector that asks for one.
		if creds, err = rpc.ClientCredentials(rpc.TLSFiles{KeyPairs: c.httpsKeypairs, CAFile: c.traceCAFile}, r.log); err != nil {
			return nil, fmt.Errorf("trace_ca_file, https_keypairs: %w", err)
		}
	}
	t, err := telemetry.NewTraces(telemetry.TracesConfig{
		Endpoint: c.traceEndpoint, Creds: creds, Sample: c.traceSample,
		Pool: c.pool, Tracker: c.id, Zone: c.zone, Logger: r.log,
	})
	if err != nil {
		return nil, fmt.Errorf("trace_endpoint: %w", err)
	}
	r.log.Info("traces are sent", "endpoint", c.traceEndpoint, "sample", c.traceSample, "plain", c.tracePlain)
	return t, nil
}
