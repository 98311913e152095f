package suite

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// busy returns the load average over a minute, and watches the processors for a while:
// in which share of it they were idle.
func busy(watch time.Duration) (load, idle float64, err error) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, 0, err
	}
	first, _, _ := strings.Cut(string(text), " ")
	if load, err = strconv.ParseFloat(first, 64); err != nil {
		return 0, 0, err
	}
	idle1, all1, err := processors()
	if err != nil {
		return 0, 0, err
	}
	time.Sleep(watch) // not a wait for anything: it is what is measured
	idle2, all2, err := processors()
	if err != nil || all1 == all2 {
		return 0, 0, err
	}
	return load, float64(idle2-idle1) / float64(all2-all1), nil
}

// processors returns for how many ticks all processors were idle since the machine
// started, and how many there were.
func processors() (idle, all int64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	for i, f := range strings.Fields(line) {
		if i == 0 || i > 8 { // the name; and what is already in another field
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		all += n
		if i == 4 || i == 5 { // idle, and waiting for a disk
			idle += n
		}
	}
	return idle, all, nil
}

// machine describes this machine in a few lines.
func machine() []string {
	lines := []string{fmt.Sprintf("%d processors of %s", runtime.NumCPU(), procLine("/proc/cpuinfo", "model name"))}
	if mem := strings.Fields(procLine("/proc/meminfo", "MemTotal")); len(mem) > 0 {
		kib, _ := strconv.ParseInt(mem[0], 10, 64)
		lines = append(lines, fmt.Sprintf("%d GiB of memory", kib>>20))
	}
	if kernel, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		lines = append(lines, "Linux "+strings.TrimSpace(string(kernel)))
	}
	return append(lines, runtime.Version())
}

// procLine returns what follows a name and a colon in a file.
func procLine(name, field string) string {
	text, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if head, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(head) == field {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
