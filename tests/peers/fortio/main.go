// Fortio's HTTP load, without the scripting language that its own command brings along.
//
//	fortio-load -qps 500 -c 16 -t 5s http://127.0.0.1:8080/
//
// prints what fortio measured as JSON. The percentiles are exact: the buckets of fortio's own histogram are up to a fifth
// of a value wide.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	"fortio.org/fortio/fhttp"
	"fortio.org/fortio/periodic"
)

// What fortio measured of each request.
type latencies struct {
	lock   sync.Mutex
	micros []float64
	failed int
}

func (l *latencies) Start(ctx context.Context, _ periodic.ThreadID, _ int64, _ time.Time) context.Context {
	return ctx
}

func (l *latencies) Report(_ context.Context, _ periodic.ThreadID, _ int64, _ time.Time, latency float64, ok bool, _ string) {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.micros = append(l.micros, latency*1e6)
	if !ok {
		l.failed++
	}
}

func (l *latencies) Info() string { return "in memory" }

// The time that so many percent do not exceed.
func (l *latencies) percentile(percent int) float64 {
	if len(l.micros) == 0 {
		return 0
	}
	return l.micros[(len(l.micros)*percent+99)/100-1]
}

func main() {
	qps := flag.Float64("qps", 8, "requests per second")
	connections := flag.Int("c", 4, "connections")
	duration := flag.Duration("t", 5*time.Second, "how long")
	flag.Parse()
	// A whole answer has to fit, in kilobytes.
	fhttp.BufferSizeKb = 2048
	seen := &latencies{}
	options := fhttp.HTTPRunnerOptions{}
	options.QPS = *qps
	options.NumThreads = *connections
	options.RunnerOptions.Duration = *duration
	options.RunnerOptions.AccessLogger = seen
	options.Out = os.Stderr
	// As with -uniform and -nocatchup=false: evenly spaced over the connections, and behind schedule when behind.
	options.Uniform = true
	options.URL = flag.Arg(0)
	result, err := fhttp.RunHTTPTest(&options)
	if err == nil {
		sort.Float64s(seen.micros)
		err = json.NewEncoder(os.Stdout).Encode(map[string]any{
			"requests": len(seen.micros), "failed": seen.failed, "rate": result.ActualQPS,
			"p50_us": seen.percentile(50), "p90_us": seen.percentile(90), "p99_us": seen.percentile(99),
		})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
