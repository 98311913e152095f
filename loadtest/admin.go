package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// askTime is after how long a request to an admin address is given up.
const askTime = 2 * time.Second

// ready reports whether a tracker says that it is ready.
func ready(ctx context.Context, admin string) bool {
	body, err := get(ctx, admin, "/readyz")
	if err != nil {
		return false
	}
	return body.Close() == nil
}

// metrics returns the values of the named metrics of a tracker that have no labels.
func metrics(ctx context.Context, admin string, names ...string) (map[string]float64, error) {
	body, err := get(ctx, admin, "/metrics")
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return parseMetrics(body, names...)
}

// get returns the body of an answer with status 200.
func get(ctx context.Context, admin, path string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // the trackers have better to do than to compress for loopback
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	body := cancelledBody{resp.Body, cancel}
	if resp.StatusCode != http.StatusOK {
		body.Close()
		return nil, fmt.Errorf("get %s of %s: %s", path, admin, resp.Status)
	}
	return body, nil
}

type cancelledBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelledBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// parseMetrics reads the text format of Prometheus.
func parseMetrics(r io.Reader, names ...string) (map[string]float64, error) {
	found := make(map[string]float64, len(names))
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		for _, name := range names {
			rest, ok := strings.CutPrefix(lines.Text(), name+" ")
			if !ok {
				continue
			}
			value, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				return nil, fmt.Errorf("metric %s: %w", name, err)
			}
			found[name] = value
		}
	}
	return found, lines.Err()
}
