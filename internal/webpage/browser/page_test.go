package browser_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var screenshot = flag.String("screenshot", "", "PNG file to write a picture of the page to")

// open opens the page of a tracker in a browser of its own. Whatever the page's
// console says is a failure.
func open(t *testing.T, admin string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)
	for _, name := range []string{"chromium-headless-shell", "headless_shell", "chromium"} {
		if path, err := exec.LookPath(name); err == nil {
			options = append(options, chromedp.ExecPath(path))
			break
		}
	}
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	messages := chromedp.Console(ctx)
	var listening sync.WaitGroup
	listening.Go(func() {
		for m, err := range messages {
			if err != nil {
				return // the browser was closed
			}
			t.Errorf("the page's console: %v", m)
		}
	})
	t.Cleanup(func() { cancel(); listening.Wait() })
	do(t, ctx, chromedp.EmulateViewport(1440, 1000), chromedp.Navigate("http://"+admin+"/page/"))
	return ctx
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func run[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	got, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// shows waits until an element shows all words and none of the others.
func shows(t *testing.T, ctx context.Context, selector string, words []string, others ...string) {
	t.Helper()
	in, stop := context.WithTimeout(ctx, patience)
	defer stop()
	script := fmt.Sprintf(`(() => { const text = document.querySelector(%q).innerText; return %s.every(w => text.includes(w)) && !%s.some(w => text.includes(w)) })()`,
		selector, list(words), list(others))
	if _, err := chromedp.Run(in, chromedp.Poll[bool](script)); err != nil {
		t.Fatalf("%s does not show %q without %q (%v); it shows:\n%s", selector, words, others, err, run(t, ctx, chromedp.Text(chromedp.CSS(selector))))
	}
}

// list is a list of strings in JavaScript.
func list(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	return "[" + strings.Join(quoted, ",") + "]"
}

func TestPage(t *testing.T) {
	a := start(t, "a", "east", "")
	b := start(t, "b", "west", a.Gossip)
	start(t, "c", "east", a.Gossip)
	claim(t, a.Listen, "proxy-1", 500)
	claim(t, b.Listen, "proxy-2", 800)
	ctx := open(t, a.Admin)

	t.Run("content", func(t *testing.T) {
		shows(t, ctx, "h1", []string{"Pool demo"})
		shows(t, ctx, "#live", []string{"ready"}, "not ready")
		shows(t, ctx, "#members", []string{"a (this one)", "b", "c", "east", "west", "serving", a.Listen})
		shows(t, ctx, "#proxies", []string{"proxy-1", "192.0.2.1:3022", "yes"})
		shows(t, ctx, "#moving", []string{"Every shard held here is open"})
		shows(t, ctx, "#legend", []string{"a:", "b:", "c:"})
		do(t, ctx, chromedp.Click(chromedp.CSS("input[value=zone]")))
		shows(t, ctx, "#legend", []string{"east:", "west:"}, "a:")
		do(t, ctx, chromedp.Click(chromedp.CSS("input[value=state]")))
		shows(t, ctx, "#legend", []string{"open:", "held elsewhere:"})
		do(t, ctx, chromedp.Click(chromedp.CSS("input[value=owner]")))
	})

	t.Run("live", func(t *testing.T) {
		in, stop := context.WithTimeout(ctx, patience)
		defer stop()
		if _, err := chromedp.Run(in, chromedp.Poll[bool](`parseFloat(document.querySelector('#traffic dd').innerText) > 0`)); err != nil {
			t.Errorf("no lookups are shown: %v", err)
		}
	})

	t.Run("explain", func(t *testing.T) {
		do(t, ctx, chromedp.SendKeys(chromedp.CSS("#node"), "n-7\r"))
		shows(t, ctx, "#steps", []string{"xxhash64", "shard", "FOUND", "proxy-1"})
		run(t, ctx, chromedp.Evaluate[string](`document.getElementById("node").value = ""`))
		do(t, ctx, chromedp.SendKeys(chromedp.CSS("#node"), "never-seen\r"))
		shows(t, ctx, "#steps", []string{`"never-seen"`, "ABSENT"}, "proxy-1")
	})

	t.Run("picture", func(t *testing.T) {
		colours := run(t, ctx, chromedp.Evaluate[int](`(() => { const c = document.getElementById('ring'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
			const seen = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i+3] === 255) seen.add(d[i] << 16 | d[i+1] << 8 | d[i+2]); return seen.size })()`))
		if colours < 3 {
			t.Errorf("the ring has %d colours, want one for each of 3 owners", colours)
		}
	})

	t.Run("fits", func(t *testing.T) {
		for _, width := range []int64{360, 1440} {
			do(t, ctx, chromedp.EmulateViewport(width, 800))
			if over := run(t, ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - document.documentElement.clientWidth`)); over > 0 {
				t.Errorf("at %d px the page is %d px too wide", width, over)
			}
		}
	})

	t.Run("names and roles", func(t *testing.T) {
		tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, n := range tree.Nodes {
			if n.Role != nil && n.Name != nil {
				have = append(have, strings.Trim(string(n.Role.Value), `"`)+" "+strings.Trim(string(n.Name.Value), `"`))
			}
		}
		for _, want := range []string{"heading Pool demo", "heading Ring", "heading Members", "region Members", "radio owner", "textbox Node ID", "button Explain", "columnheader Shards held"} {
			if !slices.Contains(have, want) {
				t.Errorf("the accessibility tree lacks %q", want)
			}
		}
		if !slices.ContainsFunc(have, func(s string) bool { return strings.Contains(s, "shards of the pool around a circle. a: ") }) {
			t.Error("the picture of the ring has no words that say what it shows")
		}
	})

	t.Run("contrast", func(t *testing.T) {
		for _, scheme := range []string{"light", "dark"} {
			media(t, ctx, scheme)
			faint := run(t, ctx, chromedp.Evaluate[[]string](contrast))
			for _, f := range faint {
				t.Errorf("%s: %s", scheme, f)
			}
		}
	})

	if *screenshot != "" {
		media(t, ctx, "light")
		do(t, ctx, chromedp.EmulateViewport(1440, 1000))
		png := run(t, ctx, chromedp.FullScreenshot(100))
		if err := os.WriteFile(*screenshot, png, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("join", func(t *testing.T) {
		start(t, "d", "west", a.Gossip)
		shows(t, ctx, "#members", []string{"d"})
		shows(t, ctx, "#legend", []string{"d:"})
		shows(t, ctx, "#moving", []string{"Every shard held here is open"})
	})

	t.Run("kill", func(t *testing.T) {
		b.kill()
		shows(t, ctx, "#members", []string{"a (this one)"}, b.Listen)
		shows(t, ctx, "#legend", []string{"a:"}, "b:")
	})
}

// media has the page shown in a colour scheme.
func media(t *testing.T, ctx context.Context, scheme string) {
	t.Helper()
	params := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, params); err != nil {
		t.Fatal(err)
	}
}

// contrast lists the texts whose contrast with what is behind them is below 4.5 to 1,
// which WCAG 2.2 asks for (1.4.3).
const contrast = `(() => {
  const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3) };
  const light = (c) => { const [r, g, b] = c.map(v => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c } return [255, 255, 255] };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color) || [0, 0, 0]), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(e.tagName + ' "' + e.textContent.trim().slice(0, 40) + '": ' + ratio.toFixed(2));
  }
  return faint;
})()`
