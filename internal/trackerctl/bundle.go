package trackerctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trackerpool/trackerpool/rpc"
)

// maxTextBytes is how much of one tracker's texts goes into a bundle.
const maxTextBytes = 64 << 20

// A bundle says what was put together for a bug report.
type bundle struct {
	File     string        `json:"file"`
	Bytes    int64         `json:"bytes"`
	Trackers int           `json:"trackers"`
	Errors   []memberFault `json:"errors"`
}

func (b *bundle) tables() []grid {
	g := grid{}
	g.add(plain(fmt.Sprintf("%s: %d bytes, of %d trackers. It has IDs and addresses of trackers and proxies, and no keys", b.File, b.Bytes, b.Trackers)))
	return withNotes(faultNotes(b.Errors), g)
}

// A named is a text of a tracker.
type named struct {
	name string
	text []byte
}

// texts asks a tracker for what a bug report needs.
func texts(ctx context.Context, c *rpc.Client) ([]named, error) {
	var all []named
	size := 0
	err := c.Debug(ctx, func(name string, piece []byte) error {
		if !fileName(name) {
			return fmt.Errorf("a text is called %q: names are letters, digits, '-', '_' and '.'", name)
		}
		if size += len(piece); size > maxTextBytes {
			return fmt.Errorf("it has more than %d bytes to tell: the rest is left out", maxTextBytes)
		}
		if n := len(all); n == 0 || all[n-1].name != name {
			all = append(all, named{name: name})
		}
		all[len(all)-1].text = append(all[len(all)-1].text, piece...)
		return nil
	})
	return all, err
}

// fileName reports whether a name may be one in an archive.
func fileName(s string) bool {
	return len(s) > 0 && len(s) < 128 && s[0] != '.' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
}

// writeBundle writes an archive of all that can be asked.
func (f *fleet) writeBundle(ctx context.Context, w io.Writer, now time.Time) ([]memberFault, error) {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	put := func(name string, text []byte) error {
		if err := t.WriteHeader(&tar.Header{Name: "trackerpool/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: now}); err != nil {
			return err
		}
		_, err := t.Write(text)
		return err
	}
	documents := []struct {
		name string
		make func() (document, error)
	}{
		{"members.json", func() (document, error) { return f.members(ctx) }},
		{"ring.json", func() (document, error) { s, err := f.ringState(ctx); return s, err }},
		{"proxies.json", func() (document, error) { return f.proxies(ctx) }},
	}
	var faults []memberFault
	for _, d := range documents {
		v, err := d.make()
		if err != nil {
			faults = append(faults, memberFault{Error: fmt.Sprintf("%s: %v", d.name, err)})
			continue
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		if err := errors.Join(e.Encode(v), put(d.name, b.Bytes())); err != nil {
			return nil, err
		}
	}
	answers, _ := askAll(ctx, f, texts) // what each says goes into the archive
	for i, a := range answers {
		dir := string(a.from.ID)
		if !fileName(dir) {
			dir = fmt.Sprintf("tracker-%d", i)
		}
		for _, n := range a.value {
			if err := put(dir+"/"+n.name, n.text); err != nil {
				return nil, err
			}
		}
		if a.err != nil {
			faults = append(faults, memberFault{a.from.ID, a.err.Error()})
			if err := put(dir+"/error.txt", []byte(a.err.Error()+"\n")); err != nil {
				return nil, err
			}
		}
	}
	return faults, errors.Join(t.Close(), z.Close())
}

func (a *app) debugCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{Use: "debug", Short: "Collect what a bug report needs"}
	write := &cobra.Command{
		Use:   "bundle",
		Short: "Write a tar.gz of every tracker's status, configuration, metrics and goroutines",
		Long: `Write a tar.gz of every tracker's status, configuration, metrics and goroutines.
Keys and certificates are files that the configuration only names: they are not in it.
IDs and addresses of trackers and proxies are; IDs of nodes are not.`,
		Args: cobra.NoArgs,
		RunE: a.onPool(func(ctx context.Context, f *fleet, _ []string) (document, error) {
			now := time.Now()
			if name == "" {
				name = fmt.Sprintf("trackerpool-%s.tar.gz", now.UTC().Format("20060102T150405Z"))
			}
			file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return nil, fmt.Errorf("bundle: %w: give another name with --file", err)
			}
			faults, err := f.writeBundle(ctx, file, now)
			info, statErr := file.Stat()
			if err := errors.Join(err, statErr, file.Close()); err != nil {
				return nil, fmt.Errorf("bundle %s: %w", name, errors.Join(err, os.Remove(name)))
			}
			return &bundle{File: name, Bytes: info.Size(), Trackers: f.info.View.Len(), Errors: append([]memberFault{}, faults...)}, nil
		}),
	}
	write.Flags().StringVarP(&name, "file", "f", "", "`FILE` to write, which must not exist. Default: named by the time, here")
	cmd.AddCommand(write)
	return cmd
}
