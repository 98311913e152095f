package trackerctl

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/access"
	"github.com/trackerpool/trackerpool/internal/devcerts"
)

// A certificateList is what certs init made, and what was there.
type certificateList struct {
	Dir          string             `json:"dir"`
	CAFile       string             `json:"ca_file"`
	Certificates []certificateEntry `json:"certificates"`
}

type certificateEntry struct {
	Role     string `json:"role"`
	Name     string `json:"name"`
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	Made     bool   `json:"made"` // else it was there, and stays as it is
}

func (l *certificateList) tables() []grid {
	head := grid{}
	head.add(plain(fmt.Sprintf("authority: %s. For development alone: nobody renews or revokes these", l.CAFile)))
	g := grid{header: []string{"role", "name", "certificate", "key", ""}}
	notes := grid{}
	for _, e := range l.Certificates {
		was := toned(good, "made")
		if !e.Made {
			was = toned(faint, "was there")
		}
		g.add(plain(e.Role), plain(e.Name), plain(e.CertFile), plain(e.KeyFile), was)
		switch e.Role {
		case access.Tracker.String():
			notes.add(plain(fmt.Sprintf("tracker --id %s --https-keypairs %s,%s --ca-file %s --client-ca-file %s ...",
				e.Name, e.CertFile, e.KeyFile, l.CAFile, l.CAFile)))
		case access.Operator.String():
			notes.add(plain(fmt.Sprintf("trackerctl --ca-file %s --cert-file %s --key-file %s members", l.CAFile, e.CertFile, e.KeyFile)))
		}
	}
	return withNotes(notes, head, g)
}

// wanted is the certificates that certs init is to make.
type wanted struct {
	trackers, proxies, readers, operators []string
	hosts, rules                          []string
	valid                                 time.Duration
}

// certificates makes an authority in a directory, and what it lacks of certificates.
func certificates(dir string, w wanted) (*certificateList, error) {
	if w.valid <= 0 {
		return nil, fmt.Errorf("--valid %v: give more than 0", w.valid)
	}
	ids, err := access.ParseIdentities(w.rules...)
	if err != nil {
		return nil, fmt.Errorf("--identities: %w", err)
	}
	a, err := devcerts.Open(dir, ids, w.valid)
	if err != nil {
		return nil, fmt.Errorf("authority in %s: %w", dir, err)
	}
	l := &certificateList{Dir: dir, CAFile: a.CAFile(), Certificates: []certificateEntry{}}
	for _, of := range []struct {
		role  access.Role
		names []string
		hosts []string
	}{{access.Tracker, w.trackers, w.hosts}, {access.Proxy, w.proxies, nil}, {access.Reader, w.readers, nil}, {access.Operator, w.operators, nil}} {
		for _, name := range of.names {
			pair, err := a.Issue(of.role, name, of.hosts, w.valid)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, fmt.Errorf("certificate of %v %q: %w", of.role, name, err)
			}
			if err != nil {
				base := filepath.Join(dir, of.role.String()+"-"+name) // as Issue names them
				pair = devcerts.Pair{CertFile: base + ".crt", KeyFile: base + ".key"}
			}
			l.Certificates = append(l.Certificates, certificateEntry{of.role.String(), name, pair.CertFile, pair.KeyFile, err == nil})
		}
	}
	return l, nil
}

func (a *app) certsCommand() *cobra.Command {
	var w wanted
	cmd := &cobra.Command{Use: "certs", Short: "Make certificates for development"}
	initialise := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a development authority and certificates in a directory",
		Long: `Make a development authority and certificates in a directory. What is there is never
overwritten: run it again to add names. For a pool that matters use a real issuer.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := certificates(args[0], w)
			if err != nil {
				return err
			}
			return a.write(l)
		},
	}
	f := initialise.Flags()
	f.StringSliceVar(&w.trackers, "trackers", []string{"t-0", "t-1", "t-2"}, "`IDs` of trackers")
	f.StringSliceVar(&w.proxies, "proxies", []string{"p-1"}, "`IDs` of proxies")
	f.StringSliceVar(&w.readers, "readers", nil, "`NAMES` of readers, who only look nodes up")
	f.StringSliceVar(&w.operators, "operators", []string{"admin"}, "`NAMES` of operators")
	f.StringSliceVar(&w.hosts, "hosts", devcerts.Loopback(), "`NAMES` and addresses of the trackers, for clients that know nothing of identities")
	f.StringSliceVar(&w.rules, "identities", []string{access.DefaultRule},
		"`RULE` by which certificates get their names, as the trackers have it; may be repeated")
	f.DurationVar(&w.valid, "valid", devcerts.Validity, "how long the certificates hold")
	cmd.AddCommand(initialise)
	return cmd
}
