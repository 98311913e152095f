package trackercmd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/trackerpool/trackerpool/ring"
	"github.com/trackerpool/trackerpool/rpc"
)

// blockKey is the mapping in the file that has the options marked inBlock.
const blockKey = "node_tracker_service"

// shape says how an option's values are written in the file. On the command line
// and in the environment they are text.
type shape uint8

const (
	scalar shape = iota
	list         // a sequence; a flag that may be repeated, or commas
	sets         // a sequence of sequences; a flag that may be repeated, or semicolons
	pairs        // a sequence of mappings with key_file and cert_file
)

// An option is one thing that can be configured. Its key in the file is its name
// with underscores, its variable TRACKERPOOL_ and that in capitals. (No option may
// be called port or service-anything: Kubernetes sets such variables for a Service
// called trackerpool.)
type option struct {
	name    string // of the flag
	kind    string // shown with the flag; "" is a switch
	doc     string
	shape   shape
	inBlock bool // also a key of blockKey, where it is printed
	noFlag  bool // a key of blockKey alone

	set func(c *config, values []string) error // the error says what is wrong and what to give
	get func(c *config) *yaml.Node
}

func (o option) key() string      { return strings.ReplaceAll(o.name, "-", "_") }
func (o option) variable() string { return "TRACKERPOOL_" + strings.ToUpper(o.key()) }

// options returns all options, in the order in which they are printed.
func options() []option {
	inBlock := func(o option) option { o.inBlock = true; return o }
	enabled := inBlock(toggle("enabled", "false: say so and exit", func(c *config) *bool { return &c.enabled }))
	enabled.noFlag = true
	opts := []option{
		text("id", "ID", "this tracker's ID, 1 to 63 letters, digits, '-', '_' and '.'; it must survive restarts. Default: the machine's name up to the first dot",
			func(c *config) *string { return &c.id }),
		text("zone", "ZONE", "where this tracker runs; the copies of a claim are kept in different zones where there are any",
			func(c *config) *string { return &c.zone }),
		text("pool", "NAME", "the pool's name, the same at all its trackers; required with --join or --seats, else "+lonePool,
			func(c *config) *string { return &c.pool }),
		text("advertise-addr", "HOST[:PORT]", "where others reach this tracker: gRPC at this port (default: that of --listen-addr), gossip at this host. Default: what is bound",
			func(c *config) *string { return &c.advertiseAddr }),
		text("gossip-addr", "IP:PORT", "where to gossip, TCP and UDP; port 0 picks one",
			func(c *config) *string { return &c.gossipAddr }),
		text("admin-addr", "HOST:PORT", "where to serve HTTP to operators: /healthz, /readyz, /metrics, and with --pprof profiles; port 0 picks one. Off loopback it takes TLS, and an operator's certificate",
			func(c *config) *string { return &c.adminAddr }),
		text("probe-addr", "HOST:PORT", "where to serve /healthz, /readyz and /metrics, and nothing else, to all in plain HTTP; port 0 picks one. Default: nowhere",
			func(c *config) *string { return &c.probeAddr }),
		texts("join", "HOST[:PORT]", "gossip address of a tracker to join, literal or a DNS name, of which all addresses count; may be repeated",
			func(c *config) *[]string { return &c.join }),
		seatSets(),
		toggle("new-pool", "there was no pool before: grant at once, instead of after two terms. For people and tests, never for a manifest",
			func(c *config) *bool { return &c.newPool }),
		replicaCounts(),
		number("shards", "N", "shards of the pool, fixed for its life, 1 to 65536",
			func(c *config) *int { return &c.shards }),
		duration("term", "how long any word given to another process holds, the same in the whole pool, 1s to 10m",
			func(c *config) *time.Duration { return &c.term }),
		duration("drain-deadline", "how long a tracker that leaves waits for proxies to fill the others",
			func(c *config) *time.Duration { return &c.drainDeadline }),
		text("data-dir", "DIR", "directory in which to save claims, so that after a restart proxies need not send again what is equal; it is made if need be. Default: they are not saved",
			func(c *config) *string { return &c.dataDir }),
		duration("save-interval", "how often to save claims in --data-dir, 1s or more; they are saved at the stop too",
			func(c *config) *time.Duration { return &c.saveInterval }),
		text("client-ca-file", "FILE", "certificate authorities (PEM) of clients: with it every client, trackers included, must present a certificate",
			func(c *config) *string { return &c.clientCAFile }),
		text("ca-file", "FILE", "certificate authorities (PEM) of the other trackers. Default: the system's",
			func(c *config) *string { return &c.caFile }),
		texts("identities", "RULE", "which names in certificates give which roles: [ROLE=]PATTERN, a URI or dns:NAME with {role} and {name} in it; may be repeated; "+
			identitiesOff+" to let whoever has a certificate do everything",
			func(c *config) *[]string { return &c.identities }),
		toggle("insecure", "serve in plain text, and gossip in the clear, at addresses that are not loopback too: whoever reaches them can hijack every connection",
			func(c *config) *bool { return &c.insecure }),
		text("gossip-key-file", "FILE", "keys that encrypt gossip, one a line, base64 of 16, 24 or 32 bytes; the first encrypts; read again when it changes. Default: gossip is in the clear",
			func(c *config) *string { return &c.gossipKeyFile }),
		toggle("pprof", "serve /debug/pprof at --admin-addr",
			func(c *config) *bool { return &c.pprof }),
		text("trace-endpoint", "HOST:PORT", "where to send traces, OTLP over gRPC with TLS. Default: nothing is traced",
			func(c *config) *string { return &c.traceEndpoint }),
		ratio("trace-sample", "which part of the calls is traced of those whose caller does not say, 0 to 1; fillings always are",
			func(c *config) *float64 { return &c.traceSample }),
		text("trace-ca-file", "FILE", "certificate authorities (PEM) of --trace-endpoint. Default: the system's",
			func(c *config) *string { return &c.traceCAFile }),
		toggle("trace-plain", "speak plain text to --trace-endpoint",
			func(c *config) *bool { return &c.tracePlain }),
		text("log-format", "FORMAT", "text or json",
			func(c *config) *string { return &c.logFormat }),
		logLevel(),
		enabled,
		inBlock(text("listen-addr", "HOST:PORT", "where to serve gRPC; port 0 picks one",
			func(c *config) *string { return &c.listenAddr })),
		inBlock(duration("proxy-keep-alive-interval", "how long a claim made by AddNode without a session lives after its last AddNode, 1s or more",
			func(c *config) *time.Duration { return &c.proxyKeepAliveInterval })),
		inBlock(keypairs()),
	}
	return append(opts, limitOptions()...)
}

