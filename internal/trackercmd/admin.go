package trackercmd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/telemetry"
	"github.com/trackerpool/trackerpool/internal/webpage"
	"github.com/trackerpool/trackerpool/membership"
	"github.com/trackerpool/trackerpool/node"
	"github.com/trackerpool/trackerpool/rpc"
)

// Paths of the admin server.
const (
	HealthPath  = "/healthz"
	ReadyPath   = "/readyz"
	MetricsPath = "/metrics"
)

// adminTimeout bounds the reading of a request, and what an idle connection costs.
const adminTimeout = 10 * time.Second

// serveHTTP serves HTTP, with TLS if secured is not nil, until the function that it
// returns is called.
func (r *runner) serveHTTP(l net.Listener, h http.Handler, secured *tls.Config) (stop func()) {
	if secured != nil {
		l = tls.NewListener(l, secured)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: adminTimeout,
		IdleTimeout:       adminTimeout,
		ErrorLog:          slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(cancel) // the page's streams end with it
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.must("serve HTTP", err)
		}
	})
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), adminStopTime)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			_ = s.Close() // a profile that is being taken; the listener is closed already
		}
		wg.Wait()
	}
}

// operatorsOnly answers whoever has no certificate of an operator with 403.
func (r *runner) operatorsOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, err := r.identities.Of(req.TLS.PeerCertificates[0]) // the handshake wants one, and has verified it
		if err == nil {
			err = who.CheckRole(access.Operate)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// forThisMachine answers requests for hosts of other names with 421: a page of a
// stranger that has its own name lead to loopback must not read what is here.
func forThisMachine(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		host := req.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if net.ParseIP(strings.Trim(host, "[]")) == nil && host != "localhost" {
			http.Error(w, "this address is for this machine: use localhost or its IP address", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, req)
	})
}

// adminHandler serves all that there is; secured says that callers have certificates.
func (r *runner) adminHandler(secured bool) http.Handler {
	mux := r.probeHandler()
	mux.Handle("GET "+PagePath, webpage.Handler(PagePath, r.source()))
	mux.Handle("GET /{$}", http.RedirectHandler(PagePath, http.StatusFound))
	if r.cfg.pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	switch {
	case secured:
		return r.operatorsOnly(mux)
	case isLoopback(r.cfg.adminAddr):
		return forThisMachine(mux)
	}
	return mux
}

// probeHandler serves what changes nothing and names no node.
func (r *runner) probeHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+HealthPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+ReadyPath, func(w http.ResponseWriter, _ *http.Request) {
		if ready, why := r.ready(); !ready {
			http.Error(w, "not ready: "+why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET "+MetricsPath, r.metrics)
	return mux
}

// sources are what metrics are made of. Once the tracker is there, all else is.
func (r *runner) sources() telemetry.Sources {
	there := func() bool { return r.tracker.Load() != nil }
	return telemetry.Sources{
		Tracker: func() (*node.Tracker, bool) { t := r.tracker.Load(); return t, t != nil },
		Server: func() (*rpc.Server, bool) {
			if !there() {
				return nil, false
			}
			return r.server, true
		},
		Gossip: func() (*membership.Gossip, bool) { g := r.joined.Load(); return g, g != nil },
		Saves: func() (telemetry.Saves, bool) {
			if !there() {
				return telemetry.Saves{}, false
			}
			return r.saver.now()
		},
		Traces: func() (*telemetry.Traces, bool) {
			if !there() {
				return nil, false
			}
			return r.traces, r.traces != nil
		},
	}
}

// ready reports whether clients may come, or why not.
func (r *runner) ready() (bool, string) {
	t := r.tracker.Load()
	switch {
	case r.leaving.Load():
		return false, "leaving"
	case t == nil && r.cfg.learns():
		return false, "waiting for a tracker of the pool to tell the seats"
	case t == nil:
		return false, "joining the pool"
	}
	s := t.Status()
	if _, why := allowed(s); why != "" {
		return false, why
	}
	return s.Ready, s.Why
}
