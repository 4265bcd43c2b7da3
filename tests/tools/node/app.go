package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// What the kubelet shows as the message of a container that ended.
const lastWords = "/dev/termination-log"

// Prometheus' text format.
const textFormat = "text/plain; version=0.0.4"

// app serves /healthz, /metrics and /other until it is told to end or its time is over. Its last words are the number of
// the last scrape.
func app(arguments []string) {
	flags := flag.NewFlagSet("app", flag.ExitOnError)
	listen := flags.String("listen", ":8080", "address")
	series := flags.Int("series", 0, "series that every scrape finds again")
	churn := flags.Int("new-series", 0, "series that are other ones at every scrape")
	linger := flags.Duration("linger", 0, "how long it takes to end when it is told to")
	life := flags.Duration("life", 0, "when it ends by itself; 0 is never")
	_ = flags.Parse(arguments)

	var scrapes atomic.Int64
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", textFormat)
		number := scrapes.Add(1)
		out := bufio.NewWriter(w)
		defer out.Flush()
		fmt.Fprintf(out, "app_scrapes_total %d\n", number)
		expose(out, "app_constant", 0, *series)
		expose(out, "app_new", number, *churn)
	})
	http.HandleFunc("/other", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", textFormat)
		fmt.Fprintln(w, "app_other 1")
	})
	server := http.Server{Addr: *listen}
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			fail(err.Error())
		}
	}()

	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	var over <-chan time.Time
	if *life > 0 {
		over = time.After(*life)
	}
	select {
	case <-told:
		time.Sleep(*linger)
	case <-over:
	}
	// Every scrape that was counted is answered, and none is counted after it.
	_ = server.Shutdown(context.Background())
	_ = os.WriteFile(lastWords, fmt.Appendf(nil, "%d", scrapes.Load()), 0o644)
}

// expose writes series of about a hundred bytes, which differ from those of other generations.
func expose(out *bufio.Writer, name string, generation int64, count int) {
	for index := range count {
		fmt.Fprintf(out, "%s{id=\"%d-%d\",path=\"/a/path/of/an/application/that/is/long/%d\",code=\"200\"} %d\n",
			name, generation, index, index, index)
	}
}