func last(values []string) string { return values[len(values)-1] }

func text(name, kind, doc string, field func(*config) *string) option {
	return option{name: name, kind: kind, doc: doc,
		set: func(c *config, values []string) error { *field(c) = last(values); return nil },
		get: func(c *config) *yaml.Node { return textNode(*field(c)) },
	}
}

func texts(name, kind, doc string, field func(*config) *[]string) option {
	return option{name: name, kind: kind, doc: doc, shape: list,
		set: func(c *config, values []string) error { *field(c) = splitList(values); return nil },
		get: func(c *config) *yaml.Node { return sequence(*field(c), textNode) },
	}
}

func toggle(name, doc string, field func(*config) *bool) option {
	return option{name: name, doc: doc,
		set: func(c *config, values []string) error {
			v, err := strconv.ParseBool(last(values))
			if err != nil {
				return errors.New("give true or false")
			}
			*field(c) = v
			return nil
		},
		get: func(c *config) *yaml.Node { return plainNode("!!bool", strconv.FormatBool(*field(c))) },
	}
}

func number(name, kind, doc string, field func(*config) *int) option {
	return option{name: name, kind: kind, doc: doc,
		set: func(c *config, values []string) error {
			v, err := strconv.Atoi(last(values))
			if err != nil {
				return errors.New("give a whole number")
			}
			*field(c) = v
			return nil
		},
		get: func(c *config) *yaml.Node { return intNode(*field(c)) },
	}
}

