// What runs in the pods of the tests beside promsidecar and its agents, in one static program.
//
//	standin pause                  waits: the process that holds a pod's namespaces, or the first of a PID namespace
//	standin app [flags]            an application with metrics; `standin app -help` lists the flags
//
// It uses the standard library only.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) < 2 {
		fail("want a mode: pause or app")
	}
	switch mode := os.Args[1]; mode {
	case "pause":
		pause()
	case "app":
		app(os.Args[2:])
	default:
		fail(fmt.Sprintf("unknown mode %q: want pause or app", mode))
	}
}

// pause buries the orphans that it inherits, until it is told to end.
func pause() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			process, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if process <= 0 || err != nil {
				break
			}
		}
	}
}

func fail(message string) {
	fmt.Fprintln(os.Stderr, "standin:", message)
	os.Exit(2)
}
