package peer

import (
	"context"
)

// A memcached is told to set by meta commands that answer only what fails, with a
// no-op at the end whose answer says that all before it is done.
type memcached struct{ textServer }

// NewMemcached returns a peer with room for all nodes, and else as it comes.
func NewMemcached(dir string, ids []string) Peer {
	end := func(out, want []byte) ([]byte, []byte) {
		return append(out, "mn\r\n"...), append(want, "MN\r\n"...)
	}
	return &memcached{textServer{server{ids: ids, dir: dir}, dialect{
		add: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = append(append(out, "ms "...), ids[i]...)
				out = append(append(out, " 8 T"+longTTL+" q\r\n"...), proxyName(i)...)
				out = append(out, "\r\n"...)
			}
			return end(out, want)
		},
		lookup: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = append(append(append(out, "mg "...), ids[i]...), " v\r\n"...)
				want = append(append(append(want, "VA 8\r\n"...), proxyName(i)...), "\r\n"...)
			}
			return out, want
		},
		together: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			out = append(out, "get"...)
			for _, i := range nodes {
				out = append(append(out, ' '), ids[i]...)
				want = append(append(append(want, "VALUE "...), ids[i]...), " 0 8\r\n"...)
				want = append(append(want, proxyName(i)...), "\r\n"...)
			}
			return append(out, "\r\n"...), append(want, "END\r\n"...)
		},
		keep: func(out, want []byte, nodes []uint32) ([]byte, []byte) {
			for _, i := range nodes {
				out = append(append(append(out, "touch "...), ids[i]...), " "+shortTTL+" noreply\r\n"...)
			}
			return end(out, want)
		},
	}}}
}

func (m *memcached) Name() string { return "memcached" }

func (m *memcached) Modes() Modes {
	return Modes{"ms T q, pipelined", "mg v, pipelined", "get of all keys", "touch noreply of each key, pipelined"}
}

func (m *memcached) Version(ctx context.Context) string {
	return firstLine(ctx, "memcached", "-V") + "; -m 1024, 4 threads"
}

func (m *memcached) Start(ctx context.Context) error {
	return m.run(ctx, "memcached", func(port string) []string {
		return []string{"-l", "127.0.0.1", "-p", port, "-U", "0", "-m", "1024", "-u", "root"}
	})
}

func (m *memcached) Count(ctx context.Context) (int, error) {
	n, err := m.stat(ctx, "STAT curr_items")
	return int(n), err
}

// Live returns what the items take, less what their classes of sizes waste.
func (m *memcached) Live(ctx context.Context) (int64, error) { return m.stat(ctx, "STAT bytes") }

func (m *memcached) stat(ctx context.Context, name string) (int64, error) {
	said, err := m.ask(ctx, "stats", "END\r\n")
	if err != nil {
		return 0, err
	}
	return figure(said, name)
}