func ratio(name, doc string, field func(*config) *float64) option {
	return option{name: name, kind: "RATIO", doc: doc,
		set: func(c *config, values []string) error {
			v, err := strconv.ParseFloat(last(values), 64)
			if err != nil {
				return errors.New("give a number, such as 0.01")
			}
			*field(c) = v
			return nil
		},
		get: func(c *config) *yaml.Node {
			return plainNode("!!float", strconv.FormatFloat(*field(c), 'g', -1, 64))
		},
	}
}

func duration(name, doc string, field func(*config) *time.Duration) option {
	return option{name: name, kind: "DURATION", doc: doc,
		set: func(c *config, values []string) error {
			v, err := time.ParseDuration(last(values))
			if err != nil {
				return errors.New("give a number and a unit, such as 500ms, 10s or 1m30s")
			}
			*field(c) = v
			return nil
		},
		get: func(c *config) *yaml.Node { return textNode(field(c).String()) },
	}
}

func replicaCounts() option {
	return option{name: "replicas", kind: "N", shape: list,
		doc: "copies of each claim, 1 to 15; several counts while it is changed: in use is the smallest that all trackers were given",
		set: func(c *config, values []string) error {
			var counts []int
			for _, s := range splitList(values) {
				n, err := strconv.Atoi(s)
				if err != nil {
					return errors.New("give whole numbers, 1 to 15")
				}
				counts = append(counts, n)
			}
			c.replicas = counts
			return nil
		},
		get: func(c *config) *yaml.Node { return sequence(c.replicas, intNode) },
	}
}

func seatSets() option {
	return option{name: "seats", kind: "ID,ID,ID", shape: sets,
		doc: "the 1, 3 or 5 trackers whose word decides, the same at all trackers; twice while they are changed, the new set last. Default: learnt from the pool that is joined, or this tracker alone",
		set: func(c *config, values []string) error {
			c.seats = nil
			for _, v := range values {
				var set []ring.MemberID
				for _, id := range splitList([]string{v}) {
					set = append(set, ring.MemberID(id))
				}
				if len(set) > 0 {
					c.seats = append(c.seats, set)
				}
			}
			return nil
		},
		get: func(c *config) *yaml.Node {
			return sequence(c.seats, func(set []ring.MemberID) *yaml.Node {
				n := sequence(set, func(id ring.MemberID) *yaml.Node { return textNode(string(id)) })
				n.Style = yaml.FlowStyle
				return n
			})
		},
	}
}

func keypairs() option {
	return option{name: "https-keypairs", kind: "CERT,KEY", shape: pairs,
		doc: "certificate and key (PEM files) to serve gRPC with TLS 1.3, and to show other trackers; may be repeated. Default: plain text",
		set: func(c *config, values []string) error {
			var l []rpc.KeyPair
			for _, v := range values {
				if v == "" {
					continue
				}
				cert, key, ok := strings.Cut(v, ",")
				if !ok {
					return errors.New("give the certificate's file, a comma, and the key's file")
				}
				l = append(l, rpc.KeyPair{CertFile: cert, KeyFile: key})
			}
			c.httpsKeypairs = l
			return nil
		},
		get: func(c *config) *yaml.Node {
			return sequence(c.httpsKeypairs, func(p rpc.KeyPair) *yaml.Node {
				return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{
					textNode(keyFileKey), textNode(p.KeyFile), textNode(certFileKey), textNode(p.CertFile)}}
			})
		},
	}
}

func logLevel() option {
	return option{name: "log-level", kind: "LEVEL", doc: "debug, info, warn or error",
		set: func(c *config, values []string) error {
			if err := c.logLevel.UnmarshalText([]byte(last(values))); err != nil {
				return errors.New("give debug, info, warn or error")
			}
			return nil
		},
		get: func(c *config) *yaml.Node { return textNode(strings.ToLower(c.logLevel.String())) },
	}
}

// splitList splits at commas, and drops what is empty.
func splitList(values []string) []string {
	var items []string
	for _, v := range values {
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func plainNode(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

func textNode(s string) *yaml.Node { return plainNode("!!str", s) }
func intNode(n int) *yaml.Node     { return plainNode("!!int", fmt.Sprint(n)) }

func sequence[T any](items []T, each func(T) *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	if len(items) == 0 {
		n.Style = yaml.FlowStyle
	}
	for _, item := range items {
		n.Content = append(n.Content, each(item))
	}
	return n
}
